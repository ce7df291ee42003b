//! Churn: who has been away for longer than is good, and who came back.
//!
//! The day on which somebody will have been away for too long is written with the last day on which they were active: the
//! view compares it with the clock of the partition. What comes later takes it back.

use cambium_engine::{
    By, Calendar, Chosen, Compiler, Context, DAY_MS, DefinitionError, Duration, Input, Matcher, Period,
    Processor, Renames, Replaced, Slice, Table, Tally,
};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

/// `[[churn]]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// The `[[unique]]` whose events make a user active.
    #[serde(default = "super::active")]
    pub of: String,
    /// Away for so long is too long for everybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Duration>,
    /// Or so many times what is usual for the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times_usual: Option<f64>,
    #[serde(default)]
    pub by: Vec<String>,
}

/// So many of a user's last pauses say what is usual; and so many are needed.
const PAUSES: usize = 15;
const FEWEST_PAUSES: usize = 2;
/// Nobody is waited for any longer.
const LONGEST_DAYS: i32 = 3650;

/// When each user was active last, and when they will have been away for too long.
pub static AWAY: Table = Table {
    name: "churn_user_rows",
    columns: &[
        ("definition", "UInt64"),
        ("origin", "UInt64"),
        ("app", "LowCardinality(String)"),
        ("version", "UInt64"),
        ("deleted", "UInt8"),
        ("user", "UInt64"),
        ("last_day", "Date"),
        ("usual_half_days", "UInt32"),
        ("at_risk", "Date"),
        ("begins", "DateTime('UTC')"),
        ("platform", "LowCardinality(String)"),
        ("app_version", "LowCardinality(String)"),
        ("channel", "LowCardinality(String)"),
        ("campaign", "LowCardinality(String)"),
        ("country", "LowCardinality(String)"),
        ("properties", "Map(LowCardinality(String), String)"),
    ],
};

/// How many users had been away for too long on a day, and how many of those came back.
pub static CHURN: Table = Table {
    name: "churn_rows",
    columns: &[
        ("definition", "UInt64"),
        ("origin", "UInt64"),
        ("app", "LowCardinality(String)"),
        ("version", "UInt64"),
        ("deleted", "UInt8"),
        ("day", "Date"),
        ("state", "LowCardinality(String)"),
        ("begins", "DateTime('UTC')"),
        ("platform", "LowCardinality(String)"),
        ("app_version", "LowCardinality(String)"),
        ("channel", "LowCardinality(String)"),
        ("campaign", "LowCardinality(String)"),
        ("country", "LowCardinality(String)"),
        ("properties", "Map(LowCardinality(String), String)"),
        ("users", "UInt64"),
    ],
};

const AT_RISK: u8 = 0;
const RETURNED: u8 = 1;
const STATES: [&str; 2] = ["at_risk", "returned"];

/// What is known of a user; none: nothing.
#[derive(Default, Serialize, Deserialize)]
pub struct User(Option<Box<Known>>);

#[derive(Default, Serialize, Deserialize)]
struct Known {
    /// As of the newest day that no event can come before any more.
    last: Option<Last>,
    /// The days behind it, each with the time of its earliest event.
    recent: SmallVec<[(i32, i64, Slice); 2]>,
}

/// A user's last active day, and how they came before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Last {
    day: i32,
    slice: Slice,
    /// From one active day to the next, the newest last.
    pauses: SmallVec<[u16; 4]>,
}

impl Last {
    fn then(last: Option<&Last>, day: i32, slice: &Slice) -> Last {
        let mut pauses = last.map_or_else(SmallVec::new, |last| last.pauses.clone());
        if let Some(last) = last {
            if pauses.len() == PAUSES {
                pauses.remove(0);
            }
            pauses.push(u16::try_from(day - last.day).unwrap_or(u16::MAX));
        }
        Last {
            day,
            slice: slice.clone(),
            pauses,
        }
    }

    /// The median of the last pauses, in days; none: too few are known.
    fn usual_days(&self) -> Option<f64> {
        if self.pauses.len() < FEWEST_PAUSES {
            return None;
        }
        let mut pauses = self.pauses.clone();
        pauses.sort_unstable();
        let (lower, upper) = (pauses[(pauses.len() - 1) / 2], pauses[pauses.len() / 2]);
        Some((f64::from(lower) + f64::from(upper)) / 2.0)
    }
}

/// A state and a slice.
type Cell = (u8, Slice);

#[derive(Default, Serialize, Deserialize)]
pub struct State {
    users: Tally<Cell>,
}

pub struct Churn {
    matcher: Chosen,
    limit: Limit,
    days: Calendar,
    by: By,
}

enum Limit {
    Days(i32),
    TimesUsual(f64),
}

impl Processor for Churn {
    const KIND: &'static str = "churn";
    const SEMANTICS: u32 = 1;
    type Definition = Definition;
    type User = User;
    type State = State;

    fn rests_on(definition: &Definition) -> Option<(&'static str, &str)> {
        Some(("unique", &definition.of))
    }

    fn new(definition: Definition, compiler: &mut Compiler<'_>) -> Result<Self, DefinitionError> {
        let limit = match (definition.after, definition.times_usual) {
            (Some(after), None) if after.0 > 0 => {
                let days = (after.0 + DAY_MS - 1) / DAY_MS;
                Limit::Days(days.min(i64::from(LONGEST_DAYS)) as i32)
            }
            (None, Some(times)) if times > 0.0 => Limit::TimesUsual(times),
            (Some(_), None) => return Err(DefinitionError::new("after: must be longer than nothing")),
            (None, Some(_)) => return Err(DefinitionError::new("times_usual: must be more than 0")),
            _ => {
                let message = "says after which time a user is away for too long: either `after` = \"14 days\" or `times_usual` = 3";
                return Err(DefinitionError::new(message));
            }
        };
        Ok(Churn {
            matcher: Matcher::of_other("unique", &definition.of, compiler)?.into(),
            limit,
            days: compiler.calendar(Period::Day)?,
            by: By::new(&definition.by, compiler)?,
        })
    }

    fn apply(&self, state: &mut State, user: &mut User, input: &Input<'_>, context: &mut Context<'_>) {
        if !self.matcher.fits(input) {
            return;
        }
        let known = user.0.get_or_insert_default();
        let day = self.days.number(input.time);
        let at = known.recent.partition_point(|(other, ..)| *other < day);
        let is_there = known.recent.get(at).is_some_and(|(other, ..)| *other == day);
        let is_settled = known.last.as_ref().is_some_and(|last| last.day >= day);
        if is_settled || is_there && known.recent[at].1 <= input.time {
            return;
        }
        let (before, last_before) = self.counted(known);
        let active = (day, input.time, self.by.slice(input, context.names));
        if is_there {
            known.recent[at] = active;
        } else {
            known.recent.insert(at, active);
        }
        let (after, last) = self.counted(known);
        state.users.move_user(&before, &after);
        if last != last_before
            && let Some(last) = &last
        {
            self.put_user(input.user, last, false, context);
        }
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
        let ((from, last_before), (to, last)) = (counted(&before), counted(user));
        state.users.move_user(&from, &to);
        match (last_before, last) {
            (before, Some(last)) if before.as_ref() != Some(&last) => {
                self.put_user(replaced.user, &last, false, context);
            }
            (Some(before), None) => self.put_user(replaced.user, &before, true, context),
            _ => {}
        }
    }

    fn flush(&self, state: &mut State, context: &mut Context<'_>) {
        let put = |day, cell: &Cell, users, context: &mut Context<'_>| self.put(day, cell, users, context);
        state.users.flush(context, put);
    }

    fn advance(&self, state: &mut State, context: &mut Context<'_>) {
        let end = |day| self.days.end(day);
        let put = |day, cell: &Cell, users, context: &mut Context<'_>| self.put(day, cell, users, context);
        state.users.forget(context, end, put);
    }

    fn rest(&self, _: u64, user: &mut User, context: &mut Context<'_>) {
        if let Some(known) = &mut user.0 {
            self.settle(known, context.cutoff());
        }
    }

    fn settled_after_ms(&self) -> i64 {
        cambium_engine::LONGEST_DAY_MS
    }

    fn rename(&self, state: &mut State, renames: &Renames) {
        state.users.rename(|(_, slice)| self.by.rename(slice, renames));
    }

    fn rename_user(&self, user: &mut User, renames: &Renames) {
        for known in user.0.iter_mut() {
            let last = known.last.iter_mut().map(|last| &mut last.slice);
            let recent = known.recent.iter_mut().map(|(_, _, slice)| slice);
            last.chain(recent)
                .for_each(|slice| self.by.rename(slice, renames));
        }
    }

    /// Who is away for long may come back.
    fn remember(&self, mut user: User, cutoff: i64) -> Option<User> {
        self.settle(user.0.as_mut()?, cutoff);
        Some(user)
    }
}

impl Churn {
    /// The day that begins when a user has been away for too long; none: nobody knows what is usual for them.
    fn at_risk(&self, last: &Last) -> Option<i32> {
        let days = match self.limit {
            Limit::Days(days) => days,
            Limit::TimesUsual(times) => {
                let days = (last.usual_days()? * times).ceil();
                days.min(f64::from(LONGEST_DAYS)) as i32
            }
        };
        Some(last.day + days + 1)
    }

    /// Where a user is counted, from the settled day on, and their last active day.
    fn counted(&self, known: &Known) -> (SmallVec<[(i32, Cell); 4]>, Option<Last>) {
        let mut counted = SmallVec::new();
        let mut last = known.last.clone();
        for (day, _, slice) in &known.recent {
            if let Some(before) = &last
                && let Some(at_risk) = self.at_risk(before).filter(|at_risk| at_risk <= day)
            {
                counted.push((at_risk, (AT_RISK, before.slice.clone())));
                counted.push((*day, (RETURNED, before.slice.clone())));
            }
            last = Some(Last::then(last.as_ref(), *day, slice));
        }
        if let Some(last) = &last
            && let Some(at_risk) = self.at_risk(last)
        {
            counted.push((at_risk, (AT_RISK, last.slice.clone())));
        }
        (counted, last)
    }

    /// Days that are over, and all before them, are one last day and some pauses.
    fn settle(&self, known: &mut Known, cutoff: i64) {
        while known
            .recent
            .first()
            .is_some_and(|(day, ..)| self.days.end(*day) <= cutoff)
        {
            let (day, _, slice) = known.recent.remove(0);
            known.last = Some(Last::then(known.last.as_ref(), day, &slice));
        }
    }

    /// Nobody is at risk of whom nothing is known any more, or not enough.
    fn put_user(&self, user: u64, last: &Last, is_gone: bool, context: &mut Context<'_>) {
        let at_risk = self.at_risk(last).filter(|_| !is_gone);
        let begins = at_risk.map_or(0, |day| self.days.start(day));
        let (row, names) = context.versioned_behind(&AWAY, at_risk.is_none());
        let row = row
            .u64(user)
            .date(last.day)
            .u32((2.0 * last.usual_days().unwrap_or(0.0)) as u32)
            .date(at_risk.unwrap_or(0))
            .datetime(begins);
        self.by.write(&last.slice, names, row);
    }

    fn put(&self, day: i32, (state, slice): &Cell, users: u64, context: &mut Context<'_>) {
        let (row, names) = context.versioned(&CHURN, users == 0);
        let row = row
            .date(day)
            .text(STATES[usize::from(*state)])
            .datetime(self.days.start(day));
        self.by.write(slice, names, row).u64(users);
    }
}
