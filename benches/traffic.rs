//! The traffic of the measurements: what a shop's users do over some hours, as fast as a broker takes it.
//!
//! The simulated product of `cambium-simulate` knows its exact truth and is slow; this one knows only how many
//! users and duplicates it made, and writes ten million events in seconds. The same settings give the same events.
//!
//! Visits begin by Zipf's law, among the users who are not on a visit already; so nobody does more than a person
//! can. A visit is a walk through the shop, some seconds between two steps, and many run at once: what one user does
//! lies scattered among what the others do, as it does in a product's topic.

mod encode;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use fastrand::Rng;

pub use encode::{Encoding, check_avro, user_id};

/// Ten million events are three hours of it.
pub const EVENTS_PER_SECOND: f64 = 926.0;
/// Between two steps of a visit: so much at least, and on average; less where the users are few for that many events.
const LEAST_PAUSE_MS: f64 = 500.0;
const MEAN_PAUSE_MS: f64 = 10_000.0;
/// Of all events, how many arrive behind later ones: phones that were out of reach.
const BEHIND: f64 = 0.01;
/// Up to so much. Well within the lateness that is configured by default (a day), so that all of them count.
const FURTHEST_BEHIND_MS: i64 = 600_000;
/// Of all events, how many come twice: senders that repeat what they saw no answer for.
const REPEATED: f64 = 0.005;
const REPEATED_WITHIN_MS: i64 = 2_000;

#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub seed: u64,
    pub events: u64,
    /// Users that the shop has; how many of them come depends on the number of events.
    pub users: u32,
    /// How near they lie to each other.
    pub events_per_second: f64,
    /// When the last event arrives, in milliseconds since 1970.
    pub end_ms: i64,
}

/// What a user does; its place in the walk through the shop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Open,
    Search,
    View,
    Like,
    Cart,
    Checkout,
    Buy,
}

impl Step {
    fn name(self) -> &'static str {
        match self {
            Step::Open => "open",
            Step::Search => "search",
            Step::View => "view",
            Step::Like => "like",
            Step::Cart => "cart",
            Step::Checkout => "checkout",
            Step::Buy => "buy",
        }
    }

    /// What follows, each with its share in percent; the rest leaves.
    fn followed_by(self) -> &'static [(Step, u8)] {
        match self {
            Step::Open => &[(Step::View, 65), (Step::Search, 30)],
            Step::Search => &[(Step::View, 75), (Step::Search, 20)],
            Step::View => &[
                (Step::View, 55),
                (Step::Search, 14),
                (Step::Like, 9),
                (Step::Cart, 12),
            ],
            Step::Like => &[(Step::View, 85), (Step::Cart, 5)],
            Step::Cart => &[(Step::View, 45), (Step::Checkout, 40)],
            Step::Checkout => &[(Step::Buy, 70), (Step::View, 10)],
            Step::Buy => &[(Step::View, 30)],
        }
    }

    fn next(self, dice: &mut Rng) -> Option<Step> {
        let mut left = dice.u8(..100);
        for (step, share) in self.followed_by() {
            match left.checked_sub(*share) {
                None => return Some(*step),
                Some(rest) => left = rest,
            }
        }
        None
    }
}

/// One event, before it is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Behaviour {
    /// When the broker gets it, and when it was done.
    pub arrives_ms: i64,
    pub time_ms: i64,
    pub user: u32,
    step: Step,
    /// What the message id and the properties are made from.
    number: u64,
    /// It was sent already.
    pub is_repeated: bool,
}

impl Behaviour {
    /// The name of the event.
    pub fn event(&self) -> &'static str {
        self.step.name()
    }

    /// A user opens the shop; it is the only thing that they do.
    pub fn first(user: u32, time_ms: i64) -> Behaviour {
        Behaviour {
            arrives_ms: time_ms,
            time_ms,
            user,
            step: Step::Open,
            // Apart from the numbers of traffic: nobody is taken for a duplicate.
            number: (1 << 63) | (time_ms as u64) << 24 | u64::from(user) & 0xff_ffff,
            is_repeated: false,
        }
    }
}

/// A user on a visit, and when their next step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Visit {
    next_ms: i64,
    user: u32,
    step: Step,
}

/// The events, in the order in which they arrive.
pub struct Traffic {
    settings: Settings,
    dice: Rng,
    /// By rank, the share of all visits up to this one.
    zipf: Vec<f64>,
    is_on_visit: Vec<bool>,
    visits: BinaryHeap<Reverse<Visit>>,
    /// What arrives later than it was done.
    held_back: BinaryHeap<Reverse<Behaviour>>,
    made: u64,
    sent: u64,
    mean_pause_ms: f64,
}

impl Traffic {
    pub fn new(settings: Settings) -> Traffic {
        let mut total = 0.0;
        let mut zipf: Vec<f64> = (1..=settings.users)
            .map(|rank| {
                total += 1.0 / f64::from(rank);
                total
            })
            .collect();
        zipf.iter_mut().for_each(|share| *share /= total);
        // With more of them, most users would be on a visit for ever.
        let at_most = f64::from(settings.users / 4).max(1.0);
        let at_once = (settings.events_per_second * MEAN_PAUSE_MS / 1000.0).min(at_most);
        let mut traffic = Traffic {
            mean_pause_ms: (at_once / settings.events_per_second * 1000.0).max(LEAST_PAUSE_MS),
            dice: Rng::with_seed(settings.seed),
            is_on_visit: vec![false; zipf.len()],
            zipf,
            visits: BinaryHeap::new(),
            held_back: BinaryHeap::new(),
            made: 0,
            sent: 0,
            settings,
        };
        let lasts_ms = settings.events as f64 / settings.events_per_second * 1000.0;
        let begins_ms = settings.end_ms - lasts_ms as i64;
        for _ in 0..(at_once as u32).max(1) {
            traffic.begin_visit(begins_ms);
        }
        traffic
    }

    fn pause_ms(&mut self) -> i64 {
        let mean = self.mean_pause_ms - LEAST_PAUSE_MS;
        (LEAST_PAUSE_MS - (1.0 - self.dice.f64()).ln() * mean) as i64
    }

    fn begin_visit(&mut self, after_ms: i64) {
        let user = loop {
            let share = self.dice.f64();
            let rank = self.zipf.partition_point(|upto| *upto <= share);
            if let Some(is_on_visit) = self.is_on_visit.get_mut(rank)
                && !*is_on_visit
            {
                *is_on_visit = true;
                break rank as u32;
            }
        };
        let next_ms = after_ms + self.pause_ms();
        self.visits.push(Reverse(Visit {
            next_ms,
            user,
            step: Step::Open,
        }));
    }

    /// What the user does now; then their next step, or somebody else's visit.
    fn take_step(&mut self, visit: Visit) -> Behaviour {
        match visit.step.next(&mut self.dice) {
            Some(step) => {
                let next_ms = visit.next_ms + self.pause_ms();
                self.visits.push(Reverse(Visit {
                    next_ms,
                    step,
                    ..visit
                }));
            }
            None => {
                self.is_on_visit[visit.user as usize] = false;
                self.begin_visit(visit.next_ms);
            }
        }
        self.made += 1;
        Behaviour {
            arrives_ms: visit.next_ms,
            time_ms: visit.next_ms,
            user: visit.user,
            step: visit.step,
            number: self.made,
            is_repeated: false,
        }
    }
}

impl Iterator for Traffic {
    type Item = Behaviour;

    fn next(&mut self) -> Option<Behaviour> {
        if self.sent == self.settings.events {
            return None;
        }
        self.sent += 1;
        loop {
            let next_ms = self.visits.peek()?.0.next_ms;
            if let Some(Reverse(held)) = self.held_back.peek()
                && held.arrives_ms <= next_ms
            {
                return self.held_back.pop().map(|Reverse(held)| held);
            }
            let Reverse(visit) = self.visits.pop()?;
            let mut behaviour = self.take_step(visit);
            let dice = self.dice.f64();
            if dice < BEHIND {
                behaviour.arrives_ms += self.dice.i64(1_000..FURTHEST_BEHIND_MS);
                self.held_back.push(Reverse(behaviour));
                continue;
            }
            if dice < BEHIND + REPEATED {
                let again = Behaviour {
                    arrives_ms: behaviour.arrives_ms + self.dice.i64(1..REPEATED_WITHIN_MS),
                    is_repeated: true,
                    ..behaviour
                };
                self.held_back.push(Reverse(again));
            }
            return Some(behaviour);
        }
    }
}
