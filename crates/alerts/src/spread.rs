//! How far points lie from what was expected of them, measured on the misses themselves.

use std::collections::VecDeque;

use crate::baseline::Basis;
use crate::history::median;
use crate::{Direction, Options};

/// The median absolute deviation of a normal distribution, times this, is its standard deviation.
const MAD_TO_SIGMA: f64 = 1.4826;
/// What a median absolute deviation tells of so many misses, the standard deviation itself would tell of this share.
const MAD_EFFICIENCY: f64 = 0.37;
/// Misses that are looked back on, and that are needed.
const KEEP: usize = 2016;
const LEAST: usize = 20;
const MOST_LEAST: usize = 300;
const EVERY: usize = 16;
/// The 99th percentile of the absolute value of a standard normal variable.
const NORMAL_99: f64 = 2.575_829;

/// Misses, each with what was expected.
#[derive(Clone)]
pub struct Spread {
    misses: VecDeque<(f64, f64)>,
    since: usize,
    measured: Option<Measured>,
    /// What the misses were measured against.
    from: Option<Basis>,
    /// Misses of the present basis, while those of a worse one are still there.
    fresh: Option<usize>,
    least: usize,
    /// Of a better basis so many are needed: a whole day, since what is measured in a quiet night says little of the
    /// morning.
    least_fresh: usize,
    direction: Direction,
    overlap: f64,
}

/// How far misses usually lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usual {
    /// Their standard deviation.
    pub sigma: f64,
    /// How much heavier their tails are than normal ones.
    pub tails: f64,
    /// The degrees of freedom that both were measured with.
    freedom: f64,
}

impl Usual {
    /// Standard deviations that leave so little outside as `z` would if they were known, and not measured: the
    /// quantile of Student's distribution by its expansion (M. Abramowitz and I. Stegun, "Handbook of Mathematical
    /// Functions", 26.7.5), and the weight of the tails.
    pub fn reach(&self, z: f64) -> f64 {
        let (one, two) = (
            (z.powi(3) + z) / 4.0,
            (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0,
        );
        self.tails * (z + one / self.freedom + two / self.freedom.powi(2))
    }
}

/// A miss of a point of which `e` was expected has the standard deviation `sigma · scale(e)`.
#[derive(Clone, Copy, Debug)]
struct Measured {
    power: f64,
    floor: f64,
    sigma: f64,
    /// How much heavier the tails on the side that is watched are than normal ones; 1: as normal. A push to everybody
    /// makes no drop likelier.
    tails: f64,
    freedom: f64,
}

impl Spread {
    pub fn new(options: &Options) -> Spread {
        Spread::of_day(options.points_a_day, options.overlap, options.direction)
    }

    /// A day has so many misses, of which so many in a row are of the same.
    pub fn of_day(a_day: usize, overlap: f64, direction: Direction) -> Spread {
        Spread {
            direction,
            overlap,
            fresh: None,
            least: a_day.clamp(LEAST, MOST_LEAST),
            least_fresh: a_day.clamp(LEAST, KEEP),
            misses: VecDeque::new(),
            since: 0,
            measured: None,
            from: None,
        }
    }

    /// Notes a miss, and what the expectation rested on: misses of worse ones are forgotten as soon as there are
    /// enough of the better.
    pub fn push(&mut self, expected: f64, miss: f64, from: Basis) {
        if self.from.replace(from).is_some_and(|before| before < from) {
            self.fresh = Some(0);
        }
        self.misses.push_back((expected, miss));
        if let Some(fresh) = &mut self.fresh {
            *fresh += 1;
            if *fresh >= self.least_fresh {
                let old = self.misses.len() - *fresh;
                self.misses.drain(..old);
                self.fresh = None;
                self.measured = None;
            }
        }
        if self.misses.len() > KEEP {
            self.misses.pop_front();
        }
        self.since += 1;
        if self.misses.len() >= self.least && (self.since >= EVERY || self.measured.is_none()) {
            self.since = 0;
            self.measured = self.measure();
        }
    }

    /// How far a miss of a point of which so much is expected may lie; none before enough was seen.
    pub fn of(&self, expected: f64) -> Option<Usual> {
        let measured = self.measured?;
        Some(Usual {
            sigma: measured.sigma * measured.scale(expected),
            tails: measured.tails,
            freedom: measured.freedom,
        })
    }

    fn measure(&self) -> Option<Measured> {
        let mut sizes: Vec<f64> = self.misses.iter().map(|(expected, _)| expected.abs()).collect();
        let middle = median(&mut sizes)?;
        let floor = (middle * 0.05).max(f64::MIN_POSITIVE);
        let deviation = |keep: &dyn Fn(f64) -> bool| {
            let kept = self.misses.iter().filter(|(expected, _)| keep(expected.abs()));
            let mut misses: Vec<f64> = kept.map(|(_, miss)| miss.abs()).collect();
            (misses.len() >= LEAST / 2).then(|| median(&mut misses)).flatten()
        };
        let (quarter, three) = (sizes[sizes.len() / 4], sizes[sizes.len() * 3 / 4]);
        // Whether misses grow with what is expected (power 1), with its root (counts), or not at all.
        let below = deviation(&|size| size <= quarter);
        let above = deviation(&|size| size >= three);
        let power = match (below, above) {
            (Some(below), Some(above)) if below > 0.0 && above > 0.0 && three > 1.5 * quarter.max(floor) => {
                ((above / below).ln() / (three / quarter.max(floor)).ln()).clamp(0.0, 1.0)
            }
            _ => 0.0,
        };
        let mut measured = Measured {
            power,
            floor,
            sigma: 1.0,
            tails: 1.0,
            freedom: (MAD_EFFICIENCY * self.misses.len() as f64 / self.overlap).max(4.0),
        };
        let scaled = self
            .misses
            .iter()
            .map(|(expected, miss)| miss / measured.scale(*expected));
        let mut watched: Vec<f64> = scaled
            .clone()
            .filter(|miss| match self.direction {
                Direction::Drop => *miss <= 0.0,
                Direction::Rise => *miss >= 0.0,
                Direction::Both => true,
            })
            .map(f64::abs)
            .collect();
        let mut scaled: Vec<f64> = scaled.map(f64::abs).collect();
        measured.sigma = MAD_TO_SIGMA * median(&mut scaled)?;
        let sorted = if watched.len() >= LEAST / 2 {
            &mut watched
        } else {
            &mut scaled
        };
        sorted.sort_unstable_by(f64::total_cmp);
        // What nearly all misses stay below.
        let rank = ((sorted.len() as f64) * 0.99) as usize;
        let most = sorted[rank.min(sorted.len() - 1)];
        if measured.sigma <= 0.0 {
            // More than half are met exactly: what the others miss by is all there is.
            measured.sigma = most / NORMAL_99;
        }
        if measured.sigma > 0.0 {
            measured.tails = (most / measured.sigma / NORMAL_99).clamp(1.0, 3.0);
        }
        Some(measured)
    }
}

impl Measured {
    fn scale(&self, expected: f64) -> f64 {
        (expected.abs() + self.floor).powf(self.power)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_misses_reach_as_student_says() {
        let usual = |freedom| Usual {
            sigma: 1.0,
            tails: 1.0,
            freedom,
        };
        // Quantiles of Student's distribution at 0.999, by tables.
        for (freedom, quantile) in [(20.0, 3.552), (60.0, 3.232), (120.0, 3.160)] {
            let reach = usual(freedom).reach(3.0902);
            assert!((reach - quantile).abs() < 0.01, "{freedom}: {reach}");
        }
    }

    #[test]
    fn what_is_far_on_the_other_side_widens_nothing() {
        let tails = |direction| {
            let mut spread = Spread::of_day(100, 1.0, direction);
            for number in 0..1000 {
                let usual = f64::from(number % 11 - 5);
                spread.push(100.0, if number % 40 == 0 { 60.0 } else { usual }, Basis::Seasons);
            }
            spread.of(100.0).map(|usual| usual.tails)
        };
        assert_eq!(tails(Direction::Drop), Some(1.0));
        assert_eq!(tails(Direction::Rise), Some(3.0));
        assert_eq!(tails(Direction::Both), Some(3.0));
    }
}
