//! Counts too young for any season: the last half minute, or minute, against what came before it. Nothing is known
//! of their habits, so that only what is far beyond chance is a drop.

use std::collections::VecDeque;

use crate::{Basis, Judgement};

/// What is judged: the shorter finds a drop sooner, the longer a drop of what is rare.
const LAST_MS: [i64; 2] = [30_000, 60_000];
/// What it is judged against.
const LEAST_BEFORE_MS: i64 = 25_000;
const MOST_SAMPLES: usize = 900;
const LEAST_EVENTS: f64 = 60.0;
const LEAST_DISPERSION: f64 = 2.0;
const FAR: f64 = 5.0;
/// And as much as this must be gone.
const LEAST_SHARE: f64 = 0.4;

#[derive(Clone, Debug, Default)]
pub struct Young {
    newest: Option<i64>,
    /// Each sample: the time since the one before, the count, and whether it measures what should come.
    samples: VecDeque<(i64, f64, bool)>,
    /// Events a millisecond that were expected when an alert began that is still on.
    recalled: Option<f64>,
}

/// Samples taken together.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    span_ms: i64,
    count: f64,
}

impl Young {
    /// What was expected when an alert began that another process saw: what comes now is no measure of it.
    pub fn recall(&mut self, span_ms: f64, expected: f64) {
        self.recalled = (span_ms > 0.0).then(|| expected / span_ms);
    }

    /// While an alert fires, what comes is no measure of what should come.
    pub fn sample(&mut self, now_ms: i64, count: f64, is_firing: bool) {
        if !is_firing {
            self.recalled = None;
        }
        let Some(newest) = self.newest.replace(now_ms) else {
            return;
        };
        self.samples
            .push_back(((now_ms - newest).max(1), count, !is_firing));
        while self.samples.len() > MOST_SAMPLES {
            self.samples.pop_front();
        }
    }

    pub fn interrupt(&mut self) {
        self.newest = None;
    }

    /// The length of what is judged, and what is made of it; none while too little is known.
    pub fn judge(&self, min_expected: f64) -> Option<(i64, Judgement)> {
        let mut judged = LAST_MS
            .iter()
            .filter_map(|last_ms| self.judge_last(*last_ms, min_expected));
        let first = judged.next()?;
        let breaching = std::iter::once(first)
            .chain(judged)
            .find(|(_, judgement)| judgement.breaches);
        Some(breaching.unwrap_or(first))
    }

    fn judge_last(&self, last_ms: i64, min_expected: f64) -> Option<(i64, Judgement)> {
        let mut last = Sum::default();
        let mut newest = self.samples.iter().rev();
        while last.span_ms < last_ms * 9 / 10 {
            let (span_ms, count, _) = newest.next()?;
            last.span_ms += span_ms;
            last.count += count;
        }
        let before: Vec<(f64, f64)> = newest
            .filter(|(_, _, measures)| *measures)
            .map(|(span_ms, count, _)| (*span_ms as f64, *count))
            .collect();
        let before_ms: f64 = before.iter().map(|(span, _)| span).sum();
        let events: f64 = before.iter().map(|(_, count)| count).sum();
        let is_known = before_ms >= LEAST_BEFORE_MS as f64 && events >= LEAST_EVENTS;
        let (rate, before_ms) = match self.recalled {
            _ if is_known => (events / before_ms, before_ms),
            Some(rate) => (rate, LEAST_BEFORE_MS as f64),
            None => return None,
        };
        let expected = rate * last.span_ms as f64;
        if expected < min_expected {
            return None;
        }
        let squares = before
            .iter()
            .map(|(span, count)| (count - rate * span).powi(2) / (rate * span));
        let dispersion = squares.sum::<f64>() / (before.len() as f64 - 1.0).max(1.0);
        let dispersion = dispersion.max(LEAST_DISPERSION) * (1.0 + last.span_ms as f64 / before_ms);
        // The root of a count has the same spread whatever is expected (F. J. Anscombe, "The transformation of
        // Poisson, binomial and negative-binomial data", Biometrika 35, 1948).
        let root = |count: f64| (count + 0.375).sqrt();
        let lowest = (root(expected) - FAR * dispersion.sqrt() / 2.0).max(0.0).powi(2) - 0.375;
        let low = lowest.min(expected * (1.0 - LEAST_SHARE));
        let judgement = Judgement {
            value: Some(last.count),
            expected: Some(expected),
            low: Some(low.max(0.0)),
            score: Some(2.0 * (root(last.count) - root(expected)) / dispersion.sqrt()),
            breaches: last.count < low,
            sigma: Some((dispersion * expected).sqrt()),
            from: Some(Basis::Recent),
            ..Judgement::default()
        };
        Some((last.span_ms, judgement))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two samples a second, so many events in each, as long as said.
    fn fed(spans: &[(i64, f64)]) -> Young {
        let mut young = Young::default();
        let mut now = 0;
        for (seconds, count) in spans {
            for _ in 0..seconds * 2 {
                now += 500;
                young.sample(now, *count, false);
            }
        }
        young
    }

    #[test]
    fn what_was_expected_is_recalled_while_an_alert_is_on() {
        let mut young = Young::default();
        young.recall(30_000.0, 300.0);
        for second in 0..60 {
            young.sample(second * 1000, 10.0, true);
        }
        assert!(!young.judge(20.0).unwrap().1.breaches);
        young.sample(60_000, 10.0, false);
        assert!(young.judge(20.0).is_none());
    }

    #[test]
    fn a_large_drop_is_found_and_chance_is_not() {
        for (spans, breaches) in [
            (vec![(60, 1.0)], Some(false)),
            (vec![(60, 1.0), (26, 0.0)], Some(true)),
            (vec![(60, 1.0), (60, 0.5)], Some(false)),
            (vec![(60, 20.0), (30, 10.0)], Some(true)),
            (vec![(60, 20.0), (30, 16.0)], Some(false)),
            (vec![(60, 0.1), (60, 0.0)], None),
            (vec![(20, 5.0), (20, 0.0)], None),
        ] {
            let judged = fed(&spans).judge(20.0).map(|(_, judgement)| judgement.breaches);
            assert_eq!(judged, breaches, "{spans:?}");
        }
    }
}
