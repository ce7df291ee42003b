//! Activation: how many new users did what makes them stay, and how long that took them.

use cambium_engine::{
    By, ByName, Calendar, Compiler, Context, DefinitionError, Duration, EventNames, Input, Matcher, Period,
    Processor, Renames, Replaced, Slice, Table, Tally, time_bin,
};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

/// `[[activation]]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// All of them, in any order.
    pub actions: Vec<Action>,
    /// From the user's first event ever on, the end included.
    pub within: Duration,
    #[serde(default)]
    pub by: Vec<String>,
}

/// What is to be done.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "an action is an event's name, a list of them, or { event = …, where = … }"
)]
pub enum Action {
    Event(EventNames),
    Fitting(Fitting),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fitting {
    pub event: EventNames,
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
}

/// Actions are bits of a number.
const MAX_ACTIONS: usize = 32;

/// How many users were new on a day (bin -1), and how many of them were activated after how long: in which
/// bin.
pub static ACTIVATION: Table = Table {
    name: "activation_rows",
    columns: &[
        ("definition", "UInt64"),
        ("origin", "UInt64"),
        ("app", "LowCardinality(String)"),
        ("version", "UInt64"),
        ("deleted", "UInt8"),
        ("day", "Date"),
        ("bin", "Int32"),
        ("platform", "LowCardinality(String)"),
        ("app_version", "LowCardinality(String)"),
        ("channel", "LowCardinality(String)"),
        ("campaign", "LowCardinality(String)"),
        ("country", "LowCardinality(String)"),
        ("properties", "Map(LowCardinality(String), String)"),
        ("ends_ms", "Int64"),
        ("users", "UInt64"),
    ],
};

const NEW: i32 = -1;

/// What is known of a user; none: nothing.
#[derive(Default, Serialize, Deserialize)]
pub struct User(Option<Box<Known>>);

#[derive(Serialize, Deserialize)]
enum Known {
    /// What comes now changes nothing any more.
    Settled,
    Begun(Begun),
}

#[derive(Serialize, Deserialize)]
struct Begun {
    /// The time of the first event ever.
    start: i64,
    slice: Slice,
    /// When each action was done first.
    done: SmallVec<[Option<i64>; 2]>,
}

/// A bin and a slice.
type Cell = (i32, Slice);

#[derive(Default, Serialize, Deserialize)]
pub struct State {
    users: Tally<Cell>,
}

pub struct Activation {
    actions: Vec<Matcher>,
    /// A bit for each action that an event of this name may be.
    fitting_names: ByName<u32>,
    within_ms: i64,
    days: Calendar,
    by: By,
}

impl Processor for Activation {
    const KIND: &'static str = "activation";
    const SEMANTICS: u32 = 1;
    type Definition = Definition;
    type User = User;
    type State = State;

    fn new(definition: Definition, compiler: &mut Compiler<'_>) -> Result<Self, DefinitionError> {
        if !(1..=MAX_ACTIONS).contains(&definition.actions.len()) {
            let message = format!("actions: names from one to {MAX_ACTIONS} events");
            return Err(DefinitionError::new(message));
        }
        if definition.within.0 <= 0 {
            return Err(DefinitionError::new("within: must be longer than nothing"));
        }
        let actions = definition.actions.iter().map(|action| match action {
            Action::Event(event) => Matcher::new(event, None, compiler),
            Action::Fitting(fitting) => Matcher::new(&fitting.event, fitting.filter.as_deref(), compiler),
        });
        Ok(Activation {
            actions: actions.collect::<Result<_, _>>()?,
            fitting_names: ByName::default(),
            within_ms: definition.within.0,
            days: compiler.calendar(Period::Day)?,
            by: By::new(&definition.by, compiler)?,
        })
    }

    fn apply(&self, state: &mut State, user: &mut User, input: &Input<'_>, context: &mut Context<'_>) {
        let known = user.0.get_or_insert_with(|| {
            Box::new(Known::Begun(Begun {
                start: i64::MAX,
                slice: Slice::default(),
                done: SmallVec::from_elem(None, self.actions.len()),
            }))
        });
        let Known::Begun(begun) = &mut **known else {
            return;
        };
        let done = self.done_by(input);
        let is_earlier = |place: usize| begun.done[place].is_none_or(|known| input.time < known);
        let does_more = (0..self.actions.len()).any(|place| done >> place & 1 == 1 && is_earlier(place));
        if input.time >= begun.start && !does_more {
            self.settle(known, context.cutoff());
            return;
        }
        let before = self.counted(begun);
        if input.time < begun.start {
            begun.start = input.time;
            begun.slice = self.by.slice(input, context.names);
        }
        for place in (0..self.actions.len()).filter(|place| done >> place & 1 == 1) {
            let first = begun.done[place].get_or_insert(input.time);
            *first = input.time.min(*first);
        }
        state.users.move_user(&before, &self.counted(begun));
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
        let counted = |user: &User| match user.0.as_deref() {
            Some(Known::Begun(begun)) => self.counted(begun),
            _ => SmallVec::new(),
        };
        state.users.move_user(&counted(&before), &counted(user));
    }

    fn flush(&self, state: &mut State, context: &mut Context<'_>) {
        let put = |day, cell: &Cell, users, context: &mut Context<'_>| self.put(day, cell, users, context);
        state.users.flush(context, put);
    }

    fn advance(&self, state: &mut State, context: &mut Context<'_>) {
        let end = |day| self.days.end(day).saturating_add(self.within_ms);
        let put = |day, cell: &Cell, users, context: &mut Context<'_>| self.put(day, cell, users, context);
        state.users.forget(context, end, put);
    }

    fn rest(&self, _: u64, user: &mut User, context: &mut Context<'_>) {
        if let Some(known) = &mut user.0 {
            self.settle(known, context.cutoff());
        }
    }

    fn settled_after_ms(&self) -> i64 {
        self.within_ms
    }

    fn rename(&self, state: &mut State, renames: &Renames) {
        state.users.rename(|(_, slice)| self.by.rename(slice, renames));
    }

    fn rename_user(&self, user: &mut User, renames: &Renames) {
        if let Some(Known::Begun(begun)) = user.0.as_deref_mut() {
            self.by.rename(&mut begun.slice, renames);
        }
    }

    /// Who is not new any more is known for ever.
    fn remember(&self, mut user: User, cutoff: i64) -> Option<User> {
        self.settle(user.0.as_mut()?, cutoff);
        Some(user)
    }
}

impl Activation {
    /// A bit for each action that an event is.
    fn done_by(&self, input: &Input<'_>) -> u32 {
        let bit = |place: usize, is: bool| u32::from(is) << place;
        let may_be = self.fitting_names.get(input, |name| {
            let actions = self.actions.iter().enumerate();
            actions
                .map(|(place, action)| bit(place, action.names(name)))
                .sum()
        });
        let actions = self.actions.iter().enumerate();
        let may_be = actions.filter(|(place, _)| may_be >> place & 1 == 1);
        may_be
            .map(|(place, action)| bit(place, action.fits_but_for_its_name(input.event)))
            .sum()
    }

    /// Where a user is counted: as new, and after how long as activated.
    fn counted(&self, begun: &Begun) -> SmallVec<[(i32, Cell); 2]> {
        let mut counted = SmallVec::new();
        if begun.start == i64::MAX {
            return counted;
        }
        let day = self.days.number(begun.start);
        counted.push((day, (NEW, begun.slice.clone())));
        let last = begun.done.iter().copied().collect::<Option<SmallVec<[i64; 2]>>>();
        let took = last.and_then(|done| done.iter().max().map(|last| last - begun.start));
        if let Some(took) = took.filter(|took| *took <= self.within_ms) {
            counted.push((day, (i32::from(time_bin(took)), begun.slice.clone())));
        }
        counted
    }

    /// Neither an earlier first event can come, nor an action in time.
    fn settle(&self, known: &mut Known, cutoff: i64) {
        if let Known::Begun(begun) = known
            && begun.start.saturating_add(self.within_ms) < cutoff
        {
            *known = Known::Settled;
        }
    }

    fn put(&self, day: i32, (bin, slice): &Cell, users: u64, context: &mut Context<'_>) {
        let ends_ms = self
            .days
            .end(day)
            .saturating_add(self.within_ms)
            .saturating_add(context.lateness_ms);
        let (row, names) = context.versioned(&ACTIVATION, users == 0);
        let row = row.date(self.days.first_day(day)).i32(*bin);
        self.by.write(slice, names, row).i64(ends_ms).u64(users);
    }
}
