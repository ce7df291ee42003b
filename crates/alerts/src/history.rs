//! A series' past: what was when.

use std::collections::{BTreeMap, VecDeque};

use crate::Value;

/// Seasons that are looked back on.
pub const SEASONS: i64 = 4;
pub const DAY_MS: i64 = 86_400_000;

/// The points of the last seasons, by their times.
#[derive(Clone)]
pub struct History {
    points: BTreeMap<i64, Value>,
    keep_ms: i64,
    /// The pauses between the last points; their middle is the step of the series.
    pauses: VecDeque<i64>,
    step_ms: Option<i64>,
    newest: Option<i64>,
}

const PAUSES: usize = 31;

impl History {
    /// Keeps so much of the past.
    pub fn new(keep_ms: i64) -> History {
        History {
            points: BTreeMap::new(),
            keep_ms,
            pauses: VecDeque::new(),
            step_ms: None,
            newest: None,
        }
    }

    /// The usual time between two points; none before there are three.
    pub fn step_ms(&self) -> Option<i64> {
        self.step_ms
    }

    /// Notes a point; one whose value is not known only tells the step.
    pub fn push(&mut self, at_ms: i64, value: Option<Value>) {
        if let Some(newest) = self.newest
            && at_ms > newest
        {
            self.pauses.push_back(at_ms - newest);
            if self.pauses.len() > PAUSES {
                self.pauses.pop_front();
            }
            if self.pauses.len() >= 2 {
                let mut sorted: Vec<i64> = self.pauses.iter().copied().collect();
                sorted.sort_unstable();
                self.step_ms = Some(sorted[sorted.len() / 2]);
            }
        }
        self.newest = self.newest.max(Some(at_ms));
        if let Some(value) = value {
            self.points.insert(at_ms, value);
        }
        let before = at_ms - self.keep_ms;
        while self.points.first_key_value().is_some_and(|(at, _)| *at < before) {
            self.points.pop_first();
        }
    }

    /// The point nearest to an instant, at most half a step away.
    pub fn at(&self, at_ms: i64) -> Option<Value> {
        let reach = self.step_ms? / 2;
        let near = self.points.range(at_ms - reach..=at_ms + reach);
        near.min_by_key(|(at, _)| (*at - at_ms).abs())
            .map(|(_, value)| *value)
    }

    /// All points from one instant to before another.
    pub fn between(&self, from_ms: i64, to_ms: i64) -> impl DoubleEndedIterator<Item = (i64, Value)> + '_ {
        let range = (from_ms < to_ms).then(|| self.points.range(from_ms..to_ms));
        range.into_iter().flatten().map(|(at, value)| (*at, *value))
    }
}

/// The middle of some numbers: of an even count, the mean of the two in the middle.
pub fn median(numbers: &mut [f64]) -> Option<f64> {
    if numbers.is_empty() {
        return None;
    }
    numbers.sort_unstable_by(f64::total_cmp);
    let half = numbers.len() / 2;
    Some(if numbers.len() % 2 == 1 {
        numbers[half]
    } else {
        f64::midpoint(numbers[half - 1], numbers[half])
    })
}
