//! One series of a rule, watched: complete buckets teach the detectors, and what is still young is looked at as
//! soon as it can be told from chance.
//!
//! A count is watched over windows of several lengths at once: a short one finds large drops within seconds, a
//! long one small drops, and drops of what is rare. Samples of the last minute slide, so that a drop need not
//! wait for its minute to end.

use std::collections::VecDeque;

use crate::young::Young;
use crate::{Detector, Direction, Judgement, Kind, Options, Point, Value};

/// How a series' numbers hang together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Series {
    /// Counts, and shares of counts: a longer window holds the sum of its buckets.
    Sums,
    /// A number as of an instant, such as the users of a rolling window.
    Level,
}

/// What a series is watched with.
#[derive(Clone, Debug)]
pub struct Settings {
    pub options: Options,
    pub series: Series,
    /// The length of a complete bucket.
    pub bucket_ms: i64,
    /// The lengths of the windows, shortest first; whole numbers of buckets.
    pub windows_ms: Vec<i64>,
    /// Samples come so often; 0: there are none.
    pub sample_ms: i64,
    /// A window of which less is expected is not judged.
    pub min_expected: f64,
    /// The series that are watched alike, such as those of all platforms: false alarms are divided among them.
    pub alike: usize,
}

/// One window as it was last judged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Look {
    pub window_ms: i64,
    pub judgement: Judgement,
}

/// What is made of a series now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// All windows that could be judged, shortest first.
    pub looks: Vec<Look>,
    pub breaches: bool,
    /// Enough of the last looks breached.
    pub fires: bool,
}

impl Verdict {
    /// The look that says most: the shortest window that breaches, or else the shortest.
    pub fn telling(&self) -> Option<&Look> {
        let breaching = self.looks.iter().find(|look| look.judgement.breaches);
        breaching.or_else(|| self.looks.first())
    }

    /// Whether the number is back from a miss of such a share of what was expected: seen on the shortest window
    /// that can tell a quarter of the miss from chance, it has come half of the way.
    pub fn is_back(&self, missed: f64) -> Option<bool> {
        let telling = self.looks.iter().find(|look| {
            let judgement = look.judgement;
            match (judgement.expected, judgement.sigma) {
                (Some(expected), Some(sigma)) => sigma <= missed.abs() / 4.0 * expected.abs(),
                // Without an expectation the limits alone say.
                _ => true,
            }
        });
        let look = telling.or(self.looks.last())?;
        let judgement = look.judgement;
        let Some((value, expected)) = judgement.value.zip(judgement.expected) else {
            return judgement.value.map(|_| !judgement.breaches);
        };
        if expected == 0.0 || missed == 0.0 {
            return Some(!judgement.breaches);
        }
        let misses = (expected - value) / expected.abs();
        Some(misses / missed < 0.5 && !judgement.breaches)
    }
}

#[derive(Clone)]
struct Window {
    length_ms: i64,
    /// Slides over samples, and does not wait for buckets to be complete.
    is_sampled: bool,
    /// What is learned from begins so often: long windows overlap, since between two of them that lie hours apart
    /// nothing is known of where in between a level stepped.
    pace_ms: i64,
    detector: Detector,
    /// The bucket of this length that is filling, and what is in it.
    filling: Option<(i64, Value)>,
    judged: Option<Judgement>,
    /// The end of the last span of samples that its live spread was measured on.
    noted_to_ms: i64,
}

impl Window {
    /// Puts a bucket into the window that it belongs to; gives that when it is full.
    fn fill(&mut self, at_ms: i64, end_ms: i64, value: Value, is_sum: bool) -> Option<(i64, Value)> {
        let begin = at_ms.div_euclid(self.length_ms) * self.length_ms;
        let before = match self.filling {
            Some((at, sum)) if at == begin && is_sum => Some(sum),
            _ => None,
        };
        let sum = before.map_or(value, |before| before.plus(value));
        let is_full = end_ms >= begin + self.length_ms;
        self.filling = (!is_full).then_some((begin, sum));
        is_full.then_some((begin, sum))
    }
}

/// A series being watched. Times are milliseconds of local time, so that the same hour meets the same hour where
/// daylight saving begins.
#[derive(Clone)]
pub struct Watch {
    settings: Settings,
    windows: Vec<Window>,
    /// Complete buckets, as many as the longest window holds.
    buckets: VecDeque<(i64, Value)>,
    /// When each sample was taken, and what had come since the one before.
    samples: VecDeque<(i64, Value)>,
    young: Young,
    last: VecDeque<bool>,
}

/// The misses of so much of the past are measured when a watch begins.
const MEASURED_MS: i64 = 2 * 86_400_000;
const MEASURED_POINTS: i64 = 400;
const DAY_MS: i64 = 86_400_000;
/// Longer windows hardly gain by sliding over samples.
const LONGEST_SAMPLED_MS: i64 = 5 * 60_000;
/// Long windows that are learned from overlap so often.
const OVERLAP: i64 = 6;

/// How many independent looks are as good as those at a window that slides, so many a window's length. At a limit of z
/// standard deviations they are z² · ν(z · √(2 / looks)), ν(x) ≈ exp(−0.583 x) being what is lost by looking now and
/// then only (D. Siegmund, "Sequential Analysis", 1985, chapters 4 and 10).
fn independent(looks: f64) -> f64 {
    const Z: f64 = 4.8;
    let sliding = Z * Z * (-0.583 * Z * (2.0 / looks).sqrt()).exp();
    sliding.clamp(1.0, looks.max(1.0))
}

impl Watch {
    pub fn new(settings: &Settings) -> Watch {
        // Windows of several lengths hold each other, and mostly breach together.
        let apart = (settings.windows_ms.len() as f64).sqrt();
        let windows = settings.windows_ms.iter().enumerate().map(|(place, length_ms)| {
            let mut options = settings.options.clone();
            let is_sampled = settings.sample_ms > 0 && (place == 0 || *length_ms < LONGEST_SAMPLED_MS);
            let pace_ms = if is_sampled {
                settings.sample_ms
            } else {
                settings.bucket_ms
            };
            // A detector learns one point a window, or a bucket where that is longer.
            let looks = (*length_ms).max(settings.bucket_ms) as f64 / pace_ms as f64;
            options.looks = independent(looks) * apart * settings.alike.max(1) as f64;
            options.firing = (1, 1);
            options.is_live = is_sampled && *length_ms < settings.bucket_ms;
            // What is hours ago is not just before.
            options.is_near = is_sampled && *length_ms < LONGEST_SAMPLED_MS;
            // What lasts for a while makes the misses of an hour look alike.
            let point_ms = (*length_ms).max(settings.bucket_ms);
            let pace_ms = if settings.series == Series::Sums && point_ms > LONGEST_SAMPLED_MS {
                (point_ms / OVERLAP).div_euclid(settings.bucket_ms).max(1) * settings.bucket_ms
            } else {
                point_ms
            };
            options.points_a_day = (DAY_MS / pace_ms) as usize;
            options.overlap = point_ms as f64 / pace_ms as f64;
            Window {
                length_ms: *length_ms,
                is_sampled,
                pace_ms,
                detector: Detector::new(&options),
                filling: None,
                judged: None,
                noted_to_ms: i64::MIN,
            }
        });
        Watch {
            windows: windows.collect(),
            settings: settings.clone(),
            buckets: VecDeque::new(),
            samples: VecDeque::new(),
            young: Young::default(),
            last: VecDeque::new(),
        }
    }

    /// Goes on with an alert that is on: what was expected in its window when it began.
    pub fn recall(&mut self, window_ms: f64, expected: f64) {
        self.young.recall(window_ms, expected);
    }

    /// Learns from the past, oldest first, up to now.
    pub fn prime(&mut self, past: &[(i64, Value)], now_ms: i64) {
        for (at_ms, value) in past {
            self.learn(*at_ms, *value, now_ms);
        }
    }

    /// Whether it has seen anything yet.
    pub fn has_past(&self) -> bool {
        !self.buckets.is_empty()
    }

    /// The next complete bucket: judged, then learned from.
    pub fn complete(&mut self, at_ms: i64, value: Value, is_firing: bool) {
        self.set_firing(is_firing);
        self.keep(at_ms, value);
        let end = at_ms + self.settings.bucket_ms;
        for index in 0..self.windows.len() {
            let length_ms = self.windows[index].length_ms;
            let is_sampled = self.windows[index].is_sampled && self.sampled(length_ms).is_some();
            let Some(sum) = self.sum(end - length_ms, end) else {
                self.windows[index].judged = None;
                continue;
            };
            let point = Point {
                at_ms: end - length_ms,
                value: Some(sum),
            };
            let window = &mut self.windows[index];
            match window.detector.probe(point) {
                Some(judgement) if !is_sampled => window.judged = Some(judgement),
                // What slides over the samples has judged it.
                Some(_) => {}
                None if end.rem_euclid(length_ms) == 0 => {
                    window.judged = Some(window.detector.judge(point));
                }
                None => {}
            }
        }
        let judges_by_itself = matches!(self.settings.options.kind, Kind::Cusum);
        if !judges_by_itself {
            self.learn_windows(at_ms, value, end);
        }
    }

    fn learn(&mut self, at_ms: i64, value: Value, now_ms: i64) {
        self.keep(at_ms, value);
        self.learn_windows(at_ms, value, now_ms);
    }

    fn keep(&mut self, at_ms: i64, value: Value) {
        let longest = self.settings.windows_ms.last().copied().unwrap_or_default();
        self.buckets.push_back((at_ms, value));
        while self.buckets.front().is_some_and(|(at, _)| *at <= at_ms - longest) {
            self.buckets.pop_front();
        }
    }

    fn learn_windows(&mut self, at_ms: i64, value: Value, now_ms: i64) {
        let is_sum = self.settings.series == Series::Sums;
        let end = at_ms + self.settings.bucket_ms;
        for index in 0..self.windows.len() {
            let Window {
                length_ms, pace_ms, ..
            } = self.windows[index];
            let learned = if pace_ms < length_ms {
                let sum = (end.rem_euclid(pace_ms) == 0).then(|| self.sum(end - length_ms, end));
                sum.flatten().map(|sum| (end - length_ms, sum))
            } else {
                self.windows[index].fill(at_ms, end, value, is_sum)
            };
            if let Some((begin, sum)) = learned {
                let measured_ms = MEASURED_MS.max(length_ms * MEASURED_POINTS);
                let point = Point {
                    at_ms: begin,
                    value: Some(sum),
                };
                let detector = &mut self.windows[index].detector;
                detector.learn(point, begin > now_ms - measured_ms);
            }
        }
    }

    /// The buckets of a window; none while some are missing.
    fn sum(&self, from_ms: i64, to_ms: i64) -> Option<Value> {
        if self.settings.series == Series::Level {
            return self.buckets.back().map(|(_, value)| *value);
        }
        let held = self
            .buckets
            .iter()
            .filter(|(at, _)| (from_ms..to_ms).contains(at));
        let count = held.clone().count() as i64;
        if count < (to_ms - from_ms) / self.settings.bucket_ms {
            return None;
        }
        held.map(|(_, value)| *value).reduce(Value::plus)
    }

    fn set_firing(&mut self, is_firing: bool) {
        for window in &mut self.windows {
            window.detector.set_firing(is_firing);
        }
    }

    /// What has come since the last sample, or since the watch began.
    pub fn sample(&mut self, now_ms: i64, fresh: Value, is_firing: bool) {
        self.set_firing(is_firing);
        let sampled = self.windows.iter().filter(|window| window.is_sampled);
        let length_ms = sampled.map(|window| window.length_ms).max().unwrap_or_default();
        self.samples.push_back((now_ms, fresh));
        // A share's window is compared with the one before it.
        let length_ms = if matches!(fresh, Value::Share(..)) {
            2 * length_ms
        } else {
            length_ms
        };
        // The oldest that stays is the beginning of the window: what it holds came before.
        while self
            .samples
            .get(1)
            .is_some_and(|(at, _)| *at <= now_ms - length_ms)
        {
            self.samples.pop_front();
        }
        if let Value::Number(count) = fresh {
            self.young.sample(now_ms, count, is_firing);
        }
    }

    /// Forgets samples: what comes next is no measure of a minute, such as a back-log that is worked off.
    pub fn interrupt(&mut self) {
        self.samples.clear();
        self.young.interrupt();
        self.last.clear();
        for window in &mut self.windows {
            window.judged = None;
        }
    }

    /// What came in the last so long: when that began, how long it really is, and the sum; none while samples do
    /// not reach back so far.
    fn sampled(&self, length_ms: i64) -> Option<(i64, i64, Value)> {
        let (last_ms, _) = *self.samples.back()?;
        self.sampled_before(last_ms, length_ms)
    }

    /// What came in so long before an instant.
    fn sampled_before(&self, end_ms: i64, length_ms: i64) -> Option<(i64, i64, Value)> {
        let mut sum: Option<Value> = None;
        for (at_ms, value) in self.samples.iter().rev().skip_while(|(at, _)| *at > end_ms) {
            // Samples come about as often as they should.
            if *at_ms <= end_ms - length_ms + self.settings.sample_ms / 2 {
                // The window begins here: what this one holds came before.
                return sum.map(|sum| (*at_ms, end_ms - at_ms, sum));
            }
            sum = Some(sum.map_or(*value, |sum| sum.plus(*value)));
        }
        None
    }

    /// A window's sum as it is judged. Those who take a step now began a while ago: where more begin from one window
    /// to the next, the step's share falls by that alone, and it is judged over the window before, too.
    fn fair(&self, begin_ms: i64, length_ms: i64, sum: Value) -> Option<Value> {
        let Value::Share(taken, begun) = sum else {
            return Some(sum);
        };
        let Some((_, _, Value::Share(_, before))) = self.sampled_before(begin_ms, length_ms) else {
            return None;
        };
        let begun = match self.settings.options.direction {
            Direction::Drop => begun.min(before),
            Direction::Rise => begun.max(before),
            Direction::Both => f64::midpoint(begun, before),
        };
        Some(Value::Share(taken, begun))
    }

    /// Judges what can be judged now.
    pub fn look(&mut self) -> Verdict {
        self.slide();
        let mut looks: Vec<Look> = Vec::new();
        for window in &self.windows {
            if let Some(judgement) = window.judged
                && self.is_judged(&judgement, window.length_ms)
            {
                looks.push(Look {
                    window_ms: window.length_ms,
                    judgement,
                });
            }
        }
        if looks.is_empty()
            && self.settings.options.kind == Kind::Count
            && self.settings.options.direction != Direction::Rise
            && let Some((window_ms, judgement)) = self.young.judge(self.settings.min_expected)
        {
            looks.push(Look { window_ms, judgement });
        }
        let breaches = looks.iter().any(|look| look.judgement.breaches);
        let (of, among) = self.settings.options.firing;
        self.last.push_back(breaches);
        while self.last.len() > among {
            self.last.pop_front();
        }
        let fires = self.last.iter().filter(|one| **one).count() >= of;
        Verdict {
            looks,
            breaches,
            fires,
        }
    }

    /// Judges the samples of the last windows, as if they were exactly as long.
    fn slide(&mut self) {
        for index in 0..self.windows.len() {
            let length_ms = self.windows[index].length_ms;
            if !self.windows[index].is_sampled {
                continue;
            }
            let Some((begin_ms, span_ms, sum)) = self.sampled(length_ms) else {
                continue;
            };
            let Some(sum) = self.fair(begin_ms, length_ms, sum) else {
                continue;
            };
            let point = Point {
                at_ms: begin_ms,
                value: Some(scale(sum, length_ms as f64 / span_ms as f64)),
            };
            let window = &mut self.windows[index];
            if let Some(judgement) = window.detector.probe(point) {
                window.judged = Some(judgement);
            }
            if begin_ms >= window.noted_to_ms {
                window.noted_to_ms = begin_ms + span_ms;
                window.detector.note_live(point);
            }
        }
    }

    fn is_judged(&self, judgement: &Judgement, window_ms: i64) -> bool {
        let Some(value) = judgement.value else {
            return false;
        };
        let Some(expected) = judgement.expected else {
            // Fixed limits need no expectation; anything else does not know yet.
            return judgement.low.is_some() || judgement.high.is_some();
        };
        if judgement.sigma.is_none() && judgement.low.is_none() && judgement.high.is_none() {
            return false;
        }
        let most = if self.settings.options.direction == Direction::Drop {
            expected
        } else {
            expected.max(value)
        };
        if self.settings.options.kind == Kind::Rate {
            // Of shares, the events behind them count.
            let end = self
                .buckets
                .back()
                .map_or(0, |(at, _)| at + self.settings.bucket_ms);
            let denominator = match self.weight(end, window_ms) {
                Some(Value::Share(_, denominator)) => denominator,
                _ => 0.0,
            };
            return denominator * most >= self.settings.min_expected;
        }
        most.abs() >= self.settings.min_expected
    }

    /// What a window rests on: its samples, or its buckets.
    fn weight(&self, end_ms: i64, window_ms: i64) -> Option<Value> {
        let is_sampled = self
            .windows
            .iter()
            .any(|window| window.is_sampled && window.length_ms == window_ms);
        if is_sampled && let Some((_, _, sum)) = self.sampled(window_ms) {
            return Some(sum);
        }
        self.sum(end_ms - window_ms, end_ms)
    }
}

/// A share is the same over any span.
fn scale(value: Value, factor: f64) -> Value {
    match value {
        Value::Number(number) => Value::Number(number * factor),
        share @ Value::Share(..) => share,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_at_what_slides_are_fewer_than_they_seem() {
        for (looks, least, most) in [
            (1.0, 1.0, 1.0),
            (5.0, 3.0, 5.0),
            (30.0, 8.0, 15.0),
            (1000.0, 15.0, 24.0),
        ] {
            let count = independent(looks);
            assert!((least..=most).contains(&count), "{looks}: {count}");
        }
    }

    /// A step that two in five take about two minutes after the one before, in samples of ten seconds: the share of
    /// those who go on stays as it was when many more begin, and falls when the step breaks.
    #[test]
    fn a_rush_is_no_broken_step() {
        for (rush, works, breaches) in [(1.0, true, false), (3.0, true, false), (1.0, false, true)] {
            let mut watch = Watch::new(&Settings {
                options: Options::new(Kind::Rate),
                series: Series::Sums,
                bucket_ms: 3_600_000,
                windows_ms: vec![300_000],
                sample_ms: 10_000,
                min_expected: 20.0,
                alike: 1,
            });
            let hours: Vec<(i64, Value)> = (0..24 * 20)
                .map(|hour| {
                    // By chance a little more or less.
                    let taken = 4800.0 + f64::from(hour % 7 - 3) * 20.0;
                    (i64::from(hour) * 3_600_000, Value::Share(taken, 12_000.0))
                })
                .collect();
            let begin = 24 * 20 * 3_600_000;
            watch.prime(&hours, begin);
            let (mut going_on, mut has_breached) = (0.0, false);
            for sample in 0..540 {
                let is_changed = sample >= 360;
                let begun = 33.0 * if is_changed { rush } else { 1.0 };
                going_on += begun * 0.4;
                let arriving = going_on / 12.0;
                going_on -= arriving;
                let taken = if is_changed && !works { 0.0 } else { arriving };
                watch.sample(begin + sample * 10_000, Value::Share(taken, begun), false);
                has_breached |= watch.look().breaches;
            }
            assert_eq!(has_breached, breaches, "{rush}, {works}");
        }
    }
}
