//! Small misses that add up: a cumulative sum of standardised residuals (E. S. Page, "Continuous Inspection
//! Schemes", Biometrika 41, 1954). Score: the larger of the two sums.

use crate::baseline::{Baseline, Basis};
use crate::history::DAY_MS;
use crate::spread::Spread;
use crate::{Direction, Judgement, Options, Point, Value};

/// The level that a leak is seen against is that of the last week.
const LEVEL_MS: i64 = 7 * DAY_MS;

#[derive(Clone)]
pub struct Cusum {
    baseline: Baseline,
    spread: Spread,
    slack: f64,
    limit: f64,
    below: f64,
    above: f64,
    direction: Direction,
}

impl Cusum {
    pub fn new(options: &Options) -> Cusum {
        Cusum {
            // What follows growth from day to day would follow a leak; not to follow it at all makes a leak of it.
            baseline: Baseline::new(options, Some(LEVEL_MS)),
            spread: Spread::new(options),
            slack: options.get("slack"),
            limit: options.get("limit"),
            below: 0.0,
            above: 0.0,
            direction: options.direction,
        }
    }

    pub fn judge(&mut self, point: Point) -> Judgement {
        let value = point.value.and_then(Value::number);
        // Misses add up, so that nothing but the season will do: against what was just now a daily curve is one
        // leak after the other, and against the days before a weekend is.
        let expected = self
            .baseline
            .expected(point.at_ms)
            .filter(|expected| expected.from == Basis::Seasons);
        let mut judgement = Judgement {
            value,
            expected: expected.map(|expected| expected.value),
            ..Judgement::default()
        };
        if let (Some(value), Some(expected)) = (value, expected) {
            let usual = self.spread.of(expected.value);
            if let Some(sigma) = usual.map(|usual| usual.sigma).filter(|sigma| *sigma > 0.0) {
                let z = (value - expected.value) / sigma;
                // The value that would bring each sum to its limit.
                judgement.low = Some(expected.value - sigma * (self.limit - self.below + self.slack));
                judgement.high = Some(expected.value + sigma * (self.limit - self.above + self.slack));
                // What is far beyond the limit already takes no longer to come back.
                let most = 2.0 * self.limit;
                self.below = (self.below - z - self.slack).clamp(0.0, most);
                self.above = (self.above + z - self.slack).clamp(0.0, most);
                let watched = match self.direction {
                    Direction::Drop => self.below,
                    Direction::Rise => self.above,
                    Direction::Both => self.below.max(self.above),
                };
                judgement.score = Some(watched);
                judgement.breaches = watched > self.limit;
            }
            self.spread
                .push(expected.value, value - expected.value, expected.from);
        }
        self.baseline.push(point.at_ms, point.value, expected);
        judgement
    }
}
