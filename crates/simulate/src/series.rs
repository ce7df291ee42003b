//! Counts by the minute with seasons, noise and incidents, to judge detectors on. Two families: one to tune on,
//! and one of other shapes and other noise that nothing was tuned on.

use fastrand::Rng;

/// How a series behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// One evening peak, busier weekends, gamma noise.
    Tuned,
    /// Two peaks a day, quiet weekends, growth, noise that lasts for minutes, a holiday in the third week.
    Judged,
}

/// Less than there should be, from a minute on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Incident {
    pub minute: usize,
    pub minutes: usize,
    /// What is lost: 1 is all.
    pub share: f64,
}

pub const DAY: usize = 1440;
/// The day of the judged family on which a fifth stays away.
pub const HOLIDAY: usize = 17;

/// Counts of so many minutes; `base` is the middle of what is expected in a minute.
pub fn counts(family: Family, seed: u64, base: f64, minutes: usize, incident: Option<Incident>) -> Vec<u64> {
    let mut random = Rng::with_seed(seed);
    let mut lasting = 0.0;
    (0..minutes)
        .map(|minute| {
            let noise = match family {
                Family::Tuned => (0.06 * normal(&mut random)).exp(),
                Family::Judged => {
                    lasting = 0.9 * lasting + 0.03 * normal(&mut random);
                    f64::exp(lasting)
                }
            };
            let lost = incident
                .filter(|one| (one.minute..one.minute + one.minutes).contains(&minute))
                .map_or(0.0, |one| one.share);
            poisson(&mut random, base * shape(family, minute) * noise * (1.0 - lost))
        })
        .collect()
}

/// How busy a minute is, against the middle.
pub fn shape(family: Family, minute: usize) -> f64 {
    let (day, hour) = (minute / DAY, (minute % DAY) as f64 / 60.0);
    let peak = |at: f64, width: f64| (-((hour - at) / width).powi(2)).exp();
    match family {
        Family::Tuned => {
            let weekend = if day % 7 >= 5 { 1.3 } else { 1.0 };
            weekend * (1.0 + 0.6 * ((hour - 20.0) / 24.0 * std::f64::consts::TAU).cos())
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
