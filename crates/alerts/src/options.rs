//! What a detector is told, with the defaults.

use std::collections::{BTreeMap, BTreeSet};

const WEEK_MS: i64 = 7 * 86_400_000;

/// The ways of judging.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Fixed limits.
    Threshold,
    /// Any number against its season, with limits for a given rate of false alarms.
    Season,
    /// A share of what was at the same time of the weeks and days before.
    Change,
    /// Counts against their season, by the tail of a Poisson or negative binomial distribution.
    Count,
    /// Shares against their season, by a test of two proportions.
    Rate,
    /// The residual of the season in robust standard deviations.
    RobustZ,
    /// Small misses that add up.
    Cusum,
    /// Pauses between events.
    Silence,
}

/// Which way is bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Drop,
    Rise,
    Both,
}

impl Direction {
    /// Whether a value lies outside of its limits on the side that is watched.
    pub(crate) fn breaches(self, value: f64, low: Option<f64>, high: Option<f64>) -> bool {
        let below = low.is_some_and(|low| value < low);
        let above = high.is_some_and(|high| value > high);
        match self {
            Direction::Drop => below,
            Direction::Rise => above,
            Direction::Both => below || above,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct OptionError(pub String);

/// `2/3`: two of the last three; none where it is not written so.
pub fn firing(text: &str) -> Option<(usize, usize)> {
    let (of, last) = text.split_once('/')?;
    let (of, last) = (of.trim().parse().ok()?, last.trim().parse().ok()?);
    (of >= 1 && of <= last).then_some((of, last))
}

/// A detector's options, complete.
#[derive(Clone, Debug)]
pub struct Options {
    pub kind: Kind,
    pub direction: Direction,
    pub season_ms: i64,
    /// So many of the last so many evaluations.
    pub firing: (usize, usize),
    /// Days that compare with their own kind, counted from 1970 as the series' times count them.
    pub holidays: BTreeSet<i64>,
    /// How often a point is looked at before it is complete, the last look included: false alarms are divided
    /// among the looks.
    pub looks: f64,
    /// Points are so near to each other that those just before tell how the next will be.
    pub is_near: bool,
    /// What is looked at is not of the kind that is learned from, such as those who take a step now against those of an
    /// hour that took it in the end: how far it usually lies from it is measured by itself.
    pub is_live: bool,
    /// Misses are measured over as much of a day as can be waited for before anything is judged by them; 0: as few
    /// as will do.
    pub points_a_day: usize,
    /// So many points in a row hold the same.
    pub overlap: f64,
    keys: BTreeMap<&'static str, f64>,
}

/// Names, and defaults where there are any.
pub type Keys = &'static [(&'static str, Option<f64>)];

/// Each kind's keys with their defaults; none: must be given, one of them at least.
const KEYS: [(Kind, Keys); 8] = [
    (Kind::Threshold, &[("low", None), ("high", None)]),
    (
        Kind::Change,
        &[("percent", Some(30.0)), ("weeks", Some(4.0)), ("days", Some(0.0))],
    ),
    (Kind::Season, &[("false_alarms", Some(0.1))]),
    (Kind::Count, &[("false_alarms", Some(0.1))]),
    (Kind::Rate, &[("false_alarms", Some(0.1))]),
    (Kind::RobustZ, &[("z", Some(4.0))]),
    (Kind::Cusum, &[("slack", Some(0.5)), ("limit", Some(12.0))]),
    (Kind::Silence, &[("false_alarms", Some(0.01))]),
];

impl Kind {
    pub const NAMES: [(&'static str, Kind); 8] = [
        ("threshold", Kind::Threshold),
        ("season", Kind::Season),
        ("change", Kind::Change),
        ("count", Kind::Count),
        ("rate", Kind::Rate),
        ("robust-z", Kind::RobustZ),
        ("cusum", Kind::Cusum),
        ("silence", Kind::Silence),
    ];

    pub fn name(self) -> &'static str {
        Kind::NAMES
            .into_iter()
            .find(|(_, kind)| *kind == self)
            .map_or("", |(name, _)| name)
    }

    pub fn keys(self) -> Keys {
        KEYS.into_iter()
            .find(|(kind, _)| *kind == self)
            .map_or(&[], |(_, keys)| keys)
    }
}

impl Options {
    pub fn new(kind: Kind) -> Options {
        let defaults = kind
            .keys()
            .iter()
            .filter_map(|(key, value)| Some((*key, (*value)?)));
        Options {
            kind,
            // Limits that are given are both meant.
            direction: if kind == Kind::Threshold {
                Direction::Both
            } else {
                Direction::Drop
            },
            season_ms: WEEK_MS,
            firing: (1, 1),
            holidays: BTreeSet::new(),
            looks: 1.0,
            is_near: false,
            is_live: false,
            points_a_day: 0,
            overlap: 1.0,
            keys: defaults.collect(),
        }
    }

    /// Sets one of the kind's own keys.
    pub fn set(&mut self, key: &str, value: f64) -> Result<(), OptionError> {
        let known = self.kind.keys().iter().find(|(name, _)| *name == key);
        let Some((name, _)) = known else {
            let names: Vec<&str> = self.kind.keys().iter().map(|(name, _)| *name).collect();
            return Err(OptionError(format!(
                "{} has no key '{key}'; it has {}",
                self.kind.name(),
                names.join(", ")
            )));
        };
        let may_be_negative = self.kind == Kind::Threshold;
        if !value.is_finite()
            || (value < 0.0 && !may_be_negative)
            || (value == 0.0 && *name == "false_alarms")
        {
            return Err(OptionError(format!("{key} = {value}: is a number above 0")));
        }
        self.keys.insert(name, value);
        Ok(())
    }

    /// Whether what must be given is there.
    pub fn check(&self) -> Result<(), OptionError> {
        if self.kind == Kind::Threshold && self.keys.is_empty() {
            return Err(OptionError("threshold needs low or high".to_owned()));
        }
        if self.kind == Kind::Change && self.get("weeks") + self.get("days") < 1.0 {
            return Err(OptionError(
                "change needs weeks or days to compare with".to_owned(),
            ));
        }
        if self.season_ms < 1000 {
            return Err(OptionError("a season is a second at least".to_owned()));
        }
        Ok(())
    }

    pub(crate) fn get(&self, key: &str) -> f64 {
        self.given(key).unwrap_or(0.0)
    }

    pub(crate) fn given(&self, key: &str) -> Option<f64> {
        self.keys.get(key).copied()
    }
}
