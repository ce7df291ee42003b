//! Funnels: how many users went which way, step by step.
//!
//! The events that fit a step are kept for as long as one that comes late may still change what
//! they make; before each flush the tries of the users that were touched are followed anew. Where a
//! late event can only add, users are members of sets; where it can undo a try (a strict order, an
//! exclusion, a first time, a slice that moves), each user's result is a versioned row of its own.
//!
//! What a try reaches is worked out in [`follow`], with no regard to batches or flushes.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod definition;
mod follow;
mod history;
mod results;
mod straight;
mod times;

use cambium_engine::sessionise::{Gone, Piece, Pieces, Session, Sessioniser};
use cambium_engine::{
    Arrivals, By, ByName, Compiler, Context, DefinitionError, HOUR_MS, Input, LONGEST_DAY_MS, Matcher,
    Processor, Renames, Replaced, Slice, Zone,
};
use serde::{Deserialize, Serialize};

pub use definition::{ByStep, Definition, Exclude, Order, Step, Within};
use history::{Beside, History, New, Packed};
use results::Set;
pub use results::{ARRIVALS, RESULTS};
use straight::Ahead;
pub use times::TIMES;
use times::{Timed, Times};

/// What is kept of a user.
#[derive(Default, Serialize, Deserialize)]
pub struct Tries {
    seen: Packed,
    /// The user's sessions, for funnels within one.
    sessions: Option<Box<Pieces<()>>>,
    /// The time of the first event ever, for each step that wants it.
    firsts: Vec<(u8, i64)>,
    /// What was entered into sets: hour, slice, steps.
    #[serde(with = "behind")]
    entered: Vec<(i64, Slice, u32)>,
    timed: Timed,
    /// Tries that began in this range may have changed since they were followed last.
    #[serde(skip)]
    changed: Option<(i64, i64)>,
}

/// What is kept of all users of a partition.
#[derive(Default, Serialize, Deserialize)]
pub struct State {
    times: Times,
    #[serde(skip)]
    arrivals: Arrivals<Set>,
    #[serde(skip)]
    room: Room,
}

/// Where tries are followed, used again from user to user.
#[derive(Default)]
struct Room {
    /// Where histories are unpacked.
    history: History,
    ahead: Ahead,
}

pub struct Funnel {
    steps: Vec<StepMatcher>,
    excludes: Vec<(Exclude, Matcher)>,
    order: Order,
    ignore: Vec<String>,
    within: Span,
    by: By,
    by_step: ByStep,
    zone: Zone,
    /// A late event can only add.
    only_adds: bool,
    by_name: ByName<Named>,
}

/// What an event's name alone says.
#[derive(Clone, Copy)]
struct Named {
    /// Bit n: events of the name may fit step n + 1, and the n-th exclusion.
    steps: u32,
    excludes: u32,
    /// They stand between two steps of a strict funnel.
    breaks: bool,
}

struct StepMatcher {
    matcher: Matcher,
    optional: bool,
    first_time: bool,
}

/// What a try must stay within.
enum Span {
    Milliseconds(i64),
    Session(Box<Sessioniser>),
}

/// A history is written anew when one part of so many of the time that it spans is settled, rather than at each event.
const SETTLED_ONE_OF: i64 = 8;

impl Processor for Funnel {
    const KIND: &'static str = "funnel";
    const SEMANTICS: u32 = 1;
    const SETTLES: bool = true;
    type Definition = Definition;
    type User = Tries;
    type State = State;

    fn new(definition: Definition, compiler: &mut Compiler<'_>) -> Result<Self, DefinitionError> {
        definition.compile(compiler)
    }

    fn rests_on(definition: &Definition) -> Option<(&'static str, &str)> {
        (definition.within == Within::Session).then_some(("session", ""))
    }

    fn apply(&self, _: &mut State, tries: &mut Tries, input: &Input<'_>, context: &mut Context<'_>) {
        let session = self.sessionise(tries, input, context);
        if let Some(new) = self.see(tries, input, session, context) {
            tries.seen.insert(new);
        }
    }

    fn replace(
        &self,
        state: &mut State,
        before: Tries,
        tries: &mut Tries,
        replaced: &Replaced<'_>,
        context: &mut Context<'_>,
    ) {
        self.follow_without(state, replaced.user, before, tries, context);
    }

    fn touch(tries: &Tries) -> i64 {
        tries.seen.touch()
    }

    fn settle(&self, state: &mut State, user: u64, tries: &mut Tries, context: &mut Context<'_>) {
        self.follow_changed(state, user, tries, context);
        self.forget(&mut state.room, tries, context, SETTLED_ONE_OF);
    }

    fn rest(&self, _: u64, tries: &mut Tries, context: &mut Context<'_>) {
        self.forget(&mut Room::default(), tries, context, i64::MAX);
    }

    /// What is kept of all users is of days and steps.
    fn rename(&self, _: &mut State, _: &Renames) {}

    fn rename_user(&self, tries: &mut Tries, renames: &Renames) {
        let entered = tries.entered.iter_mut().map(|(_, slice, _)| slice);
        for slice in tries.seen.slices().chain(entered) {
            self.by.rename(slice, renames);
        }
    }

    fn settled_after_ms(&self) -> i64 {
        let within = match &self.within {
            Span::Milliseconds(within) => *within,
            Span::Session(sessioniser) => sessioniser.rules.gap.0,
        };
        within.saturating_add(LONGEST_DAY_MS)
    }

    fn flush(&self, state: &mut State, context: &mut Context<'_>) {
        self.put_arrivals(&mut state.arrivals, context);
        state.times.flush(context);
    }

    fn settles_before(&self, state: &State, context: &Context<'_>) -> bool {
        state.times.has_settled_before(self.settled_day(context))
    }

    fn advance(&self, state: &mut State, context: &mut Context<'_>) {
        let times = &mut state.times;
        let day = self.settled_day(context);
        if times.has_settled_before(day) {
            times.flush(context);
            times.forget_before(day);
        }
    }

    fn remember(&self, tries: Tries, _: i64) -> Option<Tries> {
        (!tries.firsts.is_empty()).then(|| Tries {
            firsts: tries.firsts,
            ..Tries::default()
        })
    }
}

impl Funnel {
    /// Puts the event into the user's sessions, where the funnel is bound to one.
    fn sessionise(&self, tries: &mut Tries, input: &Input<'_>, context: &Context<'_>) -> Option<u64> {
        let Span::Session(sessioniser) = &self.within else {
            return None;
        };
        if !sessioniser.counts(input.event.event) {
            return None;
        }
        let group = sessioniser.group(input.event.session_id);
        let sessions = tries.sessions.get_or_insert_default();
        let cutoff = context.cutoff();
        sessioniser.insert(sessions, group, input.time, (), cutoff, &mut Gone::new());
        // A late event may join sessions and move cuts: from its session's beginning on, all may change. It may also stand
        // between two steps of a strict try in another session, of those that clients name.
        let around = sessioniser
            .sessions(sessions)
            .filter(|one| (one.start..=one.end).contains(&input.time));
        let from = around.map(|one| one.start).min();
        tries.mark(from.unwrap_or(input.time), i64::MAX);
        Some(group)
    }

    /// What an event's name says of it.
    fn named(&self, name: &str) -> Named {
        let bits = |matchers: &mut dyn Iterator<Item = &Matcher>| {
            let fitting = matchers.enumerate().filter(|(_, matcher)| matcher.names(name));
            fitting.fold(0, |bits, (place, _)| bits | (1 << place))
        };
        Named {
            steps: bits(&mut self.steps.iter().map(|step| &step.matcher)),
            excludes: bits(&mut self.excludes.iter().map(|(_, matcher)| matcher)),
            breaks: self.order == Order::Strict && !self.ignore.iter().any(|ignored| ignored == name),
        }
    }

    /// What the funnel sees in an event; none where it does not matter.
    fn see(
        &self,
        tries: &mut Tries,
        input: &Input<'_>,
        session: Option<u64>,
        context: &mut Context<'_>,
    ) -> Option<New> {
        let named = self.by_name.get(input, |name| self.named(name));
        let (mut steps, mut excludes, breaks) = (named.steps, named.excludes, named.breaks);
        for place in places(steps) {
            if !self.steps[place].matcher.fits_but_for_its_name(input.event) {
                steps &= !(1 << place);
            }
        }
        for place in places(excludes) {
            if !self.excludes[place].1.fits_but_for_its_name(input.event) {
                excludes &= !(1 << place);
            }
        }
        if steps == 0 && excludes == 0 && !breaks {
            return None;
        }
        self.note_firsts(tries, steps, input.time);
        if let Span::Milliseconds(within) = self.within {
            tries.mark(input.time.saturating_sub(within), input.time);
        } else if session.is_none() {
            tries.mark(i64::MIN, i64::MAX);
        }
        let slice = if steps == 0 {
            Slice::default()
        } else {
            self.by.slice(input, context.names)
        };
        Some(New {
            time: input.time,
            steps,
            breaks,
            slice,
            beside: Beside { excludes, session },
        })
    }

    /// Where an event is earlier than the first known, what had counted as the first no longer is.
    fn note_firsts(&self, tries: &mut Tries, steps: u32, time: i64) {
        for (place, step) in self.steps.iter().enumerate() {
            if !step.first_time || steps & (1 << place) == 0 {
                continue;
            }
            let reach = match self.within {
                Span::Milliseconds(within) => within,
                Span::Session(_) => i64::MAX / 4,
            };
            let firsts = &mut tries.firsts;
            match firsts.iter_mut().find(|(known, _)| usize::from(*known) == place) {
                None => firsts.push((place as u8, time)),
                Some((_, first)) if time < *first => {
                    let old = std::mem::replace(first, time);
                    tries.mark(time.saturating_sub(reach), old);
                }
                Some(_) => {}
            }
        }
    }

    /// The instant before which no try that began can change any more.
    fn settled_before(&self, tries: Option<&Tries>, context: &Context<'_>) -> i64 {
        match &self.within {
            Span::Milliseconds(within) => context.cutoff().saturating_sub(*within),
            Span::Session(sessioniser) => {
                let (cutoff, remembered) = (context.cutoff(), context.watermark - context.horizon_ms);
                let sessions = sessioniser.sessions(tries.map_or(&[], Tries::sessions));
                let open = sessions.filter(|one| !sessioniser.is_settled(one, cutoff, remembered));
                open.map(|one| one.start)
                    .min()
                    .map_or(cutoff, |start| start.min(cutoff))
            }
        }
    }

    /// The first local day that tries may still change in, for all users together.
    fn settled_day(&self, context: &Context<'_>) -> i32 {
        let horizon = match &self.within {
            // How long a session may last is known of each user alone: their days are kept as long
            // as anything is.
            Span::Session(_) => context.horizon_ms,
            Span::Milliseconds(_) => 0,
        };
        self.zone
            .day(self.settled_before(None, context).saturating_sub(horizon))
            .number
    }

    /// Events of tries that are settled are forgotten, as soon as they make up one of so many parts of the time that is
    /// kept; where a user's rows hold what the tries of an hour come to, of whole hours.
    fn forget(&self, room: &mut Room, tries: &mut Tries, context: &Context<'_>, one_of: i64) {
        // What was not followed yet is not over, however long ago it was.
        let followed = tries.changed.map_or(i64::MAX, |(from, _)| from);
        let settled = self.settled_before(Some(tries), context).min(followed);
        let kept_ms = context.watermark.saturating_sub(settled);
        let old = settled.saturating_sub(kept_ms / one_of);
        let is_over = |hour: i64| hour.saturating_add(HOUR_MS) <= settled;
        let day_is_over = |day: i32| self.zone.start_of(day.saturating_add(1)) <= settled;
        let has_old = tries.seen.first().is_some_and(|first| first < old)
            || tries.sessions().first().is_some_and(|piece| piece.end < settled)
            || tries.entered.iter().any(|(hour, ..)| is_over(*hour))
            || tries.timed.first_day().is_some_and(day_is_over);
        if !has_old {
            return;
        }
        let before = self.forgotten_before(settled);
        self.forget_tries(room, tries, before);
        if let (Some(pieces), Span::Session(sessioniser)) = (&mut tries.sessions, &self.within) {
            // Whole sessions: where one is cut depends on where it began, which may be the day before.
            let is_over = |one: &Session| one.end < before;
            let over: Vec<_> = sessioniser
                .sessions(pieces)
                .filter(is_over)
                .map(|one| one.pieces)
                .collect();
            for pieces_over in over.into_iter().rev() {
                pieces.drain(pieces_over);
            }
        }
        let hour = self.zone.hour(settled);
        tries.entered.retain(|(entered, _, _)| *entered >= hour);
        tries.timed.forget_before(self.zone.day(settled).number);
    }

    /// The instant from which on events are kept where tries that began earlier than `settled` cannot change.
    fn forgotten_before(&self, settled: i64) -> i64 {
        if self.only_adds {
            return settled;
        }
        self.zone.hour(settled).max(self.zone.day(settled).start)
    }
}

/// Hours as they are saved: each as what it lies behind the one in front.
mod behind {
    use cambium_engine::Slice;
    use serde::{Deserialize, Deserializer, Serializer};

    type Entered = Vec<(i64, Slice, u32)>;

    pub fn serialize<S: Serializer>(entered: &Entered, serializer: S) -> Result<S::Ok, S::Error> {
        let mut last = 0;
        serializer.collect_seq(entered.iter().map(|(hour, slice, steps)| {
            let behind = hour - std::mem::replace(&mut last, *hour);
            (behind, slice, steps)
        }))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Entered, D::Error> {
        let mut entered = Entered::deserialize(deserializer)?;
        let mut last = 0;
        for (hour, ..) in &mut entered {
            last += *hour;
            *hour = last;
        }
        Ok(entered)
    }
}

/// The places of the bits that are set, from the lowest.
fn places(mut bits: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let place = bits.trailing_zeros() as usize;
        bits &= bits.checked_sub(1)?;
        Some(place)
    })
}

impl Tries {
    fn sessions(&self) -> &[Piece<()>] {
        self.sessions.as_deref().map_or(&[], |sessions| sessions)
    }

    fn mark(&mut self, from: i64, to: i64) {
        let (known_from, known_to) = self.changed.unwrap_or((from, to));
        self.changed = Some((known_from.min(from), known_to.max(to)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_are_what_they_were_when_they_were_saved() {
        let tries = Tries {
            entered: [7_200_000, 3_600_000, 90_000_000, 90_000_000]
                .map(|hour| (hour, Slice::default(), 1))
                .into(),
            ..Tries::default()
        };
        let saved = postcard::to_stdvec(&tries).unwrap();
        let again: Tries = postcard::from_bytes(&saved).unwrap();
        assert_eq!(again.entered, tries.entered);
    }
}
