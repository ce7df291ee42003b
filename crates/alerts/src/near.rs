//! How the last points compare with what was expected of them: what moves a number for some minutes moves the next
//! minute too, so that a sudden drop stands out more than one against the season alone.

use std::collections::VecDeque;

use crate::Direction;

/// The points just before that are looked at.
const POINTS: usize = 5;
const LEAST_POINTS: usize = 3;

#[derive(Clone, Debug, Default)]
pub struct Near {
    /// When each began, what it was, and what was expected of it.
    points: VecDeque<(i64, f64, f64)>,
}

impl Near {
    pub fn push(&mut self, at_ms: i64, value: f64, expected: f64) {
        self.points.push_back((at_ms, value, expected));
        // One more, which may reach into a window that slides.
        while self.points.len() > POINTS + 1 {
            self.points.pop_front();
        }
    }

    /// The points that ended before a window begins, against what was expected of them.
    pub fn factor(&self, begin_ms: i64, step_ms: i64) -> Option<f64> {
        let since = begin_ms - step_ms * (POINTS as i64 + 2);
        let before = self
            .points
            .iter()
            .filter(|(at, ..)| *at >= since && at + step_ms <= begin_ms);
        let (mut count, mut value, mut expected) = (0, 0.0, 0.0);
        for (_, one, of_one) in before {
            count += 1;
            value += one;
            expected += of_one;
        }
        (count >= LEAST_POINTS && expected > 0.0).then(|| (value / expected).clamp(0.3, 3.0))
    }

    /// The factor that is judged with: what was high just before may be as usual again, and is no drop then.
    pub fn fair(factor: f64, direction: Direction) -> f64 {
        match direction {
            Direction::Drop => factor.min(1.0),
            Direction::Rise => factor.max(1.0),
            Direction::Both => 1.0,
        }
    }
}
