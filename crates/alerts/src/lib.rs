//! When a number is not what it should be: detectors, pure functions of a series' past. No I/O, no clock.
//!
//! A [`Detector`] is shown one point after the other and judges each from those before it alone. What it
//! expects is the middle of what was at the same time of earlier seasons; how far a point may lie from it,
//! it measures on its own misses, so that a false alarm is as rare as it was asked to be.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod alert;
mod baseline;
mod cusum;
mod history;
mod near;
mod options;
mod rule;
mod seasonal;
mod silence;
mod simple;
mod spread;
mod watch;
mod young;

use std::collections::VecDeque;

pub use alert::{Alert, Delivery, Evidence, State, Told, Tracker};
pub use baseline::Basis;
pub use options::{Direction, Kind, OptionError, Options, firing};
pub use rule::{Metric, QuietHours, Rule, Severity, holidays};
pub use silence::Pauses;
pub use watch::{Look, Series, Settings, Verdict, Watch};

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

    /// Two values of one series taken together.
    pub fn plus(self, other: Value) -> Value {
        match (self, other) {
            (Value::Share(a, b), Value::Share(c, d)) => Value::Share(a + c, b + d),
            (Value::Number(a), Value::Number(b)) => Value::Number(a + b),
            (_, other) => other,
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
    /// How far a point usually lies from what is expected of it: a standard deviation.
    pub sigma: Option<f64>,
    /// What the expectation rests on.
    pub from: Option<Basis>,
}

#[derive(Clone)]
enum Method {
    Threshold(simple::Threshold),
    Change(simple::Change),
    Seasonal(Box<seasonal::Seasonal>),
    Rate(Box<seasonal::Rate>),
    Cusum(Box<cusum::Cusum>),
    Silence(Box<silence::Silence>),
}

/// A detector at work on one series.
#[derive(Clone)]
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

    /// Learns from the next point without judging it. Of an older one only the value is taken, of a recent one
    /// also by how much it was missed.
    pub fn learn(&mut self, point: Point, is_recent: bool) {
        match &mut self.method {
            Method::Threshold(_) => {}
            Method::Change(method) => method.learn(point),
            Method::Seasonal(method) => method.learn(point, is_recent),
            Method::Rate(method) => method.learn(point, is_recent),
            Method::Cusum(method) => {
                method.judge(point);
            }
            Method::Silence(method) => {
                method.judge(point);
            }
        }
    }

    /// While an alert is on, what came just before is no measure of what should come.
    pub fn set_firing(&mut self, is_firing: bool) {
        match &mut self.method {
            Method::Seasonal(method) => method.is_firing = is_firing,
            Method::Rate(method) => method.is_firing = is_firing,
            _ => {}
        }
    }

    /// Takes what was looked at in a span that no other such look was at, and is not learned from.
    pub fn note_live(&mut self, point: Point) {
        if let Method::Rate(method) = &mut self.method {
            method.note_live(point);
        }
    }

    /// Judges a point that is not learned from, such as one that is not complete yet; none: this detector
    /// judges complete points only.
    pub fn probe(&mut self, point: Point) -> Option<Judgement> {
        match &mut self.method {
            Method::Threshold(method) => Some(method.judge(point)),
            Method::Change(method) => Some(method.probe(point)),
            Method::Seasonal(method) => Some(method.probe(point)),
            Method::Rate(method) => Some(method.probe(point)),
            Method::Cusum(_) | Method::Silence(_) => None,
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
