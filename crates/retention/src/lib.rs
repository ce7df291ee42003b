//! Retention: of the users who began in a period, how many came back in which of those that follow.
//!
//! A user is in one cohort, or in one a period; a late event can put them into an earlier one, with all that they did
//! since. So the events that may still be judged otherwise are kept: of each period as many as a return needs, the
//! newest, since a start can only move to the front. What lies before every start that can still come is a number.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod definition;

use cambium_engine::{
    By, ByName, Calendar, Compiler, Context, DAY_MS, DefinitionError, Input, Matcher, Processor, Renames,
    Replaced, Slice, Table, Tally,
};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

pub use definition::{Definition, Fitting, Kind, Length, Return, Start};

/// How many users each cohort has, beside the periods that it is followed in.
pub static COHORTS: Table = Table {
    name: "retention_cohort_rows",
    columns: &[
        ("definition", "UInt64"),
        ("origin", "UInt64"),
        ("app", "LowCardinality(String)"),
        ("version", "UInt64"),
        ("deleted", "UInt8"),
        ("cohort", "Date"),
        ("platform", "LowCardinality(String)"),
        ("app_version", "LowCardinality(String)"),
        ("channel", "LowCardinality(String)"),
        ("campaign", "LowCardinality(String)"),
        ("country", "LowCardinality(String)"),
        ("properties", "Map(LowCardinality(String), String)"),
        ("users", "UInt64"),
        ("periods", "Array(UInt32)"),
        ("begins", "Array(DateTime('UTC'))"),
        ("ends", "Array(DateTime('UTC'))"),
        ("lateness_ms", "Int64"),
    ],
};

/// How many of them came back.
pub static RETURNS: Table = Table {
    name: "retention_return_rows",
    columns: &[
        ("definition", "UInt64"),
        ("origin", "UInt64"),
        ("app", "LowCardinality(String)"),
        ("version", "UInt64"),
        ("deleted", "UInt8"),
        ("cohort", "Date"),
        ("period", "UInt16"),
        ("platform", "LowCardinality(String)"),
        ("app_version", "LowCardinality(String)"),
        ("channel", "LowCardinality(String)"),
        ("campaign", "LowCardinality(String)"),
        ("country", "LowCardinality(String)"),
        ("properties", "Map(LowCardinality(String), String)"),
        ("users", "UInt64"),
    ],
};

/// An event's place among a user's: its time, and at one instant its place in the log.
type Place = (i64, i64);

/// What is known of a user; none: nothing.
#[derive(Default, Serialize, Deserialize)]
pub struct User(Option<Box<Followed>>);

#[derive(Default, Serialize, Deserialize)]
struct Followed {
    /// By number.
    cohorts: SmallVec<[Cohort; 1]>,
    /// Return events that are not among the cohorts' numbers yet, in their order.
    recent: SmallVec<[Place; 1]>,
    /// The user's only cohort is not followed any more.
    is_over: bool,
}

#[derive(Clone, Serialize, Deserialize)]
struct Cohort {
    /// Of the period in which it began.
    number: i32,
    start: Place,
    slice: Slice,
    /// How many return events of each period no start can come before any more; no more than a return needs.
    returns: SmallVec<[(u16, u16); 2]>,
}

/// Where a user is counted: in a cohort, and in which of its numbers.
struct Counted {
    number: i32,
    slice: Slice,
    columns: SmallVec<[u64; 1]>,
}

/// How many users a cohort has (none), and how many of them one of its numbers counts.
type Cell = (Slice, Option<u16>);

#[derive(Default, Serialize, Deserialize)]
pub struct State {
    users: Tally<Cell>,
}

pub struct Retention {
    start: Started,
    returns: Matcher,
    /// Whether an event of this name may start, and may be a return.
    fitting_names: ByName<(bool, bool)>,
    at_least: u16,
    span: Span,
    /// The first and the last period of each number that is counted.
    columns: Vec<[u16; 2]>,
    /// The last period that a cohort is followed in.
    periods: u16,
    by: By,
}

enum Started {
    Seen,
    First(Matcher),
    Each(Matcher),
}

/// What a period is.
enum Span {
    Calendar(Calendar),
    /// 24 hours from the user's own start on; cohorts are those of a local day.
    Rolling(Calendar),
}

impl Span {
    fn calendar(&self) -> &Calendar {
        let (Span::Calendar(calendar) | Span::Rolling(calendar)) = self;
        calendar
    }

    /// In which of a cohort's periods an instant lies that is not before its start.
    fn period(&self, cohort: &Cohort, time: i64) -> i64 {
        match self {
            Span::Calendar(calendar) => i64::from(calendar.number(time)) - i64::from(cohort.number),
            Span::Rolling(_) => (time - cohort.start.0).div_euclid(DAY_MS),
        }
    }

    /// When a period of a cohort begins for the first of its users.
    fn begin(&self, number: i32, period: u16) -> i64 {
        match self {
            Span::Calendar(calendar) => calendar.start(number + i32::from(period)),
            Span::Rolling(days) => days.start(number) + i64::from(period) * DAY_MS,
        }
    }

    /// When it is over for the last.
    fn end(&self, number: i32, period: u16) -> i64 {
        match self {
            Span::Calendar(calendar) => calendar.end(number + i32::from(period)),
            Span::Rolling(days) => days.end(number) + (i64::from(period) + 1) * DAY_MS,
        }
    }
}

impl Processor for Retention {
    const KIND: &'static str = "retention";
    const SEMANTICS: u32 = 1;
    type Definition = Definition;
    type User = User;
    type State = State;

    fn new(definition: Definition, compiler: &mut Compiler<'_>) -> Result<Self, DefinitionError> {
        definition.compile(compiler)
    }

    fn apply(&self, state: &mut State, user: &mut User, input: &Input<'_>, context: &mut Context<'_>) {
        let (may_start, may_return) = self.fitting_names.get(input, |name| self.may_fit(name));
        let starts = may_start && self.starts(input);
        let returns = may_return && self.returns.fits_but_for_its_name(input.event);
        if !starts && !returns {
            return;
        }
        let followed = user.0.get_or_insert_default();
        if followed.is_over {
            return;
        }
        let place = (input.time, input.place);
        let starts = starts && self.is_earlier_start(followed, place);
        let returns = returns && !self.replaces_one(followed, place);
        if !starts && !returns {
            return;
        }
        self.settle_returns(followed, context.cutoff());
        let before = self.counted(followed);
        if starts {
            self.begin(followed, place, self.by.slice(input, context.names));
        }
        if returns {
            let at = followed.recent.partition_point(|other| *other < place);
            followed.recent.insert(at, place);
            self.leave_newest(followed, place);
        }
        move_user(&mut state.users, before, self.counted(followed));
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
                .map(|followed| self.counted(followed))
                .unwrap_or_default()
        };
        move_user(&mut state.users, counted(&before), counted(user));
    }

    fn touch(user: &User) -> i64 {
        user.0
            .as_ref()
            .map_or(0, |followed| followed.recent.last().map_or(0, |last| last.0))
    }

    fn flush(&self, state: &mut State, context: &mut Context<'_>) {
        state.users.flush(context, |number, cell, users, context| {
            self.put(number, cell, users, context)
        });
    }

    /// Nobody enters a cohort any more, or returns to it, whose last period is over.
    fn advance(&self, state: &mut State, context: &mut Context<'_>) {
        state.users.forget(
            context,
            |number| self.span.end(number, self.periods),
            |number, cell, users, context| self.put(number, cell, users, context),
        );
    }

    fn rest(&self, _: u64, user: &mut User, context: &mut Context<'_>) {
        if let Some(followed) = &mut user.0 {
            self.settle_returns(followed, context.cutoff());
            if followed.cohorts.is_empty() && followed.recent.is_empty() && !followed.is_over {
                user.0 = None;
            }
        }
    }

    fn rename(&self, state: &mut State, renames: &Renames) {
        state.users.rename(|(slice, _)| self.by.rename(slice, renames));
    }

    fn rename_user(&self, user: &mut User, renames: &Renames) {
        let cohorts = user.0.iter_mut().flat_map(|followed| &mut followed.cohorts);
        cohorts.for_each(|cohort| self.by.rename(&mut cohort.slice, renames));
    }

    /// Who was first seen when is known for ever; and a cohort for as long as it is followed.
    fn remember(&self, mut user: User, cutoff: i64) -> Option<User> {
        let followed = user.0.as_mut()?;
        self.settle_returns(followed, cutoff);
        (followed.is_over || !followed.cohorts.is_empty()).then_some(user)
    }
}

impl Retention {
    fn may_fit(&self, name: &str) -> (bool, bool) {
        let may_start = match &self.start {
            Started::Seen => true,
            Started::First(matcher) | Started::Each(matcher) => matcher.names(name),
        };
        (may_start, self.returns.names(name))
    }

    /// Whether an event fits that begins a cohort, if its name does.
    fn starts(&self, input: &Input<'_>) -> bool {
        match &self.start {
            Started::Seen => true,
            Started::First(matcher) | Started::Each(matcher) => matcher.fits_but_for_its_name(input.event),
        }
    }

    fn number(&self, time: i64) -> i32 {
        self.span.calendar().number(time)
    }

    /// The cohort that a start at this instant would make, or move.
    fn cohort(&self, followed: &Followed, time: i64) -> Option<usize> {
        match self.start {
            Started::Each(_) => {
                let number = self.number(time);
                followed.cohorts.iter().position(|cohort| cohort.number == number)
            }
            _ => (!followed.cohorts.is_empty()).then_some(0),
        }
    }

    fn is_earlier_start(&self, followed: &Followed, place: Place) -> bool {
        let known = self.cohort(followed, place.0);
        known.is_none_or(|known| place < followed.cohorts[known].start)
    }

    fn begin(&self, followed: &mut Followed, start: Place, slice: Slice) {
        let number = self.number(start.0);
        match self.cohort(followed, start.0) {
            Some(known) => {
                let cohort = &mut followed.cohorts[known];
                (cohort.number, cohort.start, cohort.slice) = (number, start, slice);
            }
            None => {
                let at = followed.cohorts.partition_point(|cohort| cohort.number < number);
                followed.cohorts.insert(
                    at,
                    Cohort {
                        number,
                        start,
                        slice,
                        returns: SmallVec::new(),
                    },
                );
            }
        }
    }

    /// Whether a return changes no number: its period has as many as a return needs, and all of them count for whoever it
    /// would count for. Then it takes the place of the oldest, where it is newer.
    fn replaces_one(&self, followed: &mut Followed, place: Place) -> bool {
        let Span::Calendar(calendar) = &self.span else {
            return false;
        };
        let number = calendar.number(place.0);
        let is_same = |other: &Place| calendar.number(other.0) == number;
        let Some(first) = followed.recent.iter().position(is_same) else {
            return false;
        };
        let same = followed.recent[first..]
            .iter()
            .take_while(|other| is_same(other))
            .count();
        let oldest = followed.recent[first];
        if same < usize::from(self.at_least) {
            return false;
        }
        if place < oldest {
            return true;
        }
        let mut begun = followed.cohorts.iter().filter(|cohort| cohort.number == number);
        if begun.any(|cohort| oldest < cohort.start) {
            return false;
        }
        followed.recent.remove(first);
        let at = followed.recent.partition_point(|other| *other < place);
        followed.recent.insert(at, place);
        true
    }

    /// Of the returns of one period the newest are kept, as many as a return needs.
    fn leave_newest(&self, followed: &mut Followed, place: Place) {
        if let Span::Calendar(calendar) = &self.span {
            let number = calendar.number(place.0);
            let is_same = |other: &&Place| calendar.number(other.0) == number;
            if followed.recent.iter().filter(is_same).count() > usize::from(self.at_least) {
                let oldest = followed.recent.iter().position(|other| is_same(&other));
                oldest.map(|oldest| followed.recent.remove(oldest));
            }
        }
    }

    /// No start can come before a return that is older than the cutoff: it becomes a number of the cohorts that it is
    /// of. Cohorts that are not followed any more are forgotten.
    fn settle_returns(&self, followed: &mut Followed, cutoff: i64) {
        let settled = followed.recent.partition_point(|(time, _)| *time < cutoff);
        let returns: SmallVec<[Place; 1]> = followed.recent.drain(..settled).collect();
        for place in returns {
            for cohort in followed.cohorts.iter_mut().filter(|cohort| cohort.start <= place) {
                let period = self.span.period(cohort, place.0);
                if period <= i64::from(self.periods) {
                    cohort.count(period as u16, self.at_least);
                }
            }
        }
        let is_over = |cohort: &Cohort| match self.span {
            Span::Calendar(_) => self.span.end(cohort.number, self.periods) <= cutoff,
            Span::Rolling(_) => cohort.start.0 + (i64::from(self.periods) + 1) * DAY_MS <= cutoff,
        };
        // The first is the oldest.
        while followed.cohorts.first().is_some_and(is_over) {
            followed.cohorts.remove(0);
            if !matches!(self.start, Started::Each(_)) {
                followed.is_over = true;
                followed.recent = SmallVec::new();
            }
        }
    }

    fn counted(&self, followed: &Followed) -> SmallVec<[Counted; 1]> {
        let counted = |cohort: &Cohort| Counted {
            number: cohort.number,
            slice: cohort.slice.clone(),
            columns: self.columns_of(cohort, &followed.recent),
        };
        followed.cohorts.iter().map(counted).collect()
    }

    /// A bit for each number that counts the user.
    fn columns_of(&self, cohort: &Cohort, recent: &[Place]) -> SmallVec<[u64; 1]> {
        // How many returns there are up to each period.
        let mut returns: SmallVec<[u32; 40]> = SmallVec::from_elem(0, usize::from(self.periods) + 2);
        for (period, count) in &cohort.returns {
            returns[usize::from(*period) + 1] += u32::from(*count);
        }
        for place in recent.iter().filter(|place| cohort.start <= **place) {
            let period = self.span.period(cohort, place.0);
            if period <= i64::from(self.periods) {
                returns[period as usize + 1] += 1;
            }
        }
        for period in 1..returns.len() {
            returns[period] += returns[period - 1];
        }
        let mut columns = SmallVec::from_elem(0, self.columns.len().div_ceil(64));
        for (place, [first, last]) in self.columns.iter().enumerate() {
            let within = returns[usize::from(*last) + 1] - returns[usize::from(*first)];
            if within >= u32::from(self.at_least) {
                columns[place / 64] |= 1 << (place % 64);
            }
        }
        columns
    }

    fn put(&self, number: i32, (slice, column): &Cell, users: u64, context: &mut Context<'_>) {
        let first_day = self.span.calendar().first_day(number);
        match column {
            None => {
                let lateness_ms = context.lateness_ms;
                let (row, names) = context.versioned(&COHORTS, users == 0);
                let row = self.by.write(slice, names, row.date(first_day)).u64(users);
                let begins = self
                    .columns
                    .iter()
                    .map(|[first, _]| self.span.begin(number, *first));
                let ends = self.columns.iter().map(|[_, last]| self.span.end(number, *last));
                row.u32s(self.columns.iter().map(|[first, _]| u32::from(*first)))
                    .datetimes(begins)
                    .datetimes(ends)
                    .i64(lateness_ms);
            }
            Some(column) => {
                let [first, _] = self.columns[usize::from(*column)];
                let (row, names) = context.versioned(&RETURNS, users == 0);
                let row = row.date(first_day).u16(first);
                self.by.write(slice, names, row).u64(users);
            }
        }
    }
}

impl Cohort {
    fn count(&mut self, period: u16, at_least: u16) {
        match self.returns.binary_search_by_key(&period, |(period, _)| *period) {
            Ok(at) => self.returns[at].1 = (self.returns[at].1 + 1).min(at_least),
            Err(at) => self.returns.insert(at, (period, 1)),
        }
    }
}

impl Counted {
    fn has(&self, column: usize) -> bool {
        self.columns[column / 64] >> (column % 64) & 1 == 1
    }
}

/// A user is counted where they belong, and not any more where they were.
fn move_user(users: &mut Tally<Cell>, before: SmallVec<[Counted; 1]>, after: SmallVec<[Counted; 1]>) {
    let is_same = |one: &Counted, other: &Counted| one.number == other.number && one.slice == other.slice;
    for one in &before {
        let stays = after.iter().find(|other| is_same(one, other));
        if stays.is_none() {
            users.leave(one.number, (one.slice.clone(), None));
        }
        for column in 0..one.columns.len() * 64 {
            if one.has(column) && !stays.is_some_and(|other| other.has(column)) {
                users.leave(one.number, (one.slice.clone(), Some(column as u16)));
            }
        }
    }
    for one in &after {
        let was = before.iter().find(|other| is_same(one, other));
        if was.is_none() {
            users.enter(one.number, (one.slice.clone(), None));
        }
        for column in 0..one.columns.len() * 64 {
            if one.has(column) && !was.is_some_and(|other| other.has(column)) {
                users.enter(one.number, (one.slice.clone(), Some(column as u16)));
            }
        }
    }
}
