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

    /// The places of each instant, in their order, from one on.
    fn instants(&self, from: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
        let mut next = from;
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

/// Of more events at one instant than that, only the order in which they do most is followed.
const FEW_AT_ONCE: usize = 8;
/// So many ways of one try are followed; those that do most at each instant come first.
const MOST_WAYS: usize = 1000;

/// The ways in which a try may go, where events share an instant.
struct Ways<'r> {
    required: &'r [usize],
    order_matters: bool,
    left: usize,
    best: Option<Places>,
}

impl Ways<'_> {
    /// One of them has done so many required steps; what it makes of the optional ones.
    fn end(&mut self, funnel: &Funnel, window: &Window<'_>, done: usize, mut matching: Matching) {
        self.left -= 1;
        funnel.take_optional(window, self.required, done, &mut matching);
        let by = matching.by;
        let is_better = |best: &Places| funnel.rank(window, &by) < funnel.rank(window, best);
        if !funnel.is_void(window, &by) && self.best.as_ref().is_none_or(is_better) {
            self.best = Some(by);
        }
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
#[derive(Clone)]
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

    /// Steps are done as early as they can be. Where several events share an instant, some order of theirs may do fewer
    /// of the next steps there, which is better where it matters what comes between steps: each number of steps that
    /// some order does is followed.
    fn follow_in_favour(&self, window: &Window<'_>) -> Option<Reached> {
        let required: Vec<usize> = (0..self.steps.len())
            .filter(|step| !self.steps[*step].optional)
            .collect();
        let mut ways = Ways {
            required: &required,
            order_matters: self.order == Order::Strict
                || !self.excludes.is_empty()
                || required.len() < self.steps.len(),
            left: MOST_WAYS,
            best: None,
        };
        let mut begun = Matching {
            by: smallvec![None; self.steps.len()],
        };
        begun.by[0] = Some(window.start);
        self.follow_ways(window, &mut ways, window.from, 1, begun);
        ways.best.map(|by| Reached { by })
    }

    /// The less the better: more required steps, more steps, of as many the lower ones, and each as early as can be.
    fn rank(&self, window: &Window<'_>, by: &[Option<usize>]) -> impl Ord + use<> {
        let required = by
            .iter()
            .zip(&self.steps)
            .filter(|(by, step)| by.is_some() && !step.optional);
        let missing: SmallVec<[bool; FEW_STEPS]> = by.iter().map(Option::is_none).collect();
        let times: SmallVec<[i64; FEW_STEPS]> =
            by.iter().flatten().map(|place| window.time(*place)).collect();
        (
            Reverse(required.count()),
            Reverse(by.iter().flatten().count()),
            missing,
            times,
        )
    }

    /// Follows a try whose first `next` required steps are done, by the events from a place on, in every way.
    fn follow_ways(
        &self,
        window: &Window<'_>,
        ways: &mut Ways<'_>,
        from: usize,
        mut next: usize,
        mut matching: Matching,
    ) {
        let required = ways.required;
        let mut others = Vec::new();
        for instant in window.instants(from) {
            if next >= required.len() {
                break;
            }
            let before = ways.order_matters.then(|| matching.clone());
            let most = self.take_at_instant(window, &instant, &required[next..], &mut matching);
            if most == 0 && self.order == Order::Strict && self.breaks(window, &instant, next, required) {
                break;
            }
            if let Some(before) = before {
                for fewer in self.fewer_at_instant(window, &instant, &required[next..next + most]) {
                    let mut other = before.clone();
                    self.take_at_instant(window, &instant, &required[next..next + fewer], &mut other);
                    others.push((instant.end, next + fewer, other));
                }
            }
            next += most;
        }
        ways.end(self, window, next, matching);
        for (from, next, matching) in others {
            if ways.left > 0 {
                self.follow_ways(window, ways, from, next, matching);
            }
        }
    }

    /// How many of these steps, all of which the events of an instant can do, they do in one order or another, but for
    /// all of them.
    fn fewer_at_instant(
        &self,
        window: &Window<'_>,
        instant: &std::ops::Range<usize>,
        steps: &[usize],
    ) -> SmallVec<[usize; FEW_STEPS]> {
        // What happened at the instant of the first step may have come before it.
        if window.time(instant.start) == window.time(window.start) {
            return (0..steps.len()).rev().collect();
        }
        if steps.len() < 2 {
            return SmallVec::new();
        }
        let fitting: SmallVec<[usize; FEW_AT_ONCE]> = instant
            .clone()
            .filter(|place| steps.iter().any(|step| window.fits(self, *place, *step)))
            .collect();
        if fitting.len() > FEW_AT_ONCE {
            return SmallVec::new();
        }
        // By which of the events were there: bit n, those of them did n steps in some order.
        let mut done = vec![0u64; 1 << fitting.len()];
        done[0] = 1;
        for were_there in 0..done.len() {
            for (bit, place) in fitting.iter().enumerate() {
                if were_there & (1 << bit) != 0 {
                    continue;
                }
                let before = done[were_there];
                for count in (0..=steps.len()).filter(|count| before & (1 << count) != 0) {
                    let next = steps.get(count);
                    let does_next = next.is_some_and(|step| window.fits(self, *place, *step));
                    done[were_there | (1 << bit)] |= 1 << (count + usize::from(does_next));
                }
            }
        }
        let all = done[done.len() - 1];
        (0..steps.len())
            .rev()
            .filter(|count| all & (1 << count) != 0)
            .collect()
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
        for instant in window.instants(window.from) {
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
