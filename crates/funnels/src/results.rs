//! From followed tries to rows: members of sets, or each user's own result.

use std::collections::{BTreeMap, BTreeSet};

use cambium_engine::{Arrivals, Bug, Context, Names, Row, Slice, Table, bug, room_for_one, time_bin};
use smallvec::SmallVec;

use crate::definition::{NamedStep, Order};
use crate::follow::{FEW_STEPS, Reached, Window, is_first};
use crate::history::{History, Seen};
use crate::straight::Ahead;
use crate::times::Bins;
use crate::{ByStep, Funnel, Room, Span, State, Tries};

pub static ARRIVALS: Table = Table {
    name: "funnel_arrivals",
    columns: &[
        ("definition", "UInt64"),
        ("app", "LowCardinality(String)"),
        ("bucket", "DateTime('UTC')"),
        ("day", "Date"),
        ("day_bucket", "DateTime('UTC')"),
        ("platform", "LowCardinality(String)"),
        ("app_version", "LowCardinality(String)"),
        ("channel", "LowCardinality(String)"),
        ("campaign", "LowCardinality(String)"),
        ("country", "LowCardinality(String)"),
        ("properties", "Map(LowCardinality(String), String)"),
        ("step", "UInt8"),
        ("users", "Array(UInt64)"),
    ],
};

pub static RESULTS: Table = Table {
    name: "funnel_rows",
    columns: &[
        ("definition", "UInt64"),
        ("origin", "UInt64"),
        ("app", "LowCardinality(String)"),
        ("version", "UInt64"),
        ("deleted", "UInt8"),
        ("user", "UInt64"),
        ("bucket", "DateTime('UTC')"),
        ("day", "Date"),
        ("day_bucket", "DateTime('UTC')"),
        ("sliced", "UInt8"),
        ("platform", "LowCardinality(String)"),
        ("app_version", "LowCardinality(String)"),
        ("channel", "LowCardinality(String)"),
        ("campaign", "LowCardinality(String)"),
        ("country", "LowCardinality(String)"),
        ("properties", "Map(LowCardinality(String), String)"),
        ("steps", "UInt32"),
    ],
};

/// A set of one slice: the hour that tries began in, and the step from 1.
pub(crate) type Set = (i64, u8, Slice);

/// What the tries of an hour reached, by slice; no slice: those that belong to none. Tries come in the order of their
/// hours, so that the one looked for is among the last.
#[derive(Default)]
struct Hours(Vec<(i64, Option<Slice>, u32)>);

impl Hours {
    /// The steps reached in an hour by a slice.
    fn steps(&mut self, hour: i64, slice: Option<&Slice>) -> &mut u32 {
        let of_hour = self.0.iter().rev().take_while(|(known, ..)| *known >= hour);
        let known = of_hour
            .into_iter()
            .position(|(known, of, _)| *known == hour && of.as_ref() == slice);
        let index = match known {
            Some(from_last) => self.0.len() - 1 - from_last,
            None => {
                self.0.push((hour, slice.cloned(), 0));
                self.0.len() - 1
            }
        };
        &mut self.0[index].2
    }

    fn sorted(mut self) -> Vec<(i64, Option<Slice>, u32)> {
        self.0.sort_unstable();
        self.0
    }
}

/// The furthest try of a day, the earliest of those.
struct Furthest {
    steps: usize,
    times: SmallVec<[Option<i64>; FEW_STEPS]>,
}

/// The furthest try of each day that one may have begun on.
type Days = SmallVec<[(i32, Option<Furthest>); 2]>;

impl Funnel {
    /// Follows the tries that may have changed, and leaves what they are now.
    pub(crate) fn follow_changed(
        &self,
        state: &mut State,
        user: u64,
        tries: &mut Tries,
        context: &mut Context<'_>,
    ) {
        let Some((from, to)) = tries.changed.take() else {
            return;
        };
        let Some((first, last)) = tries.seen.first().zip(tries.seen.last()) else {
            return;
        };
        // Whole entry days: a day's furthest try is found among all of its tries.
        let from = self.zone.day(from.max(first)).start;
        let to = self.zone.day(to.min(last)).end;
        let (hours, days) = self.follow_range(&mut state.room, tries, (from, to));
        self.put_hours(hours, user, tries, &mut state.arrivals, context);
        self.count_days(state, tries, days);
    }

    /// A user whose tries were `before`'s has those alone that are left: they are followed anew, and rows that the others
    /// may ever have left are written once more. Of what is settled nothing is left to be followed, nor does it change.
    pub(crate) fn follow_without(
        &self,
        state: &mut State,
        user: u64,
        mut before: Tries,
        tries: &mut Tries,
        context: &mut Context<'_>,
    ) {
        let [of_before, of_left] = [&before, &*tries].map(|one| self.settled_before(Some(one), context));
        let open = (self.forgotten_before(of_before.min(of_left)), i64::MAX);
        let (possible, days_before) = self.follow_range(&mut state.room, &mut before, open);
        let mut results: BTreeMap<(i64, Option<Slice>), u32> = BTreeMap::new();
        let possible = possible.0.into_iter();
        results.extend(possible.map(|(hour, slice, _)| ((hour, slice), 0)));
        let mut days: BTreeMap<i32, Option<Furthest>> = BTreeMap::new();
        days.extend(days_before.into_iter().map(|(day, _)| (day, None)));
        let (hours, days_left) = self.follow_range(&mut state.room, tries, open);
        results.extend(
            hours
                .0
                .into_iter()
                .map(|(hour, slice, steps)| ((hour, slice), steps)),
        );
        days.extend(days_left);
        for ((hour, slice), steps) in results {
            let (row, names) = context.versioned_behind(&RESULTS, steps == 0);
            self.write_result(row, names, (hour, slice), steps, user);
        }
        // What the histograms hold is what the tries before put there.
        (tries.timed, tries.changed) = (before.timed, None);
        self.count_days(state, tries, days);
    }

    /// What the tries reached that began in a range: by hour, and the furthest of each day.
    fn follow_range(&self, room: &mut Room, tries: &mut Tries, range: (i64, i64)) -> (Hours, Days) {
        let Room { history, ahead } = room;
        let mut packed = std::mem::take(&mut tries.seen);
        let followed = packed.look(history, |seen| self.follow_seen(ahead, (tries, seen), range));
        tries.seen = packed;
        followed
    }

    fn follow_seen(
        &self,
        ahead: &mut Ahead,
        (tries, seen): (&Tries, &History),
        (from, to): (i64, i64),
    ) -> (Hours, Days) {
        let mut hours = Hours::default();
        // In their order, as tries come.
        let mut days = Days::new();
        let begin = seen.partition_point(|seen| seen.time < from);
        let end = seen.partition_point(|seen| seen.time < to);
        let is_straight = self.look_ahead(seen, begin, ahead);
        for start in begin..end {
            if !self.may_begin(&seen[start]) {
                continue;
            }
            let number = self.zone.day(seen[start].time).number;
            if days.last().is_none_or(|(last, _)| *last != number) {
                days.push((number, None));
            }
            self.add_possible(&mut hours, seen, start);
            let reached = if is_straight {
                Some(self.follow_straight(seen, start, ahead))
            } else {
                self.window(tries, seen, start)
                    .and_then(|window| self.follow(&window))
            };
            let Some(reached) = reached else {
                continue;
            };
            self.add_reached(&mut hours, seen, start, &reached);
            if let Some((_, day)) = days.last_mut() {
                keep_furthest(day, seen, &reached);
            }
        }
        (hours, days)
    }

    fn count_days(
        &self,
        state: &mut State,
        tries: &mut Tries,
        days: impl IntoIterator<Item = (i32, Option<Furthest>)>,
    ) {
        for (day, furthest) in days {
            let steps = self.steps.len();
            state.times.change(day, steps, &mut tries.timed, bins(furthest));
        }
    }

    /// Forgets the events before an instant, and with them the tries that they began. Nothing of these can change; but
    /// which of its day's is the furthest can.
    pub(crate) fn forget_tries(&self, room: &mut Room, tries: &mut Tries, before: i64) {
        let day = self.zone.day(before);
        let is_any_of_the_day = tries.seen.first().is_some_and(|first| first < before) && day.start < before;
        if is_any_of_the_day && !bug(Bug::ForgottenTryUncounted) {
            let (_, days) = self.follow_range(room, tries, (day.start, before));
            for (day, furthest) in days {
                tries.timed.forget_tries(day, bins(furthest));
            }
        }
        tries.seen.forget_before(before);
    }

    /// Whether an event fits the step that a try begins with, first time or not.
    fn may_begin(&self, seen: &Seen) -> bool {
        match self.order {
            Order::Any => seen.steps != 0,
            Order::InOrder | Order::Strict => seen.steps & 1 != 0,
        }
    }

    /// What the try that an event begins may use; none where it begins none.
    fn window<'t>(&self, tries: &'t Tries, seen: &'t History, start: usize) -> Option<Window<'t>> {
        let time = seen[start].time;
        let begins = |step: usize| {
            seen[start].steps & (1 << step) != 0
                && (!self.steps[step].first_time || is_first(seen, &tries.firsts, start, step))
        };
        let any = match self.order {
            Order::Any => (0..self.steps.len()).any(begins),
            Order::InOrder | Order::Strict => begins(0),
        };
        if !any {
            return None;
        }
        let (end, in_session) = match &self.within {
            Span::Milliseconds(within) => (time.saturating_add(*within), None),
            Span::Session(sessioniser) => {
                let group = seen.session(start)?;
                let own = sessioniser
                    .sessions(tries.sessions())
                    .find(|one| one.group == group && (one.start..=one.end).contains(&time))?;
                (own.end, Some(group))
            }
        };
        let from = seen.partition_point(|one| one.time < time);
        let to = seen.partition_point(|one| one.time <= end);
        Some(Window {
            seen,
            start,
            from,
            to,
            in_session,
            firsts: &tries.firsts,
        })
    }

    /// Every row that a try of this hour may ever have left is written again, be it as deleted: an
    /// owner before this one may have written what is no longer true.
    fn add_possible(&self, hours: &mut Hours, seen: &History, start: usize) {
        if self.only_adds || bug(Bug::UnchangedLeftOut) {
            return;
        }
        let hour = self.zone.hour(seen[start].time);
        if self.by_step == ByStep::Named(NamedStep::First) || self.by.is_empty() {
            hours.steps(hour, Some(seen.slice(start)));
            return;
        }
        let end = match self.within {
            Span::Milliseconds(within) => seen[start].time.saturating_add(within),
            Span::Session(_) => i64::MAX,
        };
        let from = seen.partition_point(|one| one.time < seen[start].time);
        let slices: BTreeSet<&Slice> = (from..seen.len())
            .take_while(|place| seen[*place].time <= end)
            .filter(|place| seen[*place].steps != 0)
            .map(|place| seen.slice(place))
            .collect();
        for slice in slices {
            hours.steps(hour, Some(slice));
        }
        hours.steps(hour, None);
    }

    fn add_reached(&self, hours: &mut Hours, seen: &History, start: usize, reached: &Reached) {
        let hour = self.zone.hour(seen[start].time);
        let steps = (0..self.steps.len()).filter(|step| reached.by[*step].is_some());
        let steps = steps.fold(0, |bits, step| bits | (1 << step));
        *hours.steps(hour, self.slice_of(seen, start, reached).as_ref()) |= steps;
    }

    fn put_hours(
        &self,
        hours: Hours,
        user: u64,
        tries: &mut Tries,
        arrivals: &mut Arrivals<Set>,
        context: &mut Context<'_>,
    ) {
        for (hour, slice, steps) in hours.sorted() {
            if self.only_adds {
                let new = self.new_steps(hour, slice.as_ref(), steps, tries);
                for step in (0..self.steps.len()).filter(|step| new & (1 << step) != 0) {
                    let set = (hour, step as u8 + 1, slice.clone().unwrap_or_default());
                    arrivals.add(set, user, context.rows);
                }
            } else {
                self.put_result(hour, slice, steps, user, context);
            }
        }
    }

    /// The steps reached in an hour by a slice that the user was not entered in yet; they are now.
    fn new_steps(&self, hour: i64, slice: Option<&Slice>, steps: u32, tries: &mut Tries) -> u32 {
        let none = Slice::default();
        let slice = slice.unwrap_or(&none);
        let known = tries
            .entered
            .iter()
            .position(|(known, of, _)| *known == hour && of == slice);
        let known = known.unwrap_or_else(|| {
            room_for_one(&mut tries.entered);
            tries.entered.push((hour, slice.clone(), 0));
            tries.entered.len() - 1
        });
        let new = steps & !tries.entered[known].2;
        tries.entered[known].2 |= steps;
        new
    }

    /// Leaves the rows of those who entered sets.
    pub(crate) fn put_arrivals(&self, arrivals: &mut Arrivals<Set>, context: &mut Context<'_>) {
        arrivals.flush(context, |(hour, step, slice), users, context| {
            let (row, names) = context.arrivals(&ARRIVALS);
            let day = self.zone.day(*hour);
            let row = row.datetime(*hour).date(day.number).datetime(day.start);
            self.by.write(slice, names, row).u8(*step).u64s(users);
        });
    }

    fn put_result(&self, hour: i64, slice: Option<Slice>, steps: u32, user: u64, context: &mut Context<'_>) {
        let (row, names) = context.versioned(&RESULTS, steps == 0);
        self.write_result(row, names, (hour, slice), steps, user);
    }

    fn write_result(
        &self,
        row: Row<'_>,
        names: &Names,
        (hour, slice): (i64, Option<Slice>),
        steps: u32,
        user: u64,
    ) {
        let day = self.zone.day(hour);
        let row = row
            .u64(user)
            .datetime(hour)
            .date(day.number)
            .datetime(day.start)
            .bool(slice.is_some());
        let none = Slice(std::iter::repeat_n(0, self.by.len()).collect());
        self.by.write(&slice.unwrap_or(none), names, row).u32(steps);
    }
}

fn keep_furthest(day: &mut Option<Furthest>, seen: &[Seen], reached: &Reached) {
    let steps = reached.by.iter().flatten().count();
    if day.as_ref().is_none_or(|furthest| furthest.steps < steps) {
        let times = reached
            .by
            .iter()
            .map(|by| by.map(|place| seen[place].time))
            .collect();
        *day = Some(Furthest { steps, times });
    }
}

/// The time of each step since the last step done before, as bins.
fn bins(furthest: Option<Furthest>) -> Bins {
    let times = furthest.map_or_else(SmallVec::new, |furthest| furthest.times);
    let mut bins = Bins::new();
    let mut before = times.first().copied().flatten();
    for (step, time) in times.iter().enumerate().skip(1) {
        if let (Some(time), Some(since)) = (time, before) {
            bins.push((step as u8, time_bin(time - since)));
        }
        before = time.or(before);
    }
    bins
}
