//! Counts with seasons and noise, to judge detectors on. Five families: four that were looked at while the defaults
//! were made, and one of other shapes and other noise that was written before the last changes and left alone.

use fastrand::Rng;

/// How a series behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// One evening peak, busier weekends, gamma noise.
    Tuned,
    /// Two peaks a day, quiet weekends, growth, noise that lasts for minutes, a holiday in the third week.
    Judged,
    /// Three peaks a day and hardly anybody at night, a strong Saturday, slow decline, bursts that last for minutes;
    /// the same holiday.
    Bursting,
    /// Office hours that begin and end sharply, hardly a weekend, growth, a level that wanders for half an hour and
    /// minutes that differ by themselves; the same holiday.
    Office,
    /// Players who come in the night and more on Fridays and at weekends, a campaign that brings a tenth more from the
    /// twelfth day on, events that come in heaps, a level that wanders for minutes; the same holiday. Nothing was
    /// changed after looking at it.
    Unseen,
}

/// A series in pieces of a minute, as they come while the minute is filling; `base` is what is expected in a minute
/// of middling traffic.
#[derive(Clone)]
pub struct Pieces {
    family: Family,
    base: f64,
    random: Rng,
    lasting: f64,
    burst: f64,
    noise: f64,
    minute: usize,
}

impl Pieces {
    pub fn new(family: Family, seed: u64, base: f64) -> Pieces {
        let mut pieces = Pieces {
            family,
            base,
            random: Rng::with_seed(seed),
            lasting: 0.0,
            burst: 0.0,
            noise: 1.0,
            minute: 0,
        };
        pieces.turn(0);
        pieces
    }

    fn turn(&mut self, minute: usize) {
        self.minute = minute;
        self.noise = match self.family {
            Family::Unseen => {
                self.lasting = 0.85 * self.lasting + 0.025 * normal(&mut self.random);
                f64::exp(self.lasting)
            }
            Family::Office => {
                self.lasting = 0.96 * self.lasting + 0.02 * normal(&mut self.random);
                f64::exp(self.lasting) * gamma(&mut self.random, 400.0)
            }
            Family::Bursting => {
                self.lasting = 0.7 * self.lasting + 0.04 * normal(&mut self.random);
                // A push to everybody, now and then, wears off within minutes.
                self.burst = if self.random.f64() < 0.001 {
                    0.5
                } else {
                    self.burst * 0.8
                };
                f64::exp(self.lasting) * (1.0 + self.burst)
            }
            Family::Tuned => (0.06 * normal(&mut self.random)).exp(),
            Family::Judged => {
                self.lasting = 0.9 * self.lasting + 0.03 * normal(&mut self.random);
                f64::exp(self.lasting)
            }
        };
    }

    /// What comes in a piece of a minute, one in so many, of which a share is lost; minutes come in their order.
    pub fn next(&mut self, minute: usize, pieces: usize, lost: f64) -> u64 {
        if minute != self.minute {
            self.turn(minute);
        }
        let mean = self.base * shape(self.family, minute) * self.noise * (1.0 - lost) / pieces as f64;
        if self.family == Family::Unseen {
            // Heaps of one, two or three.
            let heaps = poisson(&mut self.random, mean / 2.0);
            return (0..heaps).map(|_| self.random.u64(1..=3)).sum();
        }
        poisson(&mut self.random, mean)
    }

    /// What comes of the same stream from here on, with other chances.
    pub fn fork(&self, seed: u64) -> Pieces {
        Pieces {
            random: Rng::with_seed(seed),
            ..self.clone()
        }
    }
}

pub const DAY: usize = 1440;
/// The day of the judged family on which a fifth stays away.
pub const HOLIDAY: usize = 17;

/// How busy a minute is, against the middle.
pub fn shape(family: Family, minute: usize) -> f64 {
    let (day, hour) = (minute / DAY, (minute % DAY) as f64 / 60.0);
    let peak = |at: f64, width: f64| (-((hour - at) / width).powi(2)).exp();
    match family {
        Family::Tuned => {
            let weekend = if day % 7 >= 5 { 1.3 } else { 1.0 };
            weekend * (1.0 + 0.6 * ((hour - 20.0) / 24.0 * std::f64::consts::TAU).cos())
        }
        Family::Unseen => {
            let weekday = [0.9, 0.85, 0.9, 0.95, 1.15, 1.5, 1.4][day % 7];
            let holiday = if day == HOLIDAY { 0.8 } else { 1.0 };
            let campaign = if day >= 12 { 1.1 } else { 1.0 };
            // The evening goes on after midnight.
            let late = peak(22.5, 2.5).max((-((hour + 24.0 - 22.5) / 2.5f64).powi(2)).exp());
            weekday * holiday * campaign * (0.3 + 0.5 * peak(13.0, 2.0) + 1.5 * late)
        }
        Family::Office => {
            let weekday = [1.0, 1.05, 1.05, 1.0, 0.9, 0.3, 0.25][day % 7];
            let holiday = if day == HOLIDAY { 0.8 } else { 1.0 };
            let growth = 1.02f64.powf(day as f64 / 7.0);
            // Within a quarter of an hour everybody is there, or has left.
            let edge = |at: f64| 1.0 / (1.0 + (-(hour - at) * 16.0).exp());
            let lunch = 1.0 - 0.3 * peak(12.5, 0.6);
            weekday
                * holiday
                * growth
                * (0.15 + 1.6 * (edge(9.0) - edge(18.0)) * lunch + 0.4 * peak(21.0, 1.5))
        }
        Family::Bursting => {
            let weekday = [1.0, 1.0, 1.0, 1.05, 1.1, 1.3, 0.9][day % 7];
            let holiday = if day == HOLIDAY { 0.8 } else { 1.0 };
            let decline = 0.98f64.powf(day as f64 / 7.0);
            let day = 0.15 + 0.9 * peak(8.0, 1.5) + peak(12.5, 1.2) + 1.4 * peak(19.5, 3.0);
            weekday * holiday * decline * day
        }
        Family::Judged => {
            let weekday = [1.0, 0.95, 0.9, 1.05, 1.2, 0.7, 0.6][day % 7];
            let holiday = if day == HOLIDAY { 0.8 } else { 1.0 };
            let growth = 1.01f64.powf(day as f64 / 7.0);
            weekday * holiday * growth * (0.35 + 1.1 * peak(9.0, 2.5) + 1.5 * peak(21.0, 2.0))
        }
    }
}

/// By Box and Muller.
fn normal(random: &mut Rng) -> f64 {
    let radius = (-2.0 * (1.0 - random.f64()).ln()).sqrt();
    radius * (random.f64() * std::f64::consts::TAU).cos()
}

/// With the mean 1 and a variance of one in so many, by the cube of a normal one (E. B. Wilson
/// and M. M. Hilferty, "The Distribution of Chi-Square", PNAS 17, 1931).
fn gamma(random: &mut Rng, shape: f64) -> f64 {
    let root = 1.0 - 1.0 / (9.0 * shape) + normal(random) / (3.0 * shape.sqrt());
    root.max(0.0).powi(3)
}

/// How many of so many it falls upon, each with this chance.
pub fn thinned(random: &mut Rng, count: u64, chance: f64) -> u64 {
    (0..count).filter(|_| random.f64() < chance).count() as u64
}

fn poisson(random: &mut Rng, mean: f64) -> u64 {
    if mean > 60.0 {
        return (mean + mean.sqrt() * normal(random)).round().max(0.0) as u64;
    }
    let (limit, mut product, mut count) = ((-mean).exp(), random.f64(), 0);
    while product > limit {
        product *= random.f64();
        count += 1;
    }
    count
}
