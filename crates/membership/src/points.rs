//! Points: what users earn by what they do, what they spend, and what expires.

use cambium_engine::{
    Calendar, Compiler, Context, DefinitionError, Duration, Input, Period, Processor, Renames, Replaced,
    Table, Tally,
};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::account::{Account, NEVER};
use crate::rule::{Days, Rules, Written};

/// `[[points]]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    pub earn: Vec<Written>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spend: Vec<Written>,
    /// What is earned on a day is there for so many days, that one included; left out: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiry: Option<Duration>,
}

/// How many points were earned, spent and gone on a day, and of how many users.
pub static POINTS: Table = Table {
    name: "point_rows",
    columns: &[
        ("definition", "UInt64"),
        ("origin", "UInt64"),
        ("app", "LowCardinality(String)"),
        ("version", "UInt64"),
        ("deleted", "UInt8"),
        ("day", "Date"),
        ("kind", "LowCardinality(String)"),
        ("rule", "LowCardinality(String)"),
        ("measure", "LowCardinality(String)"),
        ("begins", "DateTime('UTC')"),
        ("amount", "UInt64"),
    ],
};

/// What each user has, and when how much of it will be gone.
pub static POINT_USERS: Table = Table {
    name: "point_user_rows",
    columns: &[
        ("definition", "UInt64"),
        ("origin", "UInt64"),
        ("app", "LowCardinality(String)"),
        ("version", "UInt64"),
        ("deleted", "UInt8"),
        ("user", "UInt64"),
        ("earned", "UInt64"),
        ("spent", "UInt64"),
        ("balance", "Int64"),
        ("gone", "Array(DateTime('UTC'))"),
        ("going", "Array(UInt64)"),
    ],
};

const EARNED: u8 = 0;
const SPENT: u8 = 1;
const EXPIRED: u8 = 2;
const KINDS: [&str; 3] = ["earned", "spent", "expired"];

const AMOUNT: u8 = 0;
const USERS: u8 = 1;
const MEASURES: [&str; 2] = ["points", "users"];

/// What is known of a user; none: nothing.
#[derive(Default, Serialize, Deserialize)]
pub struct User(Option<Box<Known>>);

#[derive(Default, Serialize, Deserialize)]
struct Known {
    /// As of the end of the newest day that no event can come for any more.
    settled: Account,
    /// The days behind it.
    recent: Days,
}

/// A kind, a rule, and what of it.
type Cell = (u8, u8, u8);

/// By day, how much of a user's is counted there.
type Counted = SmallVec<[(i32, Cell, u64); 8]>;

#[derive(Default, Serialize, Deserialize)]
pub struct State {
    sums: Tally<Cell>,
}

pub struct Points {
    rules: Rules,
    days: Calendar,
}

impl Processor for Points {
    const KIND: &'static str = "points";
    const SEMANTICS: u32 = 1;
    type Definition = Definition;
    type User = User;
    type State = State;

    fn new(definition: Definition, compiler: &mut Compiler<'_>) -> Result<Self, DefinitionError> {
        Ok(Points {
            rules: Rules::new((&definition.earn, &definition.spend), definition.expiry, compiler)?,
            days: compiler.calendar(Period::Day)?,
        })
    }

    fn apply(&self, state: &mut State, user: &mut User, input: &Input<'_>, context: &mut Context<'_>) {
        let points = self.rules.points(input);
        if points.is_empty() {
            return;
        }
        let known = user.0.get_or_insert_default();
        let (before, _) = self.counted(known);
        let day = self.days.number(input.time);
        self.rules.add(&mut known.recent, day, &points);
        let (after, account) = self.counted(known);
        state.sums.move_amounts(&before, &after);
        self.put_user(input.user, &account, false, context);
        self.settle(known, context.cutoff());
    }

    fn replace(
        &self,
        state: &mut State,
        before: User,
        user: &mut User,
        replaced: &Replaced<'_>,
        context: &mut Context<'_>,
    ) {
        let counted = |user: &User| {
            user.0
                .as_ref()
                .map(|known| self.counted(known))
                .unwrap_or_default()
        };
        let ((from, _), (to, account)) = (counted(&before), counted(user));
        state.sums.move_amounts(&from, &to);
        if before.0.is_some() {
            self.put_user(replaced.user, &account, user.0.is_none(), context);
        }
    }

    fn flush(&self, state: &mut State, context: &mut Context<'_>) {
        state.sums.flush(context, |day, cell, amount, context| {
            self.put(day, *cell, amount, context)
        });
    }

    fn advance(&self, state: &mut State, context: &mut Context<'_>) {
        let end = |day| self.days.end(day);
        state.sums.forget(context, end, |day, cell, amount, context| {
            self.put(day, *cell, amount, context)
        });
    }

    fn rest(&self, _: u64, user: &mut User, context: &mut Context<'_>) {
        if let Some(known) = &mut user.0 {
            self.settle(known, context.cutoff());
        }
    }

    fn settled_after_ms(&self) -> i64 {
        cambium_engine::LONGEST_DAY_MS
    }

    fn rename(&self, _: &mut State, _: &Renames) {}

    fn rename_user(&self, _: &mut User, _: &Renames) {}

    /// What is not spent may be spent at any time.
    fn remember(&self, mut user: User, cutoff: i64) -> Option<User> {
        self.settle(user.0.as_mut()?, cutoff);
        Some(user)
    }
}

impl Points {
    /// Where a user's points are counted from the settled day on, and the account at the end of the last day.
    fn counted(&self, known: &Known) -> (Counted, Account) {
        let mut counted = Counted::new();
        let mut put = |day, kind, rule: usize, points| {
            counted.push((day, (kind, rule as u8, AMOUNT), points));
            counted.push((day, (kind, rule as u8, USERS), 1));
        };
        let mut account = known.settled.clone();
        for day in &known.recent {
            for lot in account.expire(day.day) {
                put(lot.gone_on, EXPIRED, 0, lot.left);
            }
            for (rule, points) in self.rules.on(day) {
                let kind = if self.rules.is_earned(rule) { EARNED } else { SPENT };
                put(day.day, kind, rule, points);
            }
            self.rules.pass(&mut account, day);
        }
        for lot in account.lots().iter().filter(|lot| lot.gone_on != NEVER) {
            put(lot.gone_on, EXPIRED, 0, lot.left);
        }
        (counted, account)
    }

    /// Days that are over, and all before them, are an account.
    fn settle(&self, known: &mut Known, cutoff: i64) {
        while known
            .recent
            .first()
            .is_some_and(|first| self.days.end(first.day) <= cutoff)
        {
            let day = known.recent.remove(0);
            known.settled.expire(day.day);
            self.rules.pass(&mut known.settled, &day);
        }
    }

    fn put_user(&self, user: u64, account: &Account, is_gone: bool, context: &mut Context<'_>) {
        let going = account.lots().iter().filter(|lot| lot.gone_on != NEVER);
        let (row, _) = context.versioned_behind(&POINT_USERS, is_gone);
        row.u64(user)
            .u64(account.earned)
            .u64(account.spent)
            .i64(account.balance())
            .datetimes(going.clone().map(|lot| self.days.start(lot.gone_on)))
            .u64s(going.map(|lot| &lot.left));
    }

    fn put(&self, day: i32, (kind, rule, measure): Cell, amount: u64, context: &mut Context<'_>) {
        let rule = match kind {
            EXPIRED => "",
            _ => self.rules.name(usize::from(rule)),
        };
        let (row, _) = context.versioned(&POINTS, amount == 0);
        let row = row.date(day).text(KINDS[usize::from(kind)]).text(rule);
        let row = row.text(MEASURES[usize::from(measure)]);
        row.datetime(self.days.start(day)).u64(amount);
    }
}
