//! Detectors that need no distribution: fixed limits, and change against earlier weeks and days.

use crate::history::{DAY_MS, History, median};
use crate::{Direction, Judgement, Options, Point, Value};

/// Score: how far beyond its limit a value lies.
#[derive(Clone)]
pub struct Threshold {
    low: Option<f64>,
    high: Option<f64>,
    direction: Direction,
}

impl Threshold {
    pub fn new(options: &Options) -> Threshold {
        Threshold {
            low: options.given("low"),
            high: options.given("high"),
            direction: options.direction,
        }
    }

    pub fn judge(&self, point: Point) -> Judgement {
        let value = point.value.and_then(Value::number);
        let beyond = |value: f64| {
            let below = self.low.map_or(0.0, |low| low - value);
            let above = self.high.map_or(0.0, |high| value - high);
            below.max(above).max(0.0)
        };
        Judgement {
            value,
            low: self.low,
            high: self.high,
            score: value.map(beyond),
            breaches: value.is_some_and(|value| self.direction.breaches(value, self.low, self.high)),
            ..Judgement::default()
        }
    }
}

/// Score: the change in percent.
#[derive(Clone)]
pub struct Change {
    history: History,
    weeks: i64,
    days: i64,
    percent: f64,
    season_ms: i64,
    direction: Direction,
}

/// Days that stand in for weeks while a series is younger than a week.
const DAYS_INSTEAD: i64 = 3;

impl Change {
    pub fn new(options: &Options) -> Change {
        let (weeks, days) = (options.get("weeks") as i64, options.get("days") as i64);
        let keep = (weeks * options.season_ms).max(days.max(DAYS_INSTEAD) * DAY_MS) + DAY_MS;
        Change {
            history: History::new(keep),
            weeks,
            days,
            percent: options.get("percent"),
            season_ms: options.season_ms,
            direction: options.direction,
        }
    }

    fn expected(&self, at_ms: i64) -> Option<f64> {
        let ago = |period_ms: i64, count: i64| {
            (1..=count).filter_map(move |number| self.history.at(at_ms - number * period_ms)?.number())
        };
        let mut asked: Vec<f64> = ago(self.season_ms, self.weeks)
            .chain(ago(DAY_MS, self.days))
            .collect();
        if asked.is_empty() {
            asked = ago(DAY_MS, DAYS_INSTEAD).collect();
        }
        median(&mut asked)
    }

    pub fn judge(&mut self, point: Point) -> Judgement {
        let judgement = self.probe(point);
        self.learn(point);
        judgement
    }

    /// Learns from a point without judging it.
    pub fn learn(&mut self, point: Point) {
        self.history.push(point.at_ms, point.value);
    }

    /// Judges a point that is not learned from.
    pub fn probe(&self, point: Point) -> Judgement {
        let value = point.value.and_then(Value::number);
        let expected = self.expected(point.at_ms);
        let share = self.percent / 100.0;
        let apart = expected.map(|expected| expected.abs() * share);
        let low = expected.zip(apart).map(|(expected, apart)| expected - apart);
        let high = expected.zip(apart).map(|(expected, apart)| expected + apart);
        Judgement {
            value,
            expected,
            low,
            high,
            score: value
                .zip(expected)
                .filter(|(_, expected)| *expected != 0.0)
                .map(|(value, expected)| (value - expected) / expected.abs() * 100.0),
            breaches: value.is_some_and(|value| self.direction.breaches(value, low, high)),
            ..Judgement::default()
        }
    }
}
