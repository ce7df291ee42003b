//! What a point should be: the middle of what was at the same time of the seasons before. A series younger
//! than its season falls back on the days before, and then on what was just now.

use std::collections::VecDeque;

use crate::Value;
use crate::history::{DAY_MS, History, SEASONS, median};

/// What is expected of a point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Expected {
    pub value: f64,
    /// Of shares: all of the denominators that it rests on.
    pub weight: f64,
    pub from: From,
}

/// What an expectation rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum From {
    Recent,
    Days,
    Seasons,
}

/// Points that are near enough in time to stand for one another.
const NEIGHBOURS_MS: i64 = 5 * 60_000;
/// Points of just now that are needed, and that are looked at.
const LEAST_RECENT: usize = 20;
const RECENT: usize = 60;

pub struct Baseline {
    pub history: History,
    season_ms: i64,
    /// Growth: how the last day compares with what was expected of it.
    level: Option<Level>,
}

struct Level {
    ratios: VecDeque<(i64, f64)>,
    factor: f64,
    since: usize,
}

/// Below it, counts are too coarse for their ratios to tell growth.
const LEAST_LEVEL: f64 = 20.0;
const LEVEL_POINTS: usize = 300;
const LEAST_RATIOS: usize = 24;
const LEVEL_EVERY: usize = 10;

impl Baseline {
    /// `follows_growth`: the last day's level moves the expectation. Not where slow change is looked for.
    pub fn new(season_ms: i64, follows_growth: bool) -> Baseline {
        Baseline {
            history: History::new(season_ms.max(DAY_MS) * SEASONS + DAY_MS),
            season_ms,
            level: follows_growth.then(|| Level {
                ratios: VecDeque::new(),
                factor: 1.0,
                since: 0,
            }),
        }
    }

    pub fn expected(&self, at_ms: i64) -> Option<Expected> {
        let mut seasons = self.references(at_ms, self.season_ms, SEASONS);
        if seasons.len() >= 2 {
            return Some(self.middle(seasons, From::Seasons));
        }
        if self.season_ms > DAY_MS {
            let mut days = self.references(at_ms, DAY_MS, 7);
            days.append(&mut seasons);
            if days.len() >= 2 {
                return Some(self.middle(days, From::Days));
            }
            seasons = days;
        }
        if !seasons.is_empty() {
            return Some(self.middle(seasons, From::Seasons));
        }
        let step = self.history.step_ms()?;
        let recent: Vec<(f64, f64)> = self
            .history
            .between(at_ms - step * RECENT as i64 * 2, at_ms)
            .rev()
            .take(RECENT)
            .filter_map(|(_, value)| weighed(value))
            .collect();
        (recent.len() >= LEAST_RECENT).then(|| self.middle(recent, From::Recent))
    }

    /// What was so many times a period before, near points taken together.
    fn references(&self, at_ms: i64, period_ms: i64, count: i64) -> Vec<(f64, f64)> {
        let step = self.history.step_ms().unwrap_or(NEIGHBOURS_MS);
        let reach = if step < NEIGHBOURS_MS { NEIGHBOURS_MS } else { 0 };
        let before = (1..=count).filter_map(|number| {
            let then = at_ms - number * period_ms;
            if reach == 0 {
                return weighed(self.history.at(then)?);
            }
            let near: Vec<(f64, f64)> = self
                .history
                .between(then - reach, then + reach + 1)
                .filter_map(|(_, value)| weighed(value))
                .collect();
            if near.is_empty() {
                return None;
            }
            let weight: f64 = near.iter().map(|(_, weight)| weight).sum();
            let sum: f64 = near.iter().map(|(value, weight)| value * weight).sum();
            Some((sum / weight, weight))
        });
        before.collect()
    }

    fn middle(&self, references: Vec<(f64, f64)>, from: From) -> Expected {
        let mut values: Vec<f64> = references.iter().map(|(value, _)| *value).collect();
        let factor = match &self.level {
            Some(level) if from != From::Recent => level.factor,
            _ => 1.0,
        };
        Expected {
            value: median(&mut values).unwrap_or(0.0) * factor,
            weight: references.iter().map(|(_, weight)| weight).sum(),
            from,
        }
    }

    /// Notes a point, and how it compares with what was expected of it.
    pub fn push(&mut self, at_ms: i64, value: Option<Value>, expected: Option<Expected>) {
        self.history.push(at_ms, value);
        let (Some(level), Some(value), Some(expected)) =
            (&mut self.level, value.and_then(Value::number), expected)
        else {
            return;
        };
        let plain = expected.value / level.factor;
        if expected.from == From::Recent || plain < LEAST_LEVEL {
            return;
        }
        // Of a fine series a few points are enough.
        let apart = DAY_MS / LEVEL_POINTS as i64;
        if level.ratios.back().is_some_and(|(at, _)| at_ms - at < apart) {
            return;
        }
        level.ratios.push_back((at_ms, value / plain));
        while level.ratios.front().is_some_and(|(at, _)| at_ms - at > DAY_MS) {
            level.ratios.pop_front();
        }
        level.since += 1;
        if level.since >= LEVEL_EVERY || level.ratios.len() < 2 * LEAST_RATIOS {
            level.since = 0;
            let mut ratios: Vec<f64> = level.ratios.iter().map(|(_, ratio)| *ratio).collect();
            level.factor = match median(&mut ratios) {
                Some(middle) if ratios.len() >= LEAST_RATIOS => middle.clamp(0.5, 2.0),
                _ => 1.0,
            };
        }
    }
}

/// A number with the weight 1, a share with that of its denominator.
fn weighed(value: Value) -> Option<(f64, f64)> {
    match value {
        Value::Number(number) => Some((number, 1.0)),
        Value::Share(_, denominator) => Some((value.number()?, denominator)),
    }
}
