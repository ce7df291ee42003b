//! Badges: who has done something so often, on so many days in a row, or for so much.

use cambium_engine::{
    Calendar, Chosen, Compiler, Context, DefinitionError, EventNames, Input, Matcher, Period, Processor,
    Renames, Replaced, Table, Tally,
};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::rule::{Amount, Says};

/// `[[badge]]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    pub event: EventNames,
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// So many of these events,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// or one on so many local days in a row,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub streak: Option<u32>,
    /// or so much of a property of theirs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sum: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub property: Option<String>,
}

/// How many users got it on a day.
pub static BADGES: Table = Table {
    name: "badge_rows",
    columns: &[
        ("definition", "UInt64"),
        ("origin", "UInt64"),
        ("app", "LowCardinality(String)"),
        ("version", "UInt64"),
        ("deleted", "UInt8"),
        ("day", "Date"),
        ("users", "UInt64"),
    ],
};

/// And who did.
pub static BADGE_USERS: Table = Table {
    name: "badge_user_rows",
    columns: &[
        ("definition", "UInt64"),
        ("origin", "UInt64"),
        ("app", "LowCardinality(String)"),
        ("version", "UInt64"),
        ("deleted", "UInt8"),
        ("user", "UInt64"),
        ("day", "Date"),
        ("begins", "DateTime('UTC')"),
    ],
};

/// A sum is kept as whole millionths, so that no order of adding matters.
const PARTS: f64 = 1e6;
/// No event adds more.
const MOST: f64 = 1e12;

/// What is known of a user; none: nothing.
#[derive(Default, Serialize, Deserialize)]
pub struct User(Option<Box<Known>>);

#[derive(Default, Serialize, Deserialize)]
struct Known {
    /// As of the newest day that no event can come for any more.
    settled: Progress,
    /// The days behind it, and how much was done on each.
    recent: SmallVec<[(i32, i64); 1]>,
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Progress {
    /// The day on which the badge was got.
    got: Option<i32>,
    last: i32,
    /// Of the rule's measure: events, days in a row, millionths.
    done: i64,
}

#[derive(Default, Serialize, Deserialize)]
pub struct State {
    users: Tally<()>,
}

pub struct Badge {
    matcher: Chosen,
    measure: Measure,
    /// In the measure's unit.
    wanted: i64,
    days: Calendar,
}

enum Measure {
    Events,
    DaysInARow,
    Sum(Says),
}

impl Processor for Badge {
    const KIND: &'static str = "badge";
    const SEMANTICS: u32 = 1;
    type Definition = Definition;
    type User = User;
    type State = State;

    fn new(definition: Definition, compiler: &mut Compiler<'_>) -> Result<Self, DefinitionError> {
        let (measure, wanted) = definition.measure(compiler)?;
        Ok(Badge {
            matcher: Matcher::new(&definition.event, definition.filter.as_deref(), compiler)?.into(),
            measure,
            wanted,
            days: compiler.calendar(Period::Day)?,
        })
    }

    fn apply(&self, state: &mut State, user: &mut User, input: &Input<'_>, context: &mut Context<'_>) {
        if !self.matcher.fits(input) {
            return;
        }
        let known = user.0.get_or_insert_default();
        if known.settled.got.is_some() {
            return;
        }
        let done = match &self.measure {
            Measure::Events | Measure::DaysInARow => 1,
            Measure::Sum(says) => {
                let number = says.number(input).unwrap_or(0.0).clamp(-MOST, MOST);
                (number * PARTS).round() as i64
            }
        };
        let before = self.got(known);
        let day = self.days.number(input.time);
        let at = known.recent.partition_point(|(other, _)| *other < day);
        match known.recent.get_mut(at).filter(|(other, _)| *other == day) {
            Some((_, sum)) => *sum = sum.saturating_add(done),
            None => known.recent.insert(at, (day, done)),
        }
        self.move_user(state, input.user, (before, self.got(known)), context);
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
        let got = |user: &User| user.0.as_ref().and_then(|known| self.got(known));
        self.move_user(state, replaced.user, (got(&before), got(user)), context);
    }

    fn flush(&self, state: &mut State, context: &mut Context<'_>) {
        state.users.flush(context, put);
    }

    fn advance(&self, state: &mut State, context: &mut Context<'_>) {
        state.users.forget(context, |day| self.days.end(day), put);
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

    /// A badge is got once, and for ever.
    fn remember(&self, mut user: User, cutoff: i64) -> Option<User> {
        self.settle(user.0.as_mut()?, cutoff);
        Some(user)
    }
}

impl Definition {
    fn measure(&self, compiler: &mut Compiler<'_>) -> Result<(Measure, i64), DefinitionError> {
        let wrong = |message: &str| Err(DefinitionError::new(message));
        if self.property.is_some() != self.sum.is_some() {
            return wrong("sum, property: the badge is for so much of a property: write both, or none");
        }
        match (self.count, self.streak, self.sum) {
            (Some(count @ 1..=1_000_000_000), None, None) => Ok((Measure::Events, count as i64)),
            (None, Some(days @ 1..=36_500), None) => Ok((Measure::DaysInARow, i64::from(days))),
            (None, None, Some(sum)) if sum > 0.0 && sum <= MOST => {
                let property = Amount::Property(self.property.clone().unwrap_or_default());
                let says = Says::new(&property, compiler)?;
                Ok((Measure::Sum(says), (sum * PARTS).round() as i64))
            }
            _ => wrong(
                "what the badge is for: one of `count` = 100 (events), `streak` = 7 (days in a row), or `sum` = 1000 with `property`",
            ),
        }
    }
}

impl Badge {
    fn move_user(
        &self,
        state: &mut State,
        user: u64,
        (before, after): (Option<i32>, Option<i32>),
        context: &mut Context<'_>,
    ) {
        if before == after {
            return;
        }
        let place = |got: Option<i32>| got.map(|day| (day, ()));
        state
            .users
            .move_user(place(before).as_slice(), place(after).as_slice());
        let (row, _) = context.versioned_behind(&BADGE_USERS, after.is_none());
        let day = after.or(before).unwrap_or(0);
        row.u64(user).date(day).datetime(self.days.start(day));
    }

    /// The day on which a user has it, as far as is known.
    fn got(&self, known: &Known) -> Option<i32> {
        let mut progress = known.settled.clone();
        for (day, done) in &known.recent {
            self.pass(&mut progress, *day, *done);
        }
        progress.got
    }

    fn pass(&self, progress: &mut Progress, day: i32, done: i64) {
        progress.done = match self.measure {
            Measure::DaysInARow if progress.last + 1 == day => progress.done + 1,
            Measure::DaysInARow => 1,
            Measure::Events | Measure::Sum(_) => progress.done.saturating_add(done),
        };
        progress.last = day;
        if progress.done >= self.wanted {
            progress.got.get_or_insert(day);
        }
    }

    /// Days that are over, and all before them, are one number.
    fn settle(&self, known: &mut Known, cutoff: i64) {
        while let Some((day, done)) = known.recent.first().copied()
            && self.days.end(day) <= cutoff
        {
            known.recent.remove(0);
            self.pass(&mut known.settled, day, done);
        }
        if known.settled.got.is_some() {
            known.recent.clear();
        }
    }
}

fn put(day: i32, (): &(), users: u64, context: &mut Context<'_>) {
    let (row, _) = context.versioned(&BADGES, users == 0);
    row.date(day).u64(users);
}
