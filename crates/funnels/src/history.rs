//! What a funnel remembers of a user's events, in the order of time, then of the log.

use cambium_engine::{Slice, room_for_one};
use serde::de::{Deserialize, Deserializer, Error};
use serde::ser::{Serialize, Serializer};
use smallvec::SmallVec;

/// An event that matters to a funnel. Small, because there may be many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub time: i64,
    /// Bit n: it fits step n + 1.
    pub steps: u32,
    /// The place of its slice among the history's; the highest bit: it stands between two steps of a strict funnel.
    slice: u32,
}

const BREAKS: u32 = 1 << 31;

impl Seen {
    pub fn breaks(&self) -> bool {
        self.slice & BREAKS != 0
    }

    fn slice(&self) -> usize {
        (self.slice & !BREAKS) as usize
    }
}

/// What few funnels ask of an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Beside {
    /// Bit n: it fits the n-th exclusion.
    pub excludes: u32,
    /// It is part of a session, of this group.
    pub session: Option<u64>,
}

/// An event on its way into a history.
pub(crate) struct New {
    pub time: i64,
    pub steps: u32,
    pub breaks: bool,
    pub slice: Slice,
    pub beside: Beside,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct History {
    seen: Vec<Seen>,
    /// One for each event; or none, where there is nothing to say of any.
    beside: Vec<Beside>,
    slices: SmallVec<[Slice; 1]>,
}

/// How many slices are looked through for one that is known; one that is not found stands there twice.
const LOOKED_THROUGH: usize = 8;

impl std::ops::Deref for History {
    type Target = [Seen];

    fn deref(&self) -> &[Seen] {
        &self.seen
    }
}

impl History {
    pub fn excludes(&self, place: usize) -> u32 {
        self.beside.get(place).map_or(0, |beside| beside.excludes)
    }

    pub fn session(&self, place: usize) -> Option<u64> {
        self.beside.get(place).and_then(|beside| beside.session)
    }

    pub fn slice(&self, place: usize) -> &Slice {
        &self.slices[self.seen[place].slice()]
    }

    pub fn insert(&mut self, new: New) {
        let at = match self.seen.last() {
            Some(last) if last.time > new.time => self.seen.partition_point(|known| known.time <= new.time),
            _ => self.seen.len(),
        };
        let slice = self.intern(new.slice) | if new.breaks { BREAKS } else { 0 };
        if new.beside != Beside::default() || !self.beside.is_empty() {
            self.beside.resize(self.seen.len(), Beside::default());
            self.beside.insert(at, new.beside);
        }
        room_for_one(&mut self.seen);
        self.seen.insert(
            at,
            Seen {
                time: new.time,
                steps: new.steps,
                slice,
            },
        );
    }

    fn intern(&mut self, slice: Slice) -> u32 {
        let known = self
            .slices
            .iter()
            .rev()
            .take(LOOKED_THROUGH)
            .position(|one| *one == slice);
        let place = match known {
            Some(from_last) => self.slices.len() - 1 - from_last,
            None => {
                self.slices.push(slice);
                self.slices.len() - 1
            }
        };
        place as u32
    }

    pub fn forget_before(&mut self, time: i64) {
        let old = self.seen.partition_point(|seen| seen.time < time);
        if old == 0 {
            return;
        }
        self.seen.drain(..old);
        if !self.beside.is_empty() {
            self.beside.drain(..old);
        }
        let before = std::mem::take(&mut self.slices);
        for place in 0..self.seen.len() {
            let seen = self.seen[place];
            let slice = self.intern(before[seen.slice()].clone());
            self.seen[place].slice = slice | (seen.slice & BREAKS);
        }
    }
}

impl Serialize for History {
    /// Each time as what it lies behind the one before.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut before = 0;
        let seen: Vec<(i64, u32, u32)> = self
            .seen
            .iter()
            .map(|seen| {
                let after = seen.time - std::mem::replace(&mut before, seen.time);
                (after, seen.steps, seen.slice.rotate_left(1))
            })
            .collect();
        (seen, &self.beside, &self.slices).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for History {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        type Saved = (Vec<(i64, u32, u32)>, Vec<Beside>, SmallVec<[Slice; 1]>);
        let (saved, beside, slices) = Saved::deserialize(deserializer)?;
        let mut time = 0;
        let seen: Vec<Seen> = saved
            .into_iter()
            .map(|(after, steps, slice)| {
                time += after;
                let slice = slice.rotate_right(1);
                Seen { time, steps, slice }
            })
            .collect();
        if seen.iter().any(|seen| seen.slice() >= slices.len())
            || (!beside.is_empty() && beside.len() != seen.len())
        {
            return Err(D::Error::custom(
                "events do not go together with what stands beside them",
            ));
        }
        Ok(History { seen, beside, slices })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against a plain list, through saving and forgetting.
    #[test]
    fn a_history_is_a_sorted_list() {
        let mut dice = fastrand::Rng::with_seed(5);
        for round in 0..500 {
            let (mut history, mut truth) = (History::default(), Vec::new());
            let has_beside = round % 2 == 0;
            for _ in 0..dice.usize(..60) {
                let beside = Beside {
                    excludes: dice.u32(..2),
                    session: dice.bool().then_some(0),
                };
                let one = (
                    dice.i64(0..40),
                    dice.u32(..4),
                    dice.bool(),
                    dice.u32(..12),
                    if has_beside { beside } else { Beside::default() },
                );
                history.insert(New {
                    time: one.0,
                    steps: one.1,
                    breaks: one.2,
                    slice: Slice([one.3].into_iter().collect()),
                    beside: one.4,
                });
                let at = truth.partition_point(|known: &(i64, u32, bool, u32, Beside)| known.0 <= one.0);
                truth.insert(at, one);
                if dice.u8(..8) == 0 {
                    let time = dice.i64(0..20);
                    history.forget_before(time);
                    truth.retain(|one| one.0 >= time);
                }
                if dice.u8(..8) == 0 {
                    history = postcard::from_bytes(&postcard::to_stdvec(&history).unwrap()).unwrap();
                }
                let found: Vec<_> = (0..history.len())
                    .map(|place| {
                        let beside = Beside {
                            excludes: history.excludes(place),
                            session: history.session(place),
                        };
                        let seen = history[place];
                        (
                            seen.time,
                            seen.steps,
                            seen.breaks(),
                            history.slice(place).0[0],
                            beside,
                        )
                    })
                    .collect();
                assert_eq!(found, truth);
            }
        }
    }
}
