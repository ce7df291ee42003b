//! Lifecycle: who is new, who came back, and who did not, by day, week or month.
//!
//! A user who is active in a period is counted as dormant in the next one at once, and taken out of there when an event
//! says otherwise: so the numbers are right on a day on which nothing comes. The view shows them when that day is over.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod churn;

use cambium_engine::{
    By, Calendar, Chosen, Compiler, Context, DefinitionError, Input, Matcher, Period, Processor, Renames,
    Replaced, Slice, Table, Tally,
};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

pub use churn::{AWAY, CHURN, Churn};

/// `[[lifecycle]]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// The `[[unique]]` whose events make a user active.
    #[serde(default = "active")]
    pub of: String,
    #[serde(default = "day")]
    pub period: Period,
    #[serde(default)]
    pub by: Vec<String>,
}

fn active() -> String {
    "active".to_owned()
}

fn day() -> Period {
    Period::Day
}

pub static LIFECYCLE: Table = Table {
    name: "lifecycle_rows",
    columns: &[
        ("definition", "UInt64"),
        ("origin", "UInt64"),
        ("app", "LowCardinality(String)"),
        ("version", "UInt64"),
        ("deleted", "UInt8"),
        ("grain", "LowCardinality(String)"),
        ("day", "Date"),
        ("state", "LowCardinality(String)"),
        ("platform", "LowCardinality(String)"),
        ("app_version", "LowCardinality(String)"),
        ("channel", "LowCardinality(String)"),
        ("campaign", "LowCardinality(String)"),
        ("country", "LowCardinality(String)"),
        ("properties", "Map(LowCardinality(String), String)"),
        ("ends", "DateTime('UTC')"),
        ("users", "UInt64"),
    ],
};

const NEW: u8 = 0;
const RETURNING: u8 = 1;
const RESURRECTED: u8 = 2;
const DORMANT: u8 = 3;
const STATES: [&str; 4] = ["new", "returning", "resurrected", "dormant"];

/// The periods in which a user was active, as far back as an event can still change one; and the newest before those.
#[derive(Default, Serialize, Deserialize)]
pub struct User(Option<Box<Known>>);

#[derive(Default, Serialize, Deserialize)]
struct Known {
    /// By number.
    active: SmallVec<[Active; 1]>,
    /// The first of these is not the first ever.
    has_earlier: bool,
}

#[derive(Clone, Serialize, Deserialize)]
struct Active {
    period: i32,
    /// The time of the earliest event in it.
    time: i64,
    slice: Slice,
}

/// A state and a slice.
type Cell = (u8, Slice);

#[derive(Default, Serialize, Deserialize)]
pub struct State {
    users: Tally<Cell>,
}

pub struct Lifecycle {
    matcher: Chosen,
    calendar: Calendar,
    by: By,
}

impl Processor for Lifecycle {
    const KIND: &'static str = "lifecycle";
    const SEMANTICS: u32 = 1;
    type Definition = Definition;
    type User = User;
    type State = State;

    fn rests_on(definition: &Definition) -> Option<(&'static str, &str)> {
        Some(("unique", &definition.of))
    }

    fn new(definition: Definition, compiler: &mut Compiler<'_>) -> Result<Self, DefinitionError> {
        Ok(Lifecycle {
            matcher: Matcher::of_other("unique", &definition.of, compiler)?.into(),
            calendar: compiler.calendar(definition.period)?,
            by: By::new(&definition.by, compiler)?,
        })
    }

    fn apply(&self, state: &mut State, user: &mut User, input: &Input<'_>, context: &mut Context<'_>) {
        if !self.matcher.fits(input) {
            return;
        }
        let known = user.0.get_or_insert_default();
        let period = self.calendar.number(input.time);
        let at = known.active.partition_point(|active| active.period < period);
        let same = known.active.get(at).filter(|active| active.period == period);
        let is_there = same.is_some();
        if same.is_some_and(|active| active.time <= input.time) {
            return;
        }
        let before = known.counted();
        let active = Active {
            period,
            time: input.time,
            slice: self.by.slice(input, context.names),
        };
        if is_there {
            known.active[at] = active;
        } else {
            known.active.insert(at, active);
        }
        state.users.move_user(&before, &known.counted());
        self.forget_settled(known, context.cutoff());
    }

    fn replace(
        &self,
        state: &mut State,
        before: User,
        user: &mut User,
        _: &Replaced<'_>,
        _: &mut Context<'_>,
    ) {
        let counted = |user: &User| user.0.as_ref().map(|known| known.counted()).unwrap_or_default();
        state.users.move_user(&counted(&before), &counted(user));
    }

    fn touch(user: &User) -> i64 {
        user.0
            .as_ref()
            .map_or(0, |known| known.active.last().map_or(0, |last| last.time))
    }

    fn flush(&self, state: &mut State, context: &mut Context<'_>) {
        state.users.flush(context, |period, cell, users, context| {
            self.put(period, cell, users, context)
        });
    }

    fn advance(&self, state: &mut State, context: &mut Context<'_>) {
        state.users.forget(
            context,
            |period| self.calendar.end(period),
            |period, cell, users, context| self.put(period, cell, users, context),
        );
    }

    fn rest(&self, _: u64, user: &mut User, context: &mut Context<'_>) {
        if let Some(known) = &mut user.0 {
            self.forget_settled(known, context.cutoff());
        }
    }

    fn settled_after_ms(&self) -> i64 {
        cambium_engine::LONGEST_DAY_MS
    }

    fn rename(&self, state: &mut State, renames: &Renames) {
        state.users.rename(|(_, slice)| self.by.rename(slice, renames));
    }

    fn rename_user(&self, user: &mut User, renames: &Renames) {
        let active = user.0.iter_mut().flat_map(|known| &mut known.active);
        active.for_each(|active| self.by.rename(&mut active.slice, renames));
    }

    /// Who was active before, and when last, is known for ever.
    fn remember(&self, user: User, _: i64) -> Option<User> {
        user.0.is_some().then_some(user)
    }
}

impl Known {
    /// Where the user is counted. The first period is so for good where others lie before it.
    fn counted(&self) -> SmallVec<[(i32, Cell); 4]> {
        let mut counted = SmallVec::new();
        for (place, active) in self.active.iter().enumerate() {
            let before = place.checked_sub(1).map(|before| self.active[before].period);
            let state = match before {
                Some(before) if before + 1 == active.period => Some(RETURNING),
                Some(_) => Some(RESURRECTED),
                None => (!self.has_earlier).then_some(NEW),
            };
            counted.extend(state.map(|state| (active.period, (state, active.slice.clone()))));
            let next = self.active.get(place + 1).map(|next| next.period);
            if next != Some(active.period + 1) {
                counted.push((active.period + 1, (DORMANT, active.slice.clone())));
            }
        }
        counted
    }
}

impl Lifecycle {
    /// Of the periods that no event can come for any more the newest stays: it says what the next one is.
    fn forget_settled(&self, known: &mut Known, cutoff: i64) {
        let is_over = |active: &Active| self.calendar.end(active.period) <= cutoff;
        while known.active.len() > 1 && is_over(&known.active[1]) {
            known.active.remove(0);
            known.has_earlier = true;
        }
    }

    fn put(&self, period: i32, (state, slice): &Cell, users: u64, context: &mut Context<'_>) {
        let (row, names) = context.versioned(&LIFECYCLE, users == 0);
        let row = row
            .text(self.calendar.period().name())
            .date(self.calendar.first_day(period))
            .text(STATES[usize::from(*state)]);
        self.by
            .write(slice, names, row)
            .datetime(self.calendar.end(period))
            .u64(users);
    }
}
