//! How far points lie from what was expected of them, measured on the misses themselves.

use std::collections::VecDeque;

use crate::baseline::Basis;
use crate::history::median;

/// The median absolute deviation of a normal distribution, times this, is its standard deviation.
const MAD_TO_SIGMA: f64 = 1.4826;
/// Misses that are looked back on, and that are needed.
const KEEP: usize = 2016;
const LEAST: usize = 20;
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
}

/// A miss of a point of which `e` was expected has the standard deviation `sigma · scale(e)`.
#[derive(Clone, Copy, Debug)]
struct Measured {
    power: f64,
    floor: f64,
    sigma: f64,
    /// How much heavier the tails are than normal ones; 1: as normal.
    tails: f64,
}

impl Spread {
    /// So many misses are needed at least.
    pub fn new(least: usize) -> Spread {
        Spread {
            fresh: None,
            least: least.max(LEAST),
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
            if *fresh >= self.least {
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

    /// The standard deviation of a miss, and how heavy its tails are; none before enough was seen.
    pub fn of(&self, expected: f64) -> Option<(f64, f64)> {
        let measured = self.measured?;
        Some((measured.sigma * measured.scale(expected), measured.tails))
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
        };
        let mut scaled: Vec<f64> = self
            .misses
            .iter()
            .map(|(expected, miss)| miss.abs() / measured.scale(*expected))
            .collect();
        measured.sigma = MAD_TO_SIGMA * median(&mut scaled)?;
        // Now in order: what nearly all misses stay below.
        let rank = ((scaled.len() as f64) * 0.99) as usize;
        let most = scaled[rank.min(scaled.len() - 1)];
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
