//! Levels: how far users have come by their points, or by what they pay for.
//!
//! A level is that of the end of a local day. It is reached on the day on which its threshold is, and lost when the
//! threshold has not been met for as long as `protection` says; those days are written ahead.

use cambium_engine::{
    Calendar, Chosen, Compiler, Context, DefinitionError, Duration, EventNames, Input, Matcher, Period,
    Processor, Renames, Replaced, Table, Tally,
};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::account::Account;
use crate::points;
use crate::rule::{Day, Days, Rules, days};

/// `[[level]]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// The `[[points]]` that the thresholds are of; left out: levels are paid for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    #[serde(default)]
    pub value: Value,
    /// For how long what is earned counts; left out: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Duration>,
    /// From the lowest to the highest.
    pub levels: Vec<Threshold>,
    /// For how long a level stays when its threshold is not met any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protection: Option<Duration>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paid: Vec<Paid>,
}

/// Which points count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Value {
    /// Whatever became of them.
    #[default]
    Earned,
    /// Those that are neither spent nor expired.
    Balance,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Threshold {
    pub name: String,
    /// From so many points on; left out: only for those who pay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<u64>,
}

/// A level that users have from an event on.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Paid {
    pub level: String,
    pub start: EventNames,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<EventNames>,
    /// For so many days, that of the start included; a start before they are over adds as many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lasts: Option<Duration>,
}

/// How many users went from one level to another on a day.
pub static LEVELS: Table = Table {
    name: "level_rows",
    columns: &[
        ("definition", "UInt64"),
        ("origin", "UInt64"),
        ("app", "LowCardinality(String)"),
        ("version", "UInt64"),
        ("deleted", "UInt8"),
        ("day", "Date"),
        ("from_rank", "UInt8"),
        ("to_rank", "UInt8"),
        ("from_level", "LowCardinality(String)"),
        ("to_level", "LowCardinality(String)"),
        ("begins", "DateTime('UTC')"),
        ("users", "UInt64"),
    ],
};

/// And who did.
pub static LEVEL_USERS: Table = Table {
    name: "level_user_rows",
    columns: &[
        ("definition", "UInt64"),
        ("origin", "UInt64"),
        ("app", "LowCardinality(String)"),
        ("version", "UInt64"),
        ("deleted", "UInt8"),
        ("user", "UInt64"),
        ("day", "Date"),
        ("from_rank", "UInt8"),
        ("to_rank", "UInt8"),
        ("from_level", "LowCardinality(String)"),
        ("to_level", "LowCardinality(String)"),
        ("begins", "DateTime('UTC')"),
    ],
};

const MAX_LEVELS: usize = 100;
const NEVER: i32 = i32::MIN;
const EVER: i32 = i32::MAX;

/// What is known of a user; none: nothing.
#[derive(Default, Serialize, Deserialize)]
pub struct User(Option<Box<Known>>);

#[derive(Default, Serialize, Deserialize)]
struct Known {
    /// As of the newest day that no event can come for any more.
    settled: Standing,
    /// The days behind it on which points came or went.
    recent: Days,
    /// What was paid for, or ended, behind it.
    payments: SmallVec<[Payment; 1]>,
}

/// In the order of their time, then of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Payment {
    time: i64,
    place: i64,
    offer: u8,
    is_end: bool,
}

/// Where a user stands at the end of a day.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Standing {
    day: i32,
    account: Account,
    /// The last day on which each level is protected, from the lowest.
    protected: SmallVec<[i32; 2]>,
    /// The first day that each offer is not paid for any more.
    paid_until: SmallVec<[i32; 2]>,
    /// 0: none; 1: the lowest.
    rank: u8,
}

/// From and to which rank.
type Step = (u8, u8);
/// A step, and the day on which it is taken.
type Change = (i32, Step);

#[derive(Default, Serialize, Deserialize)]
pub struct State {
    users: Tally<Step>,
}

pub struct Levels {
    /// None: levels are paid for.
    rules: Option<Rules>,
    levels: Vec<Threshold>,
    protection_days: i32,
    offers: Vec<Offer>,
    days: Calendar,
}

struct Offer {
    rank: u8,
    start: Chosen,
    end: Option<Chosen>,
    days: Option<i32>,
}

impl Processor for Levels {
    const KIND: &'static str = "level";
    const SEMANTICS: u32 = 1;
    type Definition = Definition;
    type User = User;
    type State = State;

    fn rests_on(definition: &Definition) -> Option<(&'static str, &str)> {
        Some(("points", definition.of.as_deref()?))
    }

    fn new(definition: Definition, compiler: &mut Compiler<'_>) -> Result<Self, DefinitionError> {
        definition.check().map_err(DefinitionError::new)?;
        let rules = match &definition.of {
            None => None,
            Some(of) => Some(rules(&definition, of, compiler)?),
        };
        let mut offers = Vec::new();
        for paid in &definition.paid {
            let rank = definition.levels.iter().position(|one| one.name == paid.level);
            let end = paid
                .end
                .as_ref()
                .map(|end| Matcher::new(end, None, compiler))
                .transpose()?;
            offers.push(Offer {
                // That there is one was checked.
                rank: rank.map_or(0, |rank| rank as u8 + 1),
                start: Matcher::new(&paid.start, None, compiler)?.into(),
                end: end.map(Chosen::from),
                days: paid.lasts.map(days).transpose()?,
            });
        }
        Ok(Levels {
            rules,
            protection_days: definition.protection.map(days).transpose()?.unwrap_or(0),
            levels: definition.levels,
            offers,
            days: compiler.calendar(Period::Day)?,
        })
    }

    fn apply(&self, state: &mut State, user: &mut User, input: &Input<'_>, context: &mut Context<'_>) {
        let points = self.rules.as_ref().map(|rules| rules.points(input));
        let points = points.unwrap_or_default();
        let payments = self.payments(input);
        if points.is_empty() && payments.is_empty() {
            return;
        }
        let known = user.0.get_or_insert_default();
        let before = self.steps(known);
        if let Some(rules) = self.rules.as_ref().filter(|_| !points.is_empty()) {
            let day = self.days.number(input.time);
            rules.add(&mut known.recent, day, &points);
        }
        for payment in payments {
            let at = known.payments.partition_point(|one| *one < payment);
            known.payments.insert(at, payment);
        }
        self.move_user(state, input.user, (&before, &self.steps(known)), context);
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
        let steps = |user: &User| user.0.as_ref().map(|known| self.steps(known)).unwrap_or_default();
        self.move_user(state, replaced.user, (&steps(&before), &steps(user)), context);
    }

    fn flush(&self, state: &mut State, context: &mut Context<'_>) {
        state.users.flush(context, |day, step, users, context| {
            self.put(day, *step, users, context)
        });
    }

    fn advance(&self, state: &mut State, context: &mut Context<'_>) {
        let end = |day| self.days.end(day);
        state.users.forget(context, end, |day, step, users, context| {
            self.put(day, *step, users, context)
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

    /// Who has a level keeps it, whether they come or not.
    fn remember(&self, mut user: User, cutoff: i64) -> Option<User> {
        self.settle(user.0.as_mut()?, cutoff);
        Some(user)
    }
}

/// The rules of the points that count.
fn rules(definition: &Definition, of: &str, compiler: &mut Compiler<'_>) -> Result<Rules, DefinitionError> {
    let points: points::Definition = compiler.other("points", of)?;
    match definition.value {
        Value::Earned => Rules::new((&points.earn, &[]), definition.window, compiler),
        Value::Balance => Rules::new((&points.earn, &points.spend), points.expiry, compiler),
    }
}

impl Definition {
    fn check(&self) -> Result<(), String> {
        if self.levels.is_empty() || self.levels.len() > MAX_LEVELS {
            return Err(format!(
                "levels: from the lowest to the highest, as [{{ name = \"silver\", at = 100 }}], {MAX_LEVELS} at most"
            ));
        }
        let thresholds: Vec<u64> = self.levels.iter().filter_map(|level| level.at).collect();
        if !thresholds.is_sorted_by(|one, next| one < next) || thresholds.first() == Some(&0) {
            return Err("levels: `at` begins above 0 and grows from level to level".to_owned());
        }
        for (place, level) in self.levels.iter().enumerate() {
            let name = &level.name;
            if name.is_empty() || self.levels[..place].iter().any(|other| other.name == *name) {
                return Err(format!("levels: '{name}' is no name, or that of another level"));
            }
            if level.at.is_none() && self.paid.iter().all(|paid| paid.level != *name) {
                return Err(format!(
                    "levels: nobody can reach '{name}': it wants `at`, or somebody who pays for it"
                ));
            }
        }
        if self.of.is_none() && !thresholds.is_empty() {
            return Err(
                "of: `at` counts points: name the [[points]], or leave `at` out where levels are paid for"
                    .to_owned(),
            );
        }
        if self.window.is_some() && self.value == Value::Balance {
            return Err(
                "window: a balance has none; points expire after the `expiry` of their [[points]]".to_owned(),
            );
        }
        let unknown = |paid: &&Paid| self.levels.iter().all(|level| level.name != paid.level);
        if let Some(paid) = self.paid.iter().find(unknown) {
            return Err(format!("paid: there is no level '{}'", paid.level));
        }
        Ok(())
    }
}

impl Levels {
    /// What an event says of what is paid for. One that starts and ends starts anew.
    fn payments(&self, input: &Input<'_>) -> SmallVec<[Payment; 1]> {
        let mut payments = SmallVec::new();
        for (offer, one) in self.offers.iter().enumerate() {
            let mut put = |is_end| {
                payments.push(Payment {
                    time: input.time,
                    place: input.place,
                    offer: offer as u8,
                    is_end,
                });
            };
            if one.start.fits(input) {
                put(false);
            } else if one.end.as_ref().is_some_and(|end| end.fits(input)) {
                put(true);
            }
        }
        payments
    }

    fn move_user(
        &self,
        state: &mut State,
        user: u64,
        (before, after): (&[Change], &[Change]),
        context: &mut Context<'_>,
    ) {
        state.users.move_user(before, after);
        let is_gone = |day: &i32| after.iter().all(|(other, _)| other != day);
        for (day, step) in before.iter().filter(|(day, _)| is_gone(day)) {
            self.put_user(user, *day, *step, true, context);
        }
        for (day, step) in after.iter().filter(|one| !before.contains(one)) {
            self.put_user(user, *day, *step, false, context);
        }
    }

    /// On which days a user's level changes, from the settled day on.
    fn steps(&self, known: &Known) -> SmallVec<[Change; 4]> {
        let mut steps = SmallVec::new();
        self.go_on(known, &mut known.settled.clone(), EVER, |day, step| {
            steps.push((day, step))
        });
        steps
    }

    /// Brings what stood at the end of the settled day to the end of this one, from change to change.
    fn go_on(&self, known: &Known, standing: &mut Standing, until: i32, mut put: impl FnMut(i32, Step)) {
        let mut recent = known.recent.iter().peekable();
        let mut payments = known.payments.iter().peekable();
        loop {
            let next = [
                recent.peek().map(|day| day.day),
                payments.peek().map(|payment| self.days.number(payment.time)),
                standing.next_day(),
            ];
            let Some(day) = next.into_iter().flatten().min().filter(|day| *day <= until) else {
                return;
            };
            let before = standing.rank;
            let done = recent.next_if(|done| done.day == day);
            let paid =
                std::iter::from_fn(|| payments.next_if(|payment| self.days.number(payment.time) == day));
            self.pass(standing, day, done, paid);
            if standing.rank != before {
                put(day, (before, standing.rank));
            }
        }
    }

    /// Brings what stood at the end of an earlier day, since which nothing changed, to the end of this one.
    fn pass<'p>(
        &self,
        standing: &mut Standing,
        day: i32,
        done: Option<&Day>,
        payments: impl Iterator<Item = &'p Payment>,
    ) {
        standing.protected.resize(self.levels.len(), NEVER);
        standing.paid_until.resize(self.offers.len(), NEVER);
        let met_before = self.met(&standing.account);
        standing.account.expire(day);
        if let (Some(rules), Some(done)) = (&self.rules, done) {
            rules.pass(&mut standing.account, done);
        }
        let met = self.met(&standing.account);
        for rank in met..met_before {
            standing.protected[rank] = day - 1 + self.protection_days;
        }
        for payment in payments {
            let offer = &self.offers[usize::from(payment.offer)];
            let until = &mut standing.paid_until[usize::from(payment.offer)];
            *until = match (payment.is_end, offer.days) {
                (true, _) => day.min(*until),
                (false, Some(days)) => day.max(*until).saturating_add(days),
                (false, None) => EVER,
            };
        }
        let protected = standing.protected.iter().rposition(|last| *last >= day);
        let paid = self.offers.iter().zip(&standing.paid_until);
        let paid = paid
            .filter(|(_, until)| **until > day)
            .map(|(offer, _)| usize::from(offer.rank));
        let rank = paid.chain(protected.map(|rank| rank + 1)).chain([met]).max();
        standing.rank = rank.unwrap_or(0) as u8;
        standing.day = day;
    }

    /// The highest level whose threshold an account meets.
    fn met(&self, account: &Account) -> usize {
        let points = account.balance();
        let is_met = |level: &Threshold| level.at.is_some_and(|at| points >= at as i64);
        self.levels.iter().rposition(is_met).map_or(0, |rank| rank + 1)
    }

    /// Days that are over, and all before them, are where a user stands.
    fn settle(&self, known: &mut Known, cutoff: i64) {
        let is_over = |day: i32| self.days.end(day) <= cutoff;
        let days = known.recent.iter().map(|day| day.day);
        let payments = known
            .payments
            .iter()
            .map(|payment| self.days.number(payment.time));
        let Some(last) = days.chain(payments).filter(|day| is_over(*day)).max() else {
            return;
        };
        let mut standing = std::mem::take(&mut known.settled);
        self.go_on(known, &mut standing, last, |_, _| {});
        known.settled = standing;
        known.recent.retain(|day| day.day > last);
        known
            .payments
            .retain(|payment| self.days.number(payment.time) > last);
    }

    fn name(&self, rank: u8) -> &str {
        let level = usize::from(rank).checked_sub(1);
        level.map_or("", |level| &self.levels[level].name)
    }

    fn put_user(&self, user: u64, day: i32, (from, to): Step, deleted: bool, context: &mut Context<'_>) {
        let (row, _) = context.versioned_behind(&LEVEL_USERS, deleted);
        let row = row.u64(user).date(day).u8(from).u8(to);
        row.text(self.name(from))
            .text(self.name(to))
            .datetime(self.days.start(day));
    }

    fn put(&self, day: i32, (from, to): Step, users: u64, context: &mut Context<'_>) {
        let (row, _) = context.versioned(&LEVELS, users == 0);
        let row = row.date(day).u8(from).u8(to);
        let row = row.text(self.name(from)).text(self.name(to));
        row.datetime(self.days.start(day)).u64(users);
    }
}

impl Standing {
    /// The next day on which something changes if nothing comes.
    fn next_day(&self) -> Option<i32> {
        let protected = self
            .protected
            .iter()
            .filter(|last| **last != NEVER)
            .map(|last| last + 1);
        let paid = self.paid_until.iter().copied().filter(|until| *until != EVER);
        let next = protected.chain(paid).chain(self.account.next_day());
        next.filter(|next| *next > self.day).min()
    }
}
