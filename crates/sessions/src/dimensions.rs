//! What a stretch of a session says of its dimensions.

use cambium_engine::{Kind, Renames};
use serde::{Deserialize, Serialize};

/// Each dimension as the earliest event has it that has one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Dimensions {
    /// 0: missing.
    values: [u32; 5],
    /// When the events happened that have them: nearly always it is one event, the first.
    time: i64,
    /// Where it is not: the time of each.
    times: Option<Box<[i64; 5]>>,
}

impl Dimensions {
    /// Of one event.
    pub fn new(values: [u32; 5], time: i64) -> Dimensions {
        Dimensions {
            values,
            time,
            times: None,
        }
    }

    pub fn rename(&mut self, renames: &Renames) {
        for (place, value) in self.values.iter_mut().enumerate() {
            *value = renames.number(Kind::Dimension(place), *value);
        }
    }

    pub fn value(&self, place: usize) -> u32 {
        self.values[place]
    }

    fn time(&self, place: usize) -> i64 {
        self.times.as_ref().map_or(self.time, |times| times[place])
    }

    /// Whether the other has a dimension where this has none, or an earlier one.
    fn wants(&self, other: &Dimensions, place: usize) -> bool {
        other.values[place] != 0 && (self.values[place] == 0 || other.time(place) < self.time(place))
    }

    /// At equal times the other is the later in the log.
    pub fn join(&mut self, other: Dimensions) {
        if !(0..5).any(|place| self.wants(&other, place)) {
            return;
        }
        let mut times: [i64; 5] = std::array::from_fn(|place| self.time(place));
        for (place, time) in times.iter_mut().enumerate() {
            if self.wants(&other, place) {
                self.values[place] = other.values[place];
                *time = other.time(place);
            }
        }
        let mut there = (0..5).filter(|place| self.values[*place] != 0);
        let time = there.next().map_or(other.time, |first| times[first]);
        let is_one_event = there.all(|place| times[place] == time);
        self.time = time;
        self.times = (!is_one_event).then(|| Box::new(times));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Joined in any grouping, each dimension is that of the earliest event that has it.
    #[test]
    fn the_earliest_value_is_kept() {
        let mut dice = fastrand::Rng::with_seed(7);
        for _ in 0..2_000 {
            // Time, then values; earlier in the log first.
            let events: Vec<(i64, [u32; 5])> = (0..dice.usize(1..6))
                .map(|_| (dice.i64(0..4), std::array::from_fn(|_| dice.u32(0..3))))
                .collect();
            let split = dice.usize(1..=events.len());
            let all = |events: &[(i64, [u32; 5])]| {
                let mut each = events
                    .iter()
                    .map(|(time, values)| Dimensions::new(*values, *time));
                let first = each.next()?;
                Some(each.fold(first, |mut all, next| {
                    all.join(next);
                    all
                }))
            };
            let mut joined = all(&events[..split]).unwrap();
            if let Some(rest) = all(&events[split..]) {
                joined.join(rest);
            }
            for place in 0..5 {
                let having = events.iter().filter(|(_, values)| values[place] != 0);
                let earliest = having.min_by_key(|(time, _)| *time);
                assert_eq!(
                    joined.value(place),
                    earliest.map_or(0, |(_, values)| values[place]),
                    "{events:?}"
                );
            }
        }
    }
}
