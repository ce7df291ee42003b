//! When a number is not what it should be: detectors, pure functions of a series' past. No I/O, no clock.
//!
//! A [`Detector`] is shown one point after the other and judges each from those before it alone. What it
//! expects is the middle of what was at the same time of earlier seasons; how far a point may lie from it,
//! it measures on its own misses, so that a false alarm is as rare as it was asked to be.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod baseline;
mod cusum;
mod history;
mod options;
mod seasonal;
mod silence;
mod simple;
mod spread;

use std::collections::VecDeque;

pub use options::{Direction, Kind, OptionError, Options};

/// One point of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Milliseconds since 1970.
    pub at_ms: i64,
    /// None where it is not known.
    pub value: Option<Value>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    Number(f64),
    /// A share: numerator and denominator.
    Share(f64, f64),
}

impl Value {
    /// The number itself, or the share; none over nothing.
    pub fn number(self) -> Option<f64> {
        match self {
            Value::Number(number) => Some(number),
            Value::Share(numerator, denominator) => (denominator > 0.0).then(|| numerator / denominator),
        }
    }
}

/// What a detector makes of a point; what is not known yet is none, and nothing fires on it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Judgement {
    /// The point's number; of silence, the seconds since the event before.
    pub value: Option<f64>,
    pub expected: Option<f64>,
    /// What lies between them is as it should be.
    pub low: Option<f64>,
    pub high: Option<f64>,
    /// How unlikely or how far; each detector says in what.
    pub score: Option<f64>,
    /// The point lies outside, in the direction that is watched.
    pub breaches: bool,
    /// Enough of the last evaluations did.
    pub fires: bool,
}

enum Method {
    Threshold(simple::Threshold),
    Change(simple::Change),
    Seasonal(Box<seasonal::Seasonal>),
    Rate(Box<seasonal::Rate>),
    Cusum(Box<cusum::Cusum>),
    Silence(Box<silence::Silence>),
}

/// A detector at work on one series.
pub struct Detector {
    method: Method,
    /// Fires when so many of the last so many evaluations breach.
    of: (usize, usize),
    last: VecDeque<bool>,
}

impl Detector {
    pub fn new(options: &Options) -> Detector {
        let method = match options.kind {
            Kind::Threshold => Method::Threshold(simple::Threshold::new(options)),
            Kind::Change => Method::Change(simple::Change::new(options)),
            Kind::Season | Kind::Count | Kind::RobustZ => {
                Method::Seasonal(Box::new(seasonal::Seasonal::new(options)))
            }
            Kind::Rate => Method::Rate(Box::new(seasonal::Rate::new(options))),
            Kind::Cusum => Method::Cusum(Box::new(cusum::Cusum::new(options))),
            Kind::Silence => Method::Silence(Box::new(silence::Silence::new(options))),
        };
        Detector {
            method,
            of: options.firing,
            last: VecDeque::new(),
        }
    }

    /// Judges the next point; points come in the order of their times.
    pub fn judge(&mut self, point: Point) -> Judgement {
        let mut judgement = match &mut self.method {
            Method::Threshold(method) => method.judge(point),
            Method::Change(method) => method.judge(point),
            Method::Seasonal(method) => method.judge(point),
            Method::Rate(method) => method.judge(point),
            Method::Cusum(method) => method.judge(point),
            Method::Silence(method) => method.judge(point),
        };
        self.last.push_back(judgement.breaches);
        if self.last.len() > self.of.1 {
            self.last.pop_front();
        }
        let breaches = self.last.iter().filter(|breach| **breach).count();
        judgement.fires = breaches >= self.of.0;
        judgement
    }
}
