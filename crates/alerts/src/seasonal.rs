//! Detectors that measure how far a number may lie from its season: any number, counts, shares.

use statrs::distribution::{ContinuousCDF, DiscreteCDF, NegativeBinomial, Normal, Poisson};

use crate::baseline::{Baseline, Expected};
use crate::history::DAY_MS;
use crate::near::Near;
use crate::spread::{Spread, Usual};
use crate::{Direction, Judgement, Kind, Options, Point, Value};

const WEEK_MS: f64 = 7.0 * 86_400_000.0;
/// Where nothing came so far, now and then something may.
const RAREST: f64 = 0.25;
/// Above it the negative binomial distribution is as good as normal.
const LARGE_COUNT: f64 = 1e6;

/// The share of looks that may be false alarms.
fn tail(false_alarms_a_week: f64, step_ms: i64, looks: f64) -> f64 {
    (false_alarms_a_week * step_ms as f64 / WEEK_MS / looks.max(1.0)).clamp(1e-12, 0.2)
}

/// How many standard deviations leave such a share outside, on one side.
fn quantile(tail: f64) -> f64 {
    Normal::standard().inverse_cdf(1.0 - tail)
}

/// What is watched on both sides is divided between them.
fn sides(direction: Direction) -> f64 {
    if direction == Direction::Both { 2.0 } else { 1.0 }
}

/// Any number, and counts. Score: of robust-z and season, the miss in standard deviations, below 0 beneath
/// what is expected; of count, −log10 of the share of points that lie as far out.
#[derive(Clone)]
pub struct Seasonal {
    baseline: Baseline,
    spread: Spread,
    kind: Kind,
    z: f64,
    false_alarms: f64,
    looks: f64,
    direction: Direction,
    near: Option<Near>,
    pub is_firing: bool,
}

impl Seasonal {
    pub fn new(options: &Options) -> Seasonal {
        let is_near = options.is_near && options.direction != Direction::Both;
        Seasonal {
            near: is_near.then(Near::default),
            is_firing: false,
            baseline: Baseline::new(options, Some(DAY_MS)),
            spread: Spread::new(options),
            kind: options.kind,
            z: options.get("z"),
            false_alarms: options.get("false_alarms"),
            looks: options.looks,
            direction: options.direction,
        }
    }

    pub fn judge(&mut self, point: Point) -> Judgement {
        let expected = self.baseline.expected(point.at_ms);
        let judgement = self.against(expected, point.value.and_then(Value::number), true);
        self.note(point, expected);
        judgement
    }

    /// Judges a point that is not learned from; it may begin between two points of the series. Limits are worked
    /// out only where it breaches them.
    pub fn probe(&mut self, point: Point) -> Judgement {
        let step = self.baseline.history.step_ms();
        let mut expected = self.baseline.expected_at(point.at_ms);
        if let (Some(near), Some(step)) = (&self.near, step)
            && !self.is_firing
        {
            let factor = near.factor(point.at_ms, step);
            expected = expected.zip(factor).map(|(expected, factor)| Expected {
                value: expected.value * Near::fair(factor, self.direction),
                ..expected
            });
        }
        self.against(expected, point.value.and_then(Value::number), false)
    }

    /// Learns from a point without judging it; only a recent one is worth measuring a miss on.
    pub fn learn(&mut self, point: Point, is_recent: bool) {
        let expected = is_recent.then(|| self.baseline.expected(point.at_ms)).flatten();
        self.note(point, expected);
    }

    fn note(&mut self, point: Point, expected: Option<Expected>) {
        if let (Some(value), Some(expected)) = (point.value.and_then(Value::number), expected) {
            let factor = self.factor(point.at_ms);
            // How far a holiday lies from what stands in for it is no measure of other days.
            if let Some(factor) = factor
                && !self.baseline.is_holiday(point.at_ms)
            {
                let near = expected.value * factor;
                self.spread.push(near, value - near, expected.from);
            }
            if let Some(near) = &mut self.near {
                near.push(point.at_ms, value, expected.value);
            }
        }
        self.baseline.push(point.at_ms, point.value, expected);
    }

    /// What moves the expectation; none: it is not known yet.
    fn factor(&self, at_ms: i64) -> Option<f64> {
        match (&self.near, self.baseline.history.step_ms()) {
            (None, _) => Some(1.0),
            (Some(near), Some(step)) => {
                let factor = near.factor(at_ms, step)?;
                Some(Near::fair(factor, self.direction))
            }
            (Some(_), None) => None,
        }
    }

    fn against(&self, expected: Option<Expected>, value: Option<f64>, always_limits: bool) -> Judgement {
        let mut judgement = Judgement {
            value,
            expected: expected.map(|expected| expected.value),
            from: expected.map(|expected| expected.from),
            ..Judgement::default()
        };
        let (Some(expected), Some(step)) = (expected, self.baseline.history.step_ms()) else {
            return judgement;
        };
        let Some(usual) = self.spread.of(expected.value) else {
            return judgement;
        };
        judgement.sigma = Some(usual.sigma * usual.tails);
        let tail = tail(self.false_alarms, step, self.looks) / sides(self.direction);
        if self.kind == Kind::Count {
            self.limit_counts(&mut judgement, expected.value, usual, tail, always_limits);
        } else {
            self.limit_numbers(&mut judgement, expected.value, usual, tail);
        }
        judgement
    }

    fn limit_counts(
        &self,
        judgement: &mut Judgement,
        expected: f64,
        usual: Usual,
        tail: f64,
        always_limits: bool,
    ) {
        // Tails that are heavier than normal ones are as if the counts were more dispersed.
        let z = quantile(tail);
        let dispersion = (usual.sigma * usual.reach(z) / z).powi(2) / expected.max(RAREST);
        let counts = Counts::new(expected.max(RAREST), dispersion.max(1.0));
        let is_rare = judgement.value.is_some_and(|value| counts.tail(value) < tail);
        if always_limits || is_rare {
            judgement.low = Some(counts.low(tail));
            judgement.high = Some(counts.high(tail));
            judgement.breaches = judgement
                .value
                .is_some_and(|value| self.direction.breaches(value, judgement.low, judgement.high));
        }
        judgement.score = judgement
            .value
            .map(|value| -counts.tail(value).max(1e-300).log10());
    }

    fn limit_numbers(&self, judgement: &mut Judgement, expected: f64, usual: Usual, tail: f64) {
        let sigma = usual.sigma;
        let reach = match self.kind {
            Kind::RobustZ => self.z,
            _ => usual.reach(quantile(tail)),
        };
        judgement.low = Some(expected - reach * sigma);
        judgement.high = Some(expected + reach * sigma);
        judgement.score = judgement
            .value
            .filter(|_| sigma > 0.0)
            .map(|value| (value - expected) / sigma);
        judgement.breaches = judgement
            .value
            .is_some_and(|value| self.direction.breaches(value, judgement.low, judgement.high));
    }
}

/// Counts with a mean, and a variance that is so many times it: Poisson at 1, negative binomial beyond.
enum Counts {
    None,
    Poisson(Poisson),
    Dispersed(NegativeBinomial),
    Normal { mean: f64, sigma: f64 },
}

impl Counts {
    fn new(mean: f64, dispersion: f64) -> Counts {
        if mean <= 0.0 {
            return Counts::None;
        }
        let normal = Counts::Normal {
            mean,
            sigma: (mean * dispersion).sqrt(),
        };
        if mean > LARGE_COUNT {
            return normal;
        }
        if dispersion < 1.01 {
            return Poisson::new(mean).map_or(normal, Counts::Poisson);
        }
        // Mean r (1 − p) / p, variance mean / p.
        let (r, p) = (mean / (dispersion - 1.0), 1.0 / dispersion);
        NegativeBinomial::new(r, p).map_or(normal, Counts::Dispersed)
    }

    /// The share at or below a count.
    fn below(&self, count: f64) -> f64 {
        if count < 0.0 {
            return 0.0;
        }
        match self {
            Counts::None => 1.0,
            Counts::Poisson(poisson) => poisson.cdf(count as u64),
            Counts::Dispersed(dispersed) => dispersed.cdf(count as u64),
            Counts::Normal { mean, sigma } => Normal::standard().cdf((count - mean) / sigma),
        }
    }

    /// The share at or above a count.
    fn above(&self, count: f64) -> f64 {
        if count <= 0.0 {
            return 1.0;
        }
        let before = (count.ceil() - 1.0) as u64;
        match self {
            Counts::None => 0.0,
            Counts::Poisson(poisson) => poisson.sf(before),
            Counts::Dispersed(dispersed) => dispersed.sf(before),
            Counts::Normal { mean, sigma } => Normal::standard().cdf((mean - count) / sigma),
        }
    }

    /// The share that lies as far out, on the side where the count lies.
    fn tail(&self, count: f64) -> f64 {
        self.below(count).min(self.above(count))
    }

    /// The smallest count that is not too few: fewer come with less than the share.
    fn low(&self, tail: f64) -> f64 {
        first(|count| self.below(count) >= tail)
    }

    /// The largest count that is not too many.
    fn high(&self, tail: f64) -> f64 {
        first(|count| self.above(count + 1.0) < tail)
    }
}

/// The first whole number from 0 on for which it holds; it holds for all behind.
fn first(holds: impl Fn(f64) -> bool) -> f64 {
    let mut end = 1.0;
    while !holds(end) && end < 1e15 {
        end *= 2.0;
    }
    let (mut from, mut to) = (0.0, end);
    while from < to {
        let middle = ((from + to) / 2.0f64).floor();
        if holds(middle) {
            to = middle;
        } else {
            from = middle + 1.0;
        }
    }
    to
}

/// Shares. Score: the difference of the proportions in standard deviations.
#[derive(Clone)]
pub struct Rate {
    baseline: Baseline,
    spread: Spread,
    /// How far what is looked at lies from what is learned from, in standard deviations, where it is not the same.
    live: Option<Spread>,
    pub is_firing: bool,
    false_alarms: f64,
    looks: f64,
    direction: Direction,
}

/// How a share compares with what is expected of it.
struct Compared {
    share: f64,
    denominator: f64,
    /// The standard error of the difference of the two proportions.
    error: f64,
    z: f64,
}

impl Compared {
    /// None where the point is over nothing.
    fn new(value: Option<Value>, expected: Expected) -> Option<Compared> {
        let Some(Value::Share(_, denominator)) = value else {
            return None;
        };
        let share = value.and_then(Value::number)?;
        // Pooled, and never quite 0 or 1: a proportion of few says little (Agresti and Coull's two).
        let pooled = (share * denominator + expected.value * expected.weight + 2.0)
            / (denominator + expected.weight + 4.0);
        let error = (pooled * (1.0 - pooled) * (1.0 / denominator + 1.0 / expected.weight.max(1.0))).sqrt();
        Some(Compared {
            share,
            denominator,
            error,
            z: (share - expected.value) / error,
        })
    }
}

/// Until it was measured how far what is looked at lies from what is learned from: as a factor of chance alone.
const UNKNOWN_LIVE: f64 = 2.5;

impl Rate {
    pub fn new(options: &Options) -> Rate {
        Rate {
            baseline: Baseline::new(options, None),
            spread: Spread::new(options),
            live: options.is_live.then(|| Spread::of_day(0, 1.0, options.direction)),
            is_firing: false,
            false_alarms: options.get("false_alarms"),
            looks: options.looks,
            direction: options.direction,
        }
    }

    pub fn judge(&mut self, point: Point) -> Judgement {
        let expected = self.baseline.expected(point.at_ms);
        let judgement = self.against(point.value, expected);
        self.note(point, expected);
        judgement
    }

    /// Judges a point that is not learned from.
    pub fn probe(&mut self, point: Point) -> Judgement {
        let expected = self.baseline.expected_at(point.at_ms);
        self.against(point.value, expected)
    }

    /// What was looked at in a span that no other look was at.
    pub fn note_live(&mut self, point: Point) {
        let expected = self.baseline.expected_at(point.at_ms);
        if let (Some(live), Some(expected)) = (&mut self.live, expected)
            && !self.is_firing
            && let Some(compared) = Compared::new(point.value, expected)
        {
            live.push(1.0, compared.z, expected.from);
        }
    }

    /// Learns from a point without judging it.
    pub fn learn(&mut self, point: Point, is_recent: bool) {
        let expected = is_recent.then(|| self.baseline.expected(point.at_ms)).flatten();
        self.note(point, expected);
    }

    fn note(&mut self, point: Point, expected: Option<Expected>) {
        if let Some(expected) = expected
            && let Some(compared) = Compared::new(point.value, expected)
        {
            self.spread.push(1.0, compared.z, expected.from);
        }
        self.baseline.push(point.at_ms, point.value, expected);
    }

    fn against(&self, value: Option<Value>, expected: Option<Expected>) -> Judgement {
        let mut judgement = Judgement {
            value: value.and_then(Value::number),
            expected: expected.map(|expected| expected.value),
            from: expected.map(|expected| expected.from),
            ..Judgement::default()
        };
        let Some(expected) = expected else {
            return judgement;
        };
        let Some(compared) = Compared::new(value, expected) else {
            return judgement;
        };
        let (Some(usual), Some(step)) = (self.spread.of(1.0), self.baseline.history.step_ms()) else {
            return judgement;
        };
        let z = quantile(tail(self.false_alarms, step, self.looks) / sides(self.direction));
        let reach = |usual: Usual| usual.sigma * usual.reach(z);
        let live = self
            .live
            .as_ref()
            .map_or(z, |live| live.of(1.0).map_or(UNKNOWN_LIVE * z, reach));
        let reach = reach(usual).max(live).max(z) * compared.error;
        // Half a success either way: what is counted comes in whole ones.
        let whole = 0.5 / compared.denominator;
        judgement.sigma = Some(reach / z);
        judgement.low = Some((expected.value - reach - whole).max(0.0));
        judgement.high = Some((expected.value + reach + whole).min(1.0));
        judgement.score = Some(compared.z / usual.sigma.max(1.0));
        judgement.breaches = self
            .direction
            .breaches(compared.share, judgement.low, judgement.high);
        judgement
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_counts_leave_the_share_outside() {
        for (mean, dispersion) in [(0.5, 1.0), (12.0, 1.0), (200.0, 1.0), (200.0, 3.0), (5e6, 2.0)] {
            let counts = Counts::new(mean, dispersion);
            let (low, high) = (counts.low(1e-3), counts.high(1e-3));
            assert!(
                counts.below(low - 1.0) < 1e-3 && counts.below(low) >= 1e-3,
                "{mean}: {low}"
            );
            assert!(
                counts.above(high + 1.0) < 1e-3 && counts.above(high) >= 1e-3,
                "{mean}: {high}"
            );
        }
        assert_eq!(Counts::new(0.0, 1.0).low(1e-3), 0.0);
    }

    #[test]
    fn a_quantile_is_that_of_the_normal_distribution() {
        assert!((quantile(0.001) - 3.0902).abs() < 1e-3);
    }
}
