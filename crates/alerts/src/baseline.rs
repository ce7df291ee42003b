//! What a point should be: the middle of what was at the same time of the seasons before. A series younger
//! than its season falls back on the days before, and then on what was just now. Holidays compare with
//! holidays, or with weekends while there were none; other days with other days.

use std::collections::{BTreeSet, VecDeque};

use crate::history::{DAY_MS, History, SEASONS, median};
use crate::{Direction, Options, Value};

/// What is expected of a point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Expected {
    pub value: f64,
    /// Of shares: all of the denominators that it rests on.
    pub weight: f64,
    pub from: Basis,
}

/// What an expectation rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Basis {
    /// The last points: the series is younger than two days.
    Recent,
    /// The same time of the days before: it is younger than two seasons.
    Days,
    /// The same time of the seasons before.
    Seasons,
}

/// Points that are near enough in time to stand for one another.
const NEIGHBOURS_MS: i64 = 5 * 60_000;
/// Points of just now that are needed, and that are looked at.
const LEAST_RECENT: usize = 20;
const RECENT: usize = 60;

#[derive(Clone)]
pub struct Baseline {
    pub history: History,
    season_ms: i64,
    /// Growth: how the last time compares with what was expected of it.
    level: Option<Level>,
    direction: Direction,
    /// Days since 1970, as the series' times count them.
    holidays: BTreeSet<i64>,
    /// What is expected of a point and of the next, while nothing new is known: looks come many a point.
    between: Option<(i64, Option<Expected>, Option<Expected>)>,
}

#[derive(Clone)]
struct Level {
    /// What is looked back on.
    span_ms: i64,
    ratios: VecDeque<(i64, f64)>,
    /// What the ratios are against.
    from: Option<Basis>,
    factor: f64,
    since: usize,
}

/// Below it, counts are too coarse for their ratios to tell growth.
const LEAST_LEVEL: f64 = 20.0;
const LEVEL_POINTS: usize = 300;
const LEAST_RATIOS: usize = 24;
const LEVEL_EVERY: usize = 10;

impl Baseline {
    /// The level of the last `level_ms` moves the expectation.
    pub fn new(options: &Options, level_ms: Option<i64>) -> Baseline {
        let season_ms = options.season_ms;
        Baseline {
            history: History::new(season_ms.max(DAY_MS) * SEASONS + DAY_MS),
            season_ms,
            level: level_ms.map(|span_ms| Level {
                span_ms,
                ratios: VecDeque::new(),
                from: None,
                factor: 1.0,
                since: 0,
            }),
            direction: options.direction,
            holidays: options.holidays.clone(),
            between: None,
        }
    }

    pub fn is_holiday(&self, at_ms: i64) -> bool {
        self.holidays.contains(&at_ms.div_euclid(DAY_MS))
    }

    /// What is expected of a window that begins between two points of the series: between what is expected of
    /// the two.
    pub fn expected_at(&mut self, at_ms: i64) -> Option<Expected> {
        let step_ms = self.history.step_ms()?;
        let before = at_ms.div_euclid(step_ms) * step_ms;
        let (_, first, second) = match self.between {
            Some(known) if known.0 == before => known,
            _ => {
                let found = (before, self.expected(before), self.expected(before + step_ms));
                *self.between.insert(found)
            }
        };
        let (first, Some(second)) = (first?, second) else {
            return first;
        };
        let share = (at_ms - before) as f64 / step_ms as f64;
        Some(Expected {
            value: first.value + (second.value - first.value) * share,
            weight: first.weight.min(second.weight),
            from: first.from.min(second.from),
        })
    }

    /// The days before, and the one season that there is: a weekend's Saturday is no weekday, so that what is
    /// watched for drops goes by the lower of the two.
    fn of_days(&self, mut days: Vec<(f64, f64)>, season: Option<(f64, f64)>) -> Expected {
        let Some(season) = season else {
            return self.middle(days, Basis::Days);
        };
        if self.direction == Direction::Both {
            days.push(season);
            return self.middle(days, Basis::Days);
        }
        let (of_days, of_season) = (
            self.middle(days, Basis::Days),
            self.middle(vec![season], Basis::Days),
        );
        let days_are_lower = of_days.value < of_season.value;
        if days_are_lower == (self.direction == Direction::Drop) {
            of_days
        } else {
            of_season
        }
    }

    /// On a holiday: the same time of the holidays before, or of the weekends while there was none.
    fn of_holidays(&self, at_ms: i64) -> Option<Expected> {
        let days = (1..=LOOK_BACK_DAYS).map(|days| at_ms - days * DAY_MS);
        let (holidays, others): (Vec<i64>, Vec<i64>) = days.partition(|then| self.is_holiday(*then));
        let mut found = self.around(holidays.into_iter());
        if found.is_empty() {
            found = self.around(others.into_iter().filter(|then| is_weekend(*then)));
        }
        (!found.is_empty()).then(|| self.middle(found, Basis::Days))
    }

    pub fn expected(&self, at_ms: i64) -> Option<Expected> {
        if self.is_holiday(at_ms)
            && let Some(expected) = self.of_holidays(at_ms)
        {
            return Some(expected);
        }
        let mut seasons = self.references(at_ms, self.season_ms, SEASONS);
        if seasons.len() >= 2 {
            return Some(self.middle(seasons, Basis::Seasons));
        }
        if self.season_ms > DAY_MS {
            let days = self.references(at_ms, DAY_MS, 7);
            if days.len() >= 2 {
                return Some(self.of_days(days, seasons.first().copied()));
            }
            seasons.extend(days);
        }
        if !seasons.is_empty() {
            return Some(self.middle(seasons, Basis::Seasons));
        }
        let step = self.history.step_ms()?;
        let recent: Vec<(f64, f64)> = self
            .history
            .between(at_ms - step * RECENT as i64 * 2, at_ms)
            .rev()
            .take(RECENT)
            .filter_map(|(_, value)| weighed(value))
            .collect();
        (recent.len() >= LEAST_RECENT).then(|| self.middle(recent, Basis::Recent))
    }

    /// What was so many times a period before, on days of the same kind.
    fn references(&self, at_ms: i64, period_ms: i64, count: i64) -> Vec<(f64, f64)> {
        let kind = self.is_holiday(at_ms);
        let before = (1..=count).map(|number| at_ms - number * period_ms);
        self.around(before.filter(|then| self.is_holiday(*then) == kind))
    }

    /// What was at some instants, near points taken together.
    fn around(&self, instants: impl Iterator<Item = i64>) -> Vec<(f64, f64)> {
        let step = self.history.step_ms().unwrap_or(NEIGHBOURS_MS);
        let reach = if step < NEIGHBOURS_MS { NEIGHBOURS_MS } else { 0 };
        let found = instants.filter_map(|then| {
            if reach == 0 {
                return weighed(self.history.at(then)?);
            }
            // Where a day ends a level may step: what is watched for drops goes by the lower side of it.
            let before = self.pooled(then - reach, then + step);
            let after = self.pooled(then, then + reach + 1);
            let both = || self.pooled(then - reach, then + reach + 1);
            let (Some(first), Some(second)) = (before, after) else {
                return both();
            };
            match self.direction {
                Direction::Drop if first.0 < second.0 => Some(first),
                Direction::Rise if first.0 > second.0 => Some(first),
                Direction::Drop | Direction::Rise => Some(second),
                Direction::Both => both(),
            }
        });
        found.collect()
    }

    /// The points of a span taken together.
    fn pooled(&self, from_ms: i64, to_ms: i64) -> Option<(f64, f64)> {
        let (mut sum, mut weight) = (0.0, 0.0);
        for (value, of_one) in self
            .history
            .between(from_ms, to_ms)
            .filter_map(|(_, value)| weighed(value))
        {
            sum += value * of_one;
            weight += of_one;
        }
        (weight > 0.0).then(|| (sum / weight, weight))
    }

    fn middle(&self, references: Vec<(f64, f64)>, from: Basis) -> Expected {
        let mut values: Vec<f64> = references.iter().map(|(value, _)| *value).collect();
        let factor = match &self.level {
            Some(level) if level.from == Some(from) => match from {
                // A weekend that was above other days says nothing of the Monday after it.
                Basis::Days => level.factor.min(1.0),
                _ => level.factor,
            },
            _ => 1.0,
        };
        Expected {
            value: self.central(&mut values).unwrap_or(0.0) * factor,
            weight: references.iter().map(|(_, weight)| weight).sum(),
            from,
        }
    }

    /// The middle; of an even number of values the one of the two in the middle that is nearer to what is watched for,
    /// so that of two weeks one that was out of the ordinary cries no wolf either.
    fn central(&self, values: &mut [f64]) -> Option<f64> {
        values.sort_unstable_by(f64::total_cmp);
        match self.direction {
            Direction::Both => median(values),
            Direction::Drop => values.get(values.len().saturating_sub(1) / 2).copied(),
            Direction::Rise => values.get(values.len() / 2).copied(),
        }
    }

    /// Notes a point, and how it compares with what was expected of it.
    pub fn push(&mut self, at_ms: i64, value: Option<Value>, expected: Option<Expected>) {
        self.history.push(at_ms, value);
        self.between = None;
        if self.is_holiday(at_ms) {
            return;
        }
        let (Some(level), Some(value), Some(expected)) =
            (&mut self.level, value.and_then(Value::number), expected)
        else {
            return;
        };
        let applied = if level.from == Some(expected.from) {
            level.factor
        } else {
            1.0
        };
        let applied = if expected.from == Basis::Days {
            applied.min(1.0)
        } else {
            applied
        };
        let plain = expected.value / applied;
        if expected.from == Basis::Recent || plain < LEAST_LEVEL {
            return;
        }
        // How a day compares with other days says nothing of how it compares with its own kind.
        if level
            .from
            .replace(expected.from)
            .is_some_and(|before| before != expected.from)
        {
            level.ratios.clear();
            level.factor = 1.0;
        }
        // Of a fine series a few points are enough.
        let apart = level.span_ms / LEVEL_POINTS as i64;
        if level.ratios.back().is_some_and(|(at, _)| at_ms - at < apart) {
            return;
        }
        level.ratios.push_back((at_ms, value / plain));
        while level
            .ratios
            .front()
            .is_some_and(|(at, _)| at_ms - at > level.span_ms)
        {
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

/// As far back as the history of a weekly season reaches.
const LOOK_BACK_DAYS: i64 = 28;

/// 1970-01-01 was a Thursday.
fn is_weekend(at_ms: i64) -> bool {
    matches!((at_ms.div_euclid(DAY_MS) + 3).rem_euclid(7), 5 | 6)
}

/// A number with the weight 1, a share with that of its denominator.
fn weighed(value: Value) -> Option<(f64, f64)> {
    match value {
        Value::Number(number) => Some((number, 1.0)),
        Value::Share(_, denominator) => Some((value.number()?, denominator)),
    }
}
