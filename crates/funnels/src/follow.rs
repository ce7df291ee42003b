//! What a try reaches: one event begins it, and it is followed through what the user did then.
//!
//! At one instant no order is known; events there are given to steps in the funnel's favour, by
//! matching: a step that finds all its events taken may push another step to another event
//! (augmenting paths, after Kuhn).

use std::cmp::Reverse;

use crate::definition::{NamedStep, Order};
use crate::history::{History, Seen};
use crate::{ByStep, Funnel};
use cambium_engine::Slice;
use smallvec::{SmallVec, smallvec};

/// What one try reached.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reached {
    /// For each step the event that did it, by its place among those that were seen.
    pub by: Places,
}

/// As many steps as most funnels have.
pub(crate) const FEW_STEPS: usize = 6;

type Places = SmallVec<[Option<usize>; FEW_STEPS]>;

/// The events that a try may use: places from `from`, and which of them lie in its window.
pub(crate) struct Window<'s> {
    pub seen: &'s History,
    /// The place of the event that begins the try.
    pub start: usize,
    /// The first place of its instant, and the one behind the window's last.
    pub from: usize,
    pub to: usize,
    /// The end of the session, or of the time given.
    pub in_session: Option<u64>,
    /// First events ever: step and time.
    pub firsts: &'s [(u8, i64)],
}

impl Window<'_> {
    fn time(&self, place: usize) -> i64 {
        self.seen[place].time
    }

    fn in_reach(&self, place: usize) -> bool {
        self.in_session.is_none() || self.seen.session(place) == self.in_session
    }

    /// Whether an event can do a step.
    pub fn fits(&self, funnel: &Funnel, place: usize, step: usize) -> bool {
        let seen = &self.seen[place];
        seen.steps & (1 << step) != 0
            && self.in_reach(place)
            && (!funnel.steps[step].first_time || is_first(self.seen, self.firsts, place, step))
    }

    /// The places of each instant, in their order.
    fn instants(&self) -> impl Iterator<Item = std::ops::Range<usize>> {
        let mut next = self.from;
        std::iter::from_fn(move || {
            if next >= self.to {
                return None;
            }
            let begin = next;
            while next < self.to && self.time(next) == self.time(begin) {
                next += 1;
            }
            Some(begin..next)
        })
    }
}

/// Whether this is the user's first event ever that fits the step.
pub(crate) fn is_first(seen: &[Seen], firsts: &[(u8, i64)], place: usize, step: usize) -> bool {
    let time = seen[place].time;
    let is_earliest = firsts
        .iter()
        .any(|(known, first)| usize::from(*known) == step && *first == time);
    let same_instant = seen[..place].iter().rev().take_while(|one| one.time == time);
    is_earliest && !same_instant.into_iter().any(|one| one.steps & (1 << step) != 0)
}

/// Steps matched with events.
struct Matching {
    /// By step.
    by: Places,
}

impl Matching {
    /// Finds an event for `step` among its candidates, moving other steps where that helps.
    fn find(
        &mut self,
        step: usize,
        candidates: &dyn Fn(usize) -> Vec<usize>,
        tried: &mut Vec<usize>,
    ) -> bool {
        for place in candidates(step) {
            if tried.contains(&place) {
                continue;
            }
            tried.push(place);
            let holder = self.by.iter().position(|held| *held == Some(place));
            if holder.is_none_or(|holder| self.find(holder, candidates, tried)) {
                self.by[step] = Some(place);
                return true;
            }
        }
        false
    }

    /// Whether the steps that have an event could have one each of other candidates too; if so, they have.
    fn moves_to(&mut self, candidates: &dyn Fn(usize) -> Vec<usize>) -> bool {
        let mut moved = Matching {
            by: smallvec![None; self.by.len()],
        };
        let steps = (0..self.by.len()).filter(|step| self.by[*step].is_some());
        for step in steps {
            if !moved.find(step, candidates, &mut Vec::new()) {
                return false;
            }
        }
        *self = moved;
        true
    }
}

impl Funnel {
    /// Follows one try; none where it is void.
    pub(crate) fn follow(&self, window: &Window<'_>) -> Option<Reached> {
        match self.order {
            Order::Any => Some(self.follow_any(window)),
            Order::InOrder | Order::Strict => self.follow_in_favour(window),
        }
    }

    /// What else happened at the instant of the first step may have come before it: as many of the next
    /// steps are done there as is best. Fewer can be, where it matters what comes between steps.
    fn follow_in_favour(&self, window: &Window<'_>) -> Option<Reached> {
        let (most, at_once) = self.follow_in_order(window, usize::MAX);
        let may_help = self.order == Order::Strict
            || !self.excludes.is_empty()
            || self.steps.iter().any(|step| step.optional);
        let fewer = if may_help { 0..at_once } else { 0..0 };
        let others = fewer.rev().map(|most| self.follow_in_order(window, most).0);
        let all = std::iter::once(most).chain(others);
        let best = all
            .filter(|by| !self.is_void(window, by))
            .min_by_key(|by| self.rank(window, by));
        best.map(|by| Reached { by })
    }

    /// The less the better: more required steps, more steps, and of as many the earlier ones.
    fn rank(&self, window: &Window<'_>, by: &[Option<usize>]) -> (Reverse<usize>, Reverse<usize>, Vec<i64>) {
        let required = by
            .iter()
            .zip(&self.steps)
            .filter(|(by, step)| by.is_some() && !step.optional);
        let time = |by: &Option<usize>| by.map_or(i64::MAX, |place| window.time(place));
        (
            Reverse(required.count()),
            Reverse(by.iter().flatten().count()),
            by.iter().map(time).collect(),
        )
    }

    /// The event of each step, with at most so many steps done at the instant of the first; and how many
    /// were.
    fn follow_in_order(&self, window: &Window<'_>, most_at_once: usize) -> (Places, usize) {
        let required: Vec<usize> = (0..self.steps.len())
            .filter(|step| !self.steps[*step].optional)
            .collect();
        let mut matching = Matching {
            by: smallvec![None; self.steps.len()],
        };
        matching.by[0] = Some(window.start);
        let (mut next, mut at_once) = (1, 0);
        for instant in window.instants() {
            if next >= required.len() {
                break;
            }
            let before = next;
            let is_first = window.time(instant.start) == window.time(window.start);
            let most = if is_first { most_at_once } else { usize::MAX };
            let steps = &required[next..];
            let steps = &steps[..steps.len().min(most)];
            next += self.take_at_instant(window, &instant, steps, &mut matching);
            if is_first {
                at_once = next - before;
            }
            if self.order == Order::Strict
                && before == next
                && self.breaks(window, &instant, before, &required)
            {
                break;
            }
        }
        self.take_optional(window, &required, next, &mut matching);
        (matching.by, at_once)
    }

    /// Gives the events of one instant to as many of the next steps as can be; how many.
    fn take_at_instant(
        &self,
        window: &Window<'_>,
        instant: &std::ops::Range<usize>,
        steps: &[usize],
        matching: &mut Matching,
    ) -> usize {
        let candidates = |step: usize| match step {
            0 => vec![window.start],
            _ => instant
                .clone()
                .filter(|place| window.fits(self, *place, step))
                .collect(),
        };
        steps
            .iter()
            .take_while(|step| matching.find(**step, &candidates, &mut Vec::new()))
            .count()
    }

    /// Whether what happened at an instant that did no required step ends a strict try.
    fn breaks(
        &self,
        window: &Window<'_>,
        instant: &std::ops::Range<usize>,
        next: usize,
        required: &[usize],
    ) -> bool {
        if window.time(instant.start) == window.time(window.start) {
            return false;
        }
        let pending = required[next - 1] + 1..required[next];
        let does_optional = instant
            .clone()
            .any(|place| pending.clone().any(|step| window.fits(self, place, step)));
        !does_optional && instant.clone().any(|place| window.seen[place].breaks())
    }

    /// Optional steps, each between the last required step before it and the next required one.
    fn take_optional(&self, window: &Window<'_>, required: &[usize], done: usize, matching: &mut Matching) {
        let times: Vec<Option<i64>> = matching
            .by
            .iter()
            .map(|by| by.map(|place| window.time(place)))
            .collect();
        let candidates = |step: usize| -> Vec<usize> {
            if step == 0 {
                return vec![window.start];
            }
            let (from, to) = if self.steps[step].optional {
                let before = required[..done].iter().rev().find(|one| **one < step);
                let after = required.iter().find(|one| **one > step);
                (
                    before.and_then(|one| times[*one]),
                    after.and_then(|one| times[*one]),
                )
            } else {
                (times[step], times[step])
            };
            (window.from..window.to)
                .filter(|place| from.is_some_and(|from| window.time(*place) >= from))
                .filter(|place| to.is_none_or(|to| window.time(*place) <= to))
                .filter(|place| window.fits(self, *place, step))
                .collect()
        };
        for step in 0..self.steps.len() {
            // One behind a required step that was not reached has nothing to come after.
            let reached = required.iter().filter(|one| **one < step).count() <= done;
            if self.steps[step].optional && reached {
                matching.find(step, &candidates, &mut Vec::new());
            }
        }
        // Which event does which step, where several could: the lower step is done as early as it can be.
        let mut latest: Vec<Option<i64>> = vec![None; self.steps.len()];
        for step in (0..self.steps.len()).filter(|step| self.steps[*step].optional) {
            let Some(present) = matching.by[step] else {
                continue;
            };
            latest[step] = Some(window.time(present));
            let mut earlier: Vec<i64> = candidates(step).iter().map(|place| window.time(*place)).collect();
            earlier.retain(|time| *time < window.time(present));
            earlier.dedup();
            for time in earlier {
                let mut tried = latest.clone();
                tried[step] = Some(time);
                let within = |step: usize| -> Vec<usize> {
                    let in_time =
                        |place: &usize| tried[step].is_none_or(|latest| window.time(*place) <= latest);
                    candidates(step).into_iter().filter(in_time).collect()
                };
                if matching.moves_to(&within) {
                    latest = tried;
                    break;
                }
            }
        }
    }

    fn is_void(&self, window: &Window<'_>, by: &[Option<usize>]) -> bool {
        let time = |step: usize| by[step - 1].map(|place| window.time(place));
        self.excludes.iter().enumerate().any(|(number, (exclude, _))| {
            let (after, before) = exclude.between(self.steps.len());
            let Some(from) = time(after) else { return false };
            let to = if before == after { None } else { time(before) };
            (window.from..window.to).any(|place| {
                let at = window.time(place);
                window.seen.excludes(place) & (1 << number) != 0
                    && window.in_reach(place)
                    && at > from
                    && to.is_none_or(|to| at < to)
            })
        })
    }

    /// Different steps in any order: the n-th done is step n of the result.
    fn follow_any(&self, window: &Window<'_>) -> Reached {
        let mut done = vec![window.start];
        let mut usable = vec![window.start];
        for instant in window.instants() {
            let at = window.time(instant.start);
            self.take_any(window, &instant, &mut usable, &mut done);
            if done.len() == self.steps.len() {
                break;
            }
            let excluded = |place: usize| window.seen.excludes(place) != 0 && window.in_reach(place);
            if at > window.time(window.start) && instant.clone().any(excluded) {
                done.truncate(1);
                usable.truncate(1);
                self.take_any(window, &instant, &mut usable, &mut done);
            }
        }
        let mut by: Places = done.into_iter().map(Some).collect();
        by.resize(self.steps.len(), None);
        Reached { by }
    }

    /// Adds the events of an instant; each that makes one more step possible is one done.
    fn take_any(
        &self,
        window: &Window<'_>,
        instant: &std::ops::Range<usize>,
        usable: &mut Vec<usize>,
        done: &mut Vec<usize>,
    ) {
        for place in instant.clone().filter(|place| *place != window.start) {
            let fits_any = (0..self.steps.len()).any(|step| window.fits(self, place, step));
            if !fits_any {
                continue;
            }
            usable.push(place);
            if self.most_steps(window, usable) > done.len() {
                done.push(place);
            } else {
                usable.pop();
            }
        }
    }

    /// The most different steps that events can do, one each.
    fn most_steps(&self, window: &Window<'_>, usable: &[usize]) -> usize {
        let mut matching = Matching {
            by: smallvec![None; self.steps.len()],
        };
        let candidates = |step: usize| -> Vec<usize> {
            usable
                .iter()
                .copied()
                .filter(|place| window.fits(self, *place, step))
                .collect()
        };
        (0..self.steps.len())
            .filter(|step| matching.find(*step, &candidates, &mut Vec::new()))
            .count()
    }

    /// The slice that a try counts in; none where its steps do not agree, or the step is missing.
    pub(crate) fn slice_of(&self, seen: &History, start: usize, reached: &Reached) -> Option<Slice> {
        if self.by.is_empty() {
            return Some(Slice::default());
        }
        let done = || reached.by.iter().flatten();
        let from = match self.by_step {
            ByStep::Named(NamedStep::First) => Some(start),
            ByStep::Named(NamedStep::Last) => done().next_back().copied(),
            ByStep::Number(step) => reached.by[step - 1],
            ByStep::Named(NamedStep::Every) => done()
                .all(|place| seen.slice(*place) == seen.slice(start))
                .then_some(start),
        };
        from.map(|place| seen.slice(place).clone())
    }
}
