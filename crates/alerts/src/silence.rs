//! Pauses between events. A pause is too long when one like it would come by chance less than so often a week:
//! of events that come at random at λ a second, one pause in 1 / (604800 λ / a) is longer than
//! ln(604800 λ / a) / λ; events that come in heaps, d times as dispersed, pause d times as long.
//! Score: the pause in units of the one allowed.

use std::collections::{BTreeMap, VecDeque};

use crate::history::{DAY_MS, median};
use crate::{Judgement, Options, Point};

const WEEK_S: f64 = 604_800.0;
/// No pause shorter than this is silence, however busy an app is.
const LEAST_S: f64 = 3.0;
/// Events are counted by slices of this length.
const SLICE_MS: i64 = 15 * 60_000;
const WEEKS: i64 = 4;
/// Events that must have come before anything can be said.
const LEAST_EVENTS: usize = 30;
/// The dispersion is measured on so many slices of this length: a minute, or longer where events are rare.
const DISPERSION_SLICES: i64 = 672;
const MINUTE_MS: i64 = 60_000;
const LEAST_MEASURED: usize = 60;
/// How far a pause is followed over slices to come: two weeks.
const MOST_SLICES: i64 = 2 * 7 * 96;

#[derive(Clone)]
pub struct Silence {
    season_ms: i64,
    false_alarms: f64,
    last: Option<i64>,
    first: Option<i64>,
    slices: BTreeMap<i64, f64>,
    /// The last pauses, in milliseconds.
    recent: VecDeque<i64>,
    minutes: BTreeMap<i64, f64>,
    dispersion: f64,
    measured_in: i64,
}

impl Silence {
    pub fn new(options: &Options) -> Silence {
        Silence {
            season_ms: options.season_ms,
            false_alarms: options.get("false_alarms"),
            last: None,
            first: None,
            slices: BTreeMap::new(),
            recent: VecDeque::new(),
            minutes: BTreeMap::new(),
            dispersion: 1.0,
            measured_in: i64::MIN,
        }
    }

    pub fn judge(&mut self, point: Point) -> Judgement {
        let at = point.at_ms;
        let pause = self.last.map(|last| (at - last).max(0) as f64 / 1000.0);
        let allowed = self.last.and_then(|last| self.allowed_s(last));
        if let Some(last) = self.last {
            self.note_pauses((at - last).max(0), 1);
        }
        self.note(at, 1.0);
        self.measure(at);
        Judgement {
            value: pause,
            high: allowed,
            score: pause.zip(allowed).map(|(pause, allowed)| pause / allowed),
            breaches: pause.zip(allowed).is_some_and(|(pause, allowed)| pause > allowed),
            ..Judgement::default()
        }
    }

    fn note_pauses(&mut self, pause_ms: i64, count: usize) {
        for _ in 0..count.min(LEAST_EVENTS * 4) {
            self.recent.push_back(pause_ms);
        }
        while self.recent.len() > LEAST_EVENTS * 4 {
            self.recent.pop_front();
        }
    }

    /// Notes events at an instant.
    fn note(&mut self, at: i64, count: f64) {
        self.first.get_or_insert(at);
        self.last = self.last.max(Some(at));
        *self.slices.entry(at.div_euclid(SLICE_MS)).or_default() += count;
        let before = at - (WEEKS + 1) * self.season_ms.max(DAY_MS);
        while self
            .slices
            .first_key_value()
            .is_some_and(|(slice, _)| slice * SLICE_MS < before)
        {
            self.slices.pop_first();
        }
        let minute = at.div_euclid(MINUTE_MS);
        *self.minutes.entry(minute).or_default() += count;
        while self
            .minutes
            .first_key_value()
            .is_some_and(|(first, _)| *first < minute - DISPERSION_SLICES)
        {
            self.minutes.pop_first();
        }
    }

    /// The longest pause after an event at `from` that is no silence, in seconds.
    fn allowed_s(&self, from_ms: i64) -> Option<f64> {
        if self.recent.len() < LEAST_EVENTS {
            return None;
        }
        let now = self.rate(from_ms)?;
        let events_a_week = WEEK_S * now / self.false_alarms;
        let wanted = self.dispersion * events_a_week.max(std::f64::consts::E).ln();
        // The rate adds up over the slices to come, as they were in earlier weeks.
        let (mut expected, mut at) = (0.0, from_ms);
        for _ in 0..MOST_SLICES {
            let rate = self.rate(at).unwrap_or(now);
            let end = (at.div_euclid(SLICE_MS) + 1) * SLICE_MS;
            let more = rate * (end - at) as f64 / 1000.0;
            if expected + more >= wanted {
                let seconds = (at - from_ms) as f64 / 1000.0 + (wanted - expected) / rate;
                return Some(seconds.max(LEAST_S));
            }
            expected += more;
            at = end;
        }
        Some((at - from_ms) as f64 / 1000.0)
    }

    /// The rate a second that is expected at an instant: that of the same time of earlier seasons, or of
    /// earlier days, or of just now.
    fn rate(&self, at_ms: i64) -> Option<f64> {
        let first = self.first?;
        let ago = |period_ms: i64, count: i64| {
            (1..=count)
                .map(move |number| at_ms - number * period_ms)
                // Slices that the series had not begun in say nothing; those that are not over, too little.
                .filter(move |then| {
                    *then - SLICE_MS >= first && *then + 2 * SLICE_MS <= self.last.unwrap_or(first)
                })
                .map(|then| self.counted(then))
        };
        let mut seasons: Vec<f64> = ago(self.season_ms, WEEKS).collect();
        if seasons.is_empty() && self.season_ms > DAY_MS {
            seasons = ago(DAY_MS, 7).collect();
        }
        let usual = median(&mut seasons);
        let recent_ms: i64 = self.recent.iter().sum();
        let recent = self.recent.len() as f64 * 1000.0 / recent_ms.max(1) as f64;
        Some(match usual {
            // A product that shrinks is given the time that its own events take.
            Some(usual) => usual.min(recent.max(usual / 3.0)).max(1.0 / WEEK_S),
            None => recent,
        })
    }

    /// Events a second around an instant: its slice and the two beside it.
    fn counted(&self, at_ms: i64) -> f64 {
        let slice = at_ms.div_euclid(SLICE_MS);
        let events: f64 = self
            .slices
            .range(slice - 1..=slice + 1)
            .map(|(_, count)| count)
            .sum();
        events / (3 * SLICE_MS / 1000) as f64
    }

    /// How much more dispersed counts are than random ones, against those of the slices beside them.
    fn measure(&mut self, at_ms: i64) {
        let running = at_ms.div_euclid(MINUTE_MS);
        if running == self.measured_in {
            return;
        }
        self.measured_in = running;
        // A minute with less than a few events in it tells nothing.
        let recent_ms: i64 = self.recent.iter().sum();
        let is_busy = recent_ms < 15_000 * self.recent.len() as i64;
        let (counts, slice_ms) = if is_busy {
            (&self.minutes, MINUTE_MS)
        } else {
            (&self.slices, SLICE_MS)
        };
        let running = at_ms.div_euclid(slice_ms);
        let begun = self.first.map_or(running, |first| first.div_euclid(slice_ms));
        let from = begun.max(running - DISPERSION_SLICES) + 1;
        let count = |slice: i64| counts.get(&slice).copied().unwrap_or(0.0);
        let misses = (from + 1..running - 1).filter_map(|slice| {
            let beside = f64::midpoint(count(slice - 1), count(slice + 1));
            // The difference of a count and the mean of two has one and a half times the variance.
            (beside > 0.0).then(|| (count(slice) - beside).powi(2) / (1.5 * beside))
        });
        let mut squares: Vec<f64> = misses.collect();
        if squares.len() >= LEAST_MEASURED {
            // The median of a squared standard normal variable is 0.4549.
            self.dispersion = (median(&mut squares).unwrap_or(1.0) / 0.4549).clamp(1.0, 20.0);
        }
    }
}

/// Silence of what is counted rather than seen event by event: how long a pause may be after so many events.
#[derive(Clone)]
pub struct Pauses {
    silence: Silence,
    /// Of the counted spans since the last event, all without one.
    empty_ms: i64,
}

impl Pauses {
    pub fn new(options: &Options) -> Pauses {
        Pauses {
            silence: Silence::new(options),
            empty_ms: 0,
        }
    }

    /// Takes what was counted in a span; spans come in their order.
    pub fn count(&mut self, from_ms: i64, span_ms: i64, count: f64) {
        if count <= 0.0 {
            self.empty_ms += span_ms;
            return;
        }
        // Events are taken to lie evenly; the first ends the pause before.
        let pause_ms = (span_ms + self.empty_ms) as f64 / count;
        self.empty_ms = 0;
        self.silence.note_pauses(pause_ms as i64, count as usize);
        self.silence.note(from_ms, count);
        self.silence.measure(from_ms);
    }

    /// The longest pause after an event at that instant that is no silence, in seconds; none before enough events
    /// were counted.
    pub fn allowed_s(&self, last_ms: i64) -> Option<f64> {
        self.silence.allowed_s(last_ms)
    }
}
