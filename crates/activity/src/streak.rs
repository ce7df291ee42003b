//! Streaks: on how many days in a row users do something, and when that ends.
//!
//! Days that a freeze bridges, and the day on which a streak is broken, are counted as soon as the day before is: what a
//! user does then takes them back. So the numbers are right on a day on which nothing comes.

use cambium_engine::{
    Calendar, Chosen, Compiler, Context, DefinitionError, EventNames, Input, Matcher, Period, Processor,
    Renames, Replaced, Table, Tally,
};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

/// `[[streak]]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    pub event: EventNames,
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// So many days of a streak may be missed.
    #[serde(default)]
    pub freezes: u8,
}

/// Days are written ahead for each.
const MAX_FREEZES: u8 = 31;

/// How many users were in a streak of some length on a day, and how many lost one.
pub static STREAKS: Table = Table {
    name: "streak_rows",
    columns: &[
        ("definition", "UInt64"),
        ("origin", "UInt64"),
        ("app", "LowCardinality(String)"),
        ("version", "UInt64"),
        ("deleted", "UInt8"),
        ("day", "Date"),
        ("state", "LowCardinality(String)"),
        ("length", "UInt32"),
        ("ends", "DateTime('UTC')"),
        ("users", "UInt64"),
    ],
};

/// How many users have had none that was longer.
pub static LONGEST: Table = Table {
    name: "longest_streak_rows",
    columns: &[
        ("definition", "UInt64"),
        ("origin", "UInt64"),
        ("app", "LowCardinality(String)"),
        ("version", "UInt64"),
        ("deleted", "UInt8"),
        ("length", "UInt32"),
        ("users", "UInt64"),
    ],
};

const CURRENT: u8 = 0;
const BROKEN: u8 = 1;
const STATES: [&str; 2] = ["current", "broken"];

/// What is known of a user; none: nothing.
#[derive(Default, Serialize, Deserialize)]
pub struct User(Option<Box<Known>>);

#[derive(Default, Serialize, Deserialize)]
struct Known {
    /// The streak as it was on the newest day that no event can come before any more.
    run: Option<Run>,
    /// The longest up to then.
    longest: u32,
    /// The days behind it.
    recent: SmallVec<[i32; 4]>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
struct Run {
    last: i32,
    length: u32,
    frozen: u8,
}

/// A state and a length.
type Cell = (u8, u32);
/// The days that a user is counted on, and the length of their longest streak.
type Counted = (SmallVec<[(i32, Cell); 8]>, u32);

#[derive(Default, Serialize, Deserialize)]
pub struct State {
    days: Tally<Cell>,
    /// By length, in the only period that there is.
    longest: Tally<u32>,
}

const EVER: i32 = 0;

pub struct Streak {
    matcher: Chosen,
    freezes: u8,
    days: Calendar,
}

impl Processor for Streak {
    const KIND: &'static str = "streak";
    const SEMANTICS: u32 = 1;
    type Definition = Definition;
    type User = User;
    type State = State;

    fn new(definition: Definition, compiler: &mut Compiler<'_>) -> Result<Self, DefinitionError> {
        if definition.freezes > MAX_FREEZES {
            return Err(DefinitionError::new(format!("freezes: {MAX_FREEZES} at most")));
        }
        Ok(Streak {
            matcher: Matcher::new(&definition.event, definition.filter.as_deref(), compiler)?.into(),
            freezes: definition.freezes,
            days: compiler.calendar(Period::Day)?,
        })
    }

    fn apply(&self, state: &mut State, user: &mut User, input: &Input<'_>, context: &mut Context<'_>) {
        if !self.matcher.fits(input) {
            return;
        }
        let known = user.0.get_or_insert_default();
        let day = self.days.number(input.time);
        let Err(at) = known.recent.binary_search(&day) else {
            return;
        };
        if known.run.is_some_and(|run| run.last >= day) {
            return;
        }
        let before = self.counted(known);
        known.recent.insert(at, day);
        self.move_user(state, before, self.counted(known));
        self.settle(known, context.cutoff());
    }

    fn replace(
        &self,
        state: &mut State,
        before: User,
        user: &mut User,
        _: &Replaced<'_>,
        _: &mut Context<'_>,
    ) {
        let counted = |user: &User| {
            user.0
                .as_ref()
                .map(|known| self.counted(known))
                .unwrap_or_default()
        };
        self.move_user(state, counted(&before), counted(user));
    }

    fn flush(&self, state: &mut State, context: &mut Context<'_>) {
        state.days.flush(context, |day, cell, users, context| {
            self.put(day, *cell, users, context)
        });
        state.longest.flush(context, |_, length, users, context| {
            let (row, _) = context.versioned(&LONGEST, users == 0);
            row.u32(*length).u64(users);
        });
    }

    fn advance(&self, state: &mut State, context: &mut Context<'_>) {
        let end = |day| self.days.end(day);
        state.days.forget(context, end, |day, cell, users, context| {
            self.put(day, *cell, users, context)
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

    /// The longest streak is that of all time.
    fn remember(&self, mut user: User, cutoff: i64) -> Option<User> {
        self.settle(user.0.as_mut()?, cutoff);
        Some(user)
    }
}

impl Run {
    fn begun(day: i32) -> Run {
        Run {
            last: day,
            length: 1,
            frozen: 0,
        }
    }
}

impl Streak {
    /// The last day that a streak lives to see if nothing comes.
    fn lives_until(&self, run: Run) -> i32 {
        run.last + i32::from(self.freezes - run.frozen)
    }

    /// The streak with a later day, which ends it and begins another where too many were missed.
    fn with(&self, run: Option<Run>, day: i32) -> Run {
        match run {
            Some(run) if day <= self.lives_until(run) + 1 => Run {
                last: day,
                length: run.length + 1,
                frozen: run.frozen + (day - run.last - 1) as u8,
            },
            _ => Run::begun(day),
        }
    }

    fn move_user(&self, state: &mut State, before: Counted, after: Counted) {
        state.days.move_user(&before.0, &after.0);
        let ever = |longest: u32| (longest > 0).then_some((EVER, longest));
        let (from, to) = (ever(before.1), ever(after.1));
        state.longest.move_user(from.as_slice(), to.as_slice());
    }

    /// Where a user is counted from the settled day on, and the length of their longest streak.
    fn counted(&self, known: &Known) -> Counted {
        let mut counted = SmallVec::new();
        let (mut run, mut longest) = (known.run, known.longest);
        // What a streak leaves behind its last day, up to the day on which the next event comes.
        let mut leave = |run: Run, next: Option<i32>| {
            let next = next.unwrap_or(i32::MAX);
            let alive = (run.last + 1..=self.lives_until(run)).take_while(|day| *day < next);
            counted.extend(alive.map(|day| (day, (CURRENT, run.length))));
            let broken = self.lives_until(run) + 1;
            if broken < next {
                counted.push((broken, (BROKEN, run.length)));
            }
        };
        let mut days = SmallVec::<[(i32, Cell); 8]>::new();
        for day in &known.recent {
            if let Some(run) = run {
                leave(run, Some(*day));
            }
            let with = self.with(run, *day);
            days.push((*day, (CURRENT, with.length)));
            longest = longest.max(with.length);
            run = Some(with);
        }
        if let Some(run) = run {
            leave(run, None);
        }
        counted.extend(days);
        (counted, longest)
    }

    /// Days that are over, and all before them, are one streak and one length.
    fn settle(&self, known: &mut Known, cutoff: i64) {
        while let Some(day) = known.recent.first().copied()
            && self.days.end(day) <= cutoff
        {
            known.recent.remove(0);
            let run = self.with(known.run, day);
            known.longest = known.longest.max(run.length);
            known.run = Some(run);
        }
    }

    fn put(&self, day: i32, (state, length): Cell, users: u64, context: &mut Context<'_>) {
        let (row, _) = context.versioned(&STREAKS, users == 0);
        let row = row.date(day).text(STATES[usize::from(state)]).u32(length);
        row.datetime(self.days.end(day)).u64(users);
    }
}
