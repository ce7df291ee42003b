//! Funnels, by trying everything: each event that may begin a try begins one, and where an instant
//! leaves a choice, every choice is followed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::Event;
use crate::sessions::Session;

#[derive(Clone, Debug)]
pub struct Step {
    pub events: Vec<String>,
    pub optional: bool,
    pub first_time: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    InOrder,
    Strict,
    Any,
}

#[derive(Clone, Debug)]
pub struct Exclude {
    pub event: String,
    /// Steps from 1.
    pub after: usize,
    pub before: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByStep {
    First,
    Last,
    Every,
    Number(usize),
}

#[derive(Clone, Debug)]
pub struct Funnel {
    pub steps: Vec<Step>,
    /// None: within a session.
    pub within_ms: Option<i64>,
    pub order: Order,
    pub ignore: Vec<String>,
    pub exclude: Vec<Exclude>,
    /// The slice is the platform.
    pub by_platform: bool,
    pub by_step: ByStep,
}

/// By day and slice (none: it has none) who reached which step.
pub type Reached = BTreeMap<(i32, Option<String>, usize), BTreeSet<u64>>;

impl Step {
    fn fits(&self, event: &Event) -> bool {
        self.events.iter().any(|name| *name == event.event || name == "*")
    }
}

/// The events of one user, as a funnel sees them.
struct View<'v> {
    funnel: &'v Funnel,
    events: &'v [&'v Event],
    /// The session of each event; none: it is in none.
    session_of: Vec<Option<usize>>,
}

/// A try: the event that did each step.
type Try = Vec<Option<usize>>;

impl Funnel {
    /// Adds what one user reached.
    pub fn add(
        &self,
        user: u64,
        events: &[&Event],
        sessions: &[Session],
        day: &dyn Fn(i64) -> i32,
        reached: &mut Reached,
    ) {
        let view = self.view(events, sessions);
        for (start, event) in events.iter().enumerate() {
            let Some(done) = view.follow(start) else { continue };
            let slice = view.slice(start, &done);
            for (step, _) in done.iter().enumerate().filter(|(_, by)| by.is_some()) {
                reached
                    .entry((day(event.time), slice.clone(), step + 1))
                    .or_default()
                    .insert(user);
            }
        }
    }

    /// How long each step took one user since the last step done before, by entry day: of the earliest of
    /// the tries that went furthest.
    pub fn times(
        &self,
        events: &[&Event],
        sessions: &[Session],
        day: &dyn Fn(i64) -> i32,
    ) -> Vec<(i32, usize, i64)> {
        let view = self.view(events, sessions);
        let mut furthest: BTreeMap<i32, Try> = BTreeMap::new();
        let count = |done: &Try| done.iter().flatten().count();
        for (start, event) in events.iter().enumerate() {
            let Some(done) = view.follow(start) else { continue };
            let known = furthest.entry(day(event.time)).or_insert_with(|| done.clone());
            if count(&done) > count(known) {
                *known = done;
            }
        }
        let mut times = Vec::new();
        for (day, done) in furthest {
            let mut before = None;
            for (step, place) in done.iter().enumerate() {
                if let (Some(place), Some(before)) = (place, before) {
                    times.push((day, step + 1, view.time(*place) - view.time(before)));
                }
                before = place.or(before);
            }
        }
        times
    }

    fn view<'v>(&'v self, events: &'v [&'v Event], sessions: &[Session]) -> View<'v> {
        let session_of = (0..events.len())
            .map(|place| {
                sessions
                    .iter()
                    .position(|session| session.events.contains(&place))
            })
            .collect();
        View {
            funnel: self,
            events,
            session_of,
        }
    }
}

impl View<'_> {
    fn time(&self, place: usize) -> i64 {
        self.events[place].time
    }

    fn fits(&self, place: usize, step: usize) -> bool {
        let rule = &self.funnel.steps[step];
        rule.fits(self.events[place])
            && (!rule.first_time || !self.events[..place].iter().any(|earlier| rule.fits(earlier)))
    }

    /// Whether a try that began at `start` may use an event.
    fn in_window(&self, start: usize, place: usize) -> bool {
        let time = self.time(place);
        time >= self.time(start)
            && match self.funnel.within_ms {
                Some(within) => time <= self.time(start) + within,
                None => self.session_of[place].is_some() && self.session_of[place] == self.session_of[start],
            }
    }

    fn follow(&self, start: usize) -> Option<Try> {
        if self.funnel.within_ms.is_none() && self.session_of[start].is_none() {
            return None;
        }
        if self.funnel.order == Order::Any {
            return self.follow_any(start);
        }
        if !self.fits(start, 0) {
            return None;
        }
        let mut begun: Try = vec![None; self.funnel.steps.len()];
        begun[0] = Some(start);
        let mut all = Vec::new();
        self.take_required(start, self.time(start), 1, begun, &mut all);
        // Which of the events of an instant did a required step there and which an optional one is settled before
        // exclusions are looked at; when a required step was done, after that.
        let mut by_times: BTreeMap<Vec<Option<i64>>, Try> = BTreeMap::new();
        for done in all {
            let required = done
                .iter()
                .zip(&self.funnel.steps)
                .filter(|(_, step)| !step.optional);
            let times = required.map(|(by, _)| by.map(|place| self.time(place))).collect();
            let known = by_times.entry(times).or_insert_with(|| done.clone());
            if self.is_better(&done, known) {
                *known = done;
            }
        }
        let ways = by_times.into_values().filter(|done| !self.is_void(start, done));
        ways.reduce(
            |best, done| {
                if self.is_better(&done, &best) { done } else { best }
            },
        )
    }

    /// In the funnel's favour: more steps, of as many the lower ones, and each as early as can be.
    fn is_better(&self, this: &Try, known: &Try) -> bool {
        let count = |done: &Try| {
            let required = done
                .iter()
                .zip(&self.funnel.steps)
                .filter(|(by, step)| by.is_some() && !step.optional);
            (required.count(), done.iter().flatten().count())
        };
        let missing = |done: &Try| -> Vec<bool> { done.iter().map(Option::is_none).collect() };
        let times =
            |done: &Try| -> Vec<i64> { done.iter().flatten().map(|place| self.time(*place)).collect() };
        let rank = |done: &Try| (Reverse(count(done)), missing(done), times(done));
        rank(this) < rank(known)
    }

    /// Follows every choice for the required steps from `step` on, by events from an instant on.
    fn take_required(&self, start: usize, from: i64, step: usize, done: Try, all: &mut Vec<Try>) {
        let required = |step: &usize| !self.funnel.steps[*step].optional;
        let steps: Vec<usize> = (step..self.funnel.steps.len()).filter(required).collect();
        let free = |place: &usize| {
            self.in_window(start, *place) && self.time(*place) >= from && !done.contains(&Some(*place))
        };
        let fits_next = |place: &usize| steps.first().is_some_and(|next| self.fits(*place, *next));
        let fitting = (0..self.events.len()).filter(free).filter(fits_next);
        let since = done.iter().flatten().map(|place| self.time(*place)).max();
        let earliest = fitting.map(|place| self.time(place)).min();
        let earliest = earliest.filter(|time| self.may_pass(start, steps[0], since.unwrap_or(0), *time));
        let Some(time) = earliest else {
            let mut best = done.clone();
            self.take_optional(start, 1, done, &mut best);
            all.push(best);
            return;
        };
        let at_once: Vec<usize> = (0..self.events.len())
            .filter(free)
            .filter(|place| self.time(*place) == time)
            .collect();
        // Of what happened at the instant of the first step, any part may have come before it.
        let is_first = time == self.time(start);
        for count in self.in_every_order(&steps, &at_once, is_first) {
            let mut choices = Vec::new();
            self.choose(&steps[..count], &at_once, done.clone(), &mut choices);
            for further in choices {
                let next = steps.get(count).copied().unwrap_or(self.funnel.steps.len());
                self.take_required(start, time + 1, next, further, all);
            }
        }
    }

    /// How many of these steps, which follow each other, the events of one instant do in one order or another. Where
    /// `may_lie_before`, any of them may come before all steps.
    fn in_every_order(&self, steps: &[usize], places: &[usize], may_lie_before: bool) -> BTreeSet<usize> {
        let fits_one = |place: &usize| steps.iter().any(|step| self.fits(*place, *step));
        let fitting: Vec<usize> = places.iter().copied().filter(fits_one).collect();
        let (mut counts, mut known) = (BTreeSet::new(), BTreeSet::new());
        let mut open = vec![(0, fitting)];
        while let Some((done, left)) = open.pop() {
            if !known.insert((done, left.clone())) {
                continue;
            }
            if left.is_empty() || may_lie_before {
                counts.insert(done);
            }
            for (index, place) in left.iter().enumerate() {
                let mut others = left.clone();
                others.remove(index);
                let is_next = steps.get(done).is_some_and(|step| self.fits(*place, *step));
                open.push((done + usize::from(is_next), others));
            }
        }
        counts
    }

    /// Every way in which events do all of these steps, one each.
    fn choose(&self, steps: &[usize], places: &[usize], done: Try, choices: &mut Vec<Try>) {
        let Some((step, rest)) = steps.split_first() else {
            choices.push(done);
            return;
        };
        for place in places {
            if !done.contains(&Some(*place)) && self.fits(*place, *step) {
                let mut further = done.clone();
                further[*step] = Some(*place);
                self.choose(rest, places, further, choices);
            }
        }
    }

    /// Whether a strict try may pass from one instant to another: nothing but optional steps between.
    fn may_pass(&self, start: usize, next: usize, from: i64, to: i64) -> bool {
        if self.funnel.order != Order::Strict {
            return true;
        }
        let pending = (0..next)
            .rev()
            .take_while(|step| self.funnel.steps[*step].optional);
        let pending: Vec<usize> = pending.collect();
        let between = |place: &usize| from < self.time(*place) && self.time(*place) < to;
        let mut instants: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
        for place in (0..self.events.len()).filter(between) {
            instants.entry(self.time(place)).or_default().push(place);
        }
        instants.values().all(|places| {
            let does_optional = places.iter().any(|place| {
                self.in_window(start, *place) && pending.iter().any(|step| self.fits(*place, *step))
            });
            does_optional
                || places
                    .iter()
                    .all(|place| self.funnel.ignore.contains(&self.events[*place].event))
        })
    }

    /// Follows every choice for the optional steps from `step` on.
    fn take_optional(&self, start: usize, step: usize, done: Try, best: &mut Try) {
        if step >= done.len() {
            if self.is_better(&done, best) {
                *best = done;
            }
            return;
        }
        let steps = &self.funnel.steps;
        if !steps[step].optional {
            return self.take_optional(start, step + 1, done, best);
        }
        let before = (0..step)
            .rev()
            .find(|one| !steps[*one].optional)
            .and_then(|one| done[one]);
        let after = (step + 1..done.len())
            .find(|one| !steps[*one].optional)
            .and_then(|one| done[one]);
        let Some(before) = before else {
            return self.take_optional(start, step + 1, done, best);
        };
        // Where one event could do this step or a later one, it does this one: left out comes last.
        for place in 0..self.events.len() {
            let time = self.time(place);
            let in_range = self.in_window(start, place)
                && time >= self.time(before)
                && after.is_none_or(|after| time <= self.time(after));
            if in_range && !done.contains(&Some(place)) && self.fits(place, step) {
                let mut further = done.clone();
                further[step] = Some(place);
                self.take_optional(start, step + 1, further, best);
            }
        }
        self.take_optional(start, step + 1, done, best);
    }

    fn is_void(&self, start: usize, done: &Try) -> bool {
        self.funnel.exclude.iter().any(|exclude| {
            let Some(from) = done[exclude.after - 1] else {
                return false;
            };
            let to = done[exclude.before - 1];
            (0..self.events.len()).any(|place| {
                self.events[place].event == exclude.event
                    && self.in_window(start, place)
                    && self.time(place) > self.time(from)
                    && to.is_none_or(|to| self.time(place) < self.time(to))
            })
        })
    }

    /// Any order: what matters is how many different steps are done, and when each came to be.
    fn follow_any(&self, start: usize) -> Option<Try> {
        let steps = self.funnel.steps.len();
        let fits_some = |place: usize| (0..steps).any(|step| self.fits(place, step));
        if !fits_some(start) {
            return None;
        }
        let mut used = vec![start];
        let mut done = vec![start];
        let mut instants: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
        for place in (0..self.events.len()).filter(|place| *place != start && self.in_window(start, *place)) {
            instants.entry(self.time(place)).or_default().push(place);
        }
        for (time, places) in instants {
            let add = |used: &mut Vec<usize>, done: &mut Vec<usize>| {
                for place in places.iter().filter(|place| fits_some(**place)) {
                    used.push(*place);
                    if self.most(used, &mut vec![false; steps], 0) > done.len() {
                        done.push(*place);
                    }
                }
            };
            add(&mut used, &mut done);
            if done.len() == steps {
                break;
            }
            let is_excluded = |place: &usize| {
                self.funnel
                    .exclude
                    .iter()
                    .any(|exclude| exclude.event == self.events[*place].event)
            };
            if time > self.time(start) && places.iter().any(is_excluded) {
                used.truncate(1);
                done.truncate(1);
                add(&mut used, &mut done);
            }
        }
        let mut by: Try = done.into_iter().map(Some).collect();
        by.resize(steps, None);
        Some(by)
    }

    /// The most different steps that events can do, one each.
    fn most(&self, used: &[usize], taken: &mut Vec<bool>, next: usize) -> usize {
        let Some(place) = used.get(next) else { return 0 };
        let mut most = self.most(used, taken, next + 1);
        for step in 0..taken.len() {
            if !taken[step] && self.fits(*place, step) {
                taken[step] = true;
                most = most.max(1 + self.most(used, taken, next + 1));
                taken[step] = false;
            }
        }
        most
    }

    fn slice(&self, start: usize, done: &Try) -> Option<String> {
        if !self.funnel.by_platform {
            return Some(String::new());
        }
        let slice = |place: usize| self.events[place].dimensions[0].clone();
        match self.funnel.by_step {
            ByStep::First => Some(slice(start)),
            ByStep::Last => done.iter().flatten().next_back().map(|place| slice(*place)),
            ByStep::Number(step) => done[step - 1].map(slice),
            ByStep::Every => done
                .iter()
                .flatten()
                .all(|place| slice(*place) == slice(start))
                .then(|| slice(start)),
        }
    }
}
