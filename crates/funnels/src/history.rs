//! What a funnel remembers of a user's events, in the order of time, then of the log.
//!
//! A user keeps them packed, as the bytes that a snapshot holds: there may be many, and they are looked at before a
//! flush alone. Nearly all come behind the last, and are written there.

use cambium_engine::{Slice, put_varint, take_varint};
use serde::de::{Deserialize, Deserializer, Error};
use serde::ser::{Serialize, Serializer};
use smallvec::SmallVec;

/// An event that matters to a funnel.
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
    rest: Rest,
}

/// What is the same packed and not.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
struct Rest {
    slices: SmallVec<[Slice; 1]>,
    /// One for each event; or none, where there is nothing to say of any.
    beside: Vec<Beside>,
}

/// A history as it is kept and saved.
#[derive(Debug, Default)]
pub(crate) struct Packed {
    /// Of each event, as varints: the time behind the one before, the steps, the slice.
    bytes: Vec<u8>,
    /// The time of the last event.
    last: i64,
    rest: Rest,
}

/// Most events take no more bytes than that.
const EVENT: usize = 8;
/// For so many bytes more is room made at a time.
const ROOM: usize = 16;

/// How many slices are looked through for one that is known; one that is not found stands there twice.
const LOOKED_THROUGH: usize = 8;

impl std::ops::Deref for History {
    type Target = [Seen];

    fn deref(&self) -> &[Seen] {
        &self.seen
    }
}

impl Rest {
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

    /// Notes what stands beside an event that comes to lie at a place of so many.
    fn put_beside(&mut self, (at, events): (usize, usize), new: Beside) {
        if new != Beside::default() || !self.beside.is_empty() {
            self.beside.resize(events, Beside::default());
            self.beside.insert(at, new);
        }
    }
}

impl History {
    pub fn excludes(&self, place: usize) -> u32 {
        self.rest.beside.get(place).map_or(0, |beside| beside.excludes)
    }

    pub fn session(&self, place: usize) -> Option<u64> {
        self.rest.beside.get(place).and_then(|beside| beside.session)
    }

    pub fn slice(&self, place: usize) -> &Slice {
        &self.rest.slices[self.seen[place].slice()]
    }

    fn insert(&mut self, new: New) {
        let at = self.seen.partition_point(|known| known.time <= new.time);
        let events = self.seen.len();
        self.rest.put_beside((at, events), new.beside);
        let slice = self.rest.intern(new.slice) | if new.breaks { BREAKS } else { 0 };
        let (time, steps) = (new.time, new.steps);
        self.seen.insert(at, Seen { time, steps, slice });
    }

    fn forget_before(&mut self, time: i64) {
        let old = self.seen.partition_point(|seen| seen.time < time);
        self.seen.drain(..old);
        let before = std::mem::take(&mut self.rest);
        self.rest.beside = before.beside;
        if !self.rest.beside.is_empty() {
            self.rest.beside.drain(..old);
        }
        for seen in &mut self.seen {
            let slice = self.rest.intern(before.slices[seen.slice()].clone());
            seen.slice = slice | (seen.slice & BREAKS);
        }
    }
}

impl Packed {
    /// The time of the first event, where there is any.
    pub fn first(&self) -> Option<i64> {
        take_varint(&mut self.bytes.as_slice()).map(|time| time as i64)
    }

    pub fn last(&self) -> Option<i64> {
        (!self.bytes.is_empty()).then_some(self.last)
    }

    /// The slices of all events.
    pub fn slices(&mut self) -> impl Iterator<Item = &mut Slice> {
        self.rest.slices.iter_mut()
    }

    /// Something of where the next event is written.
    pub fn touch(&self) -> i64 {
        self.bytes.last().map_or(0, |byte| i64::from(*byte))
    }

    pub fn insert(&mut self, new: New) {
        if new.time < self.last {
            self.change(|history| history.insert(new));
            return;
        }
        if new.beside != Beside::default() || !self.rest.beside.is_empty() {
            let events = match self.rest.beside.len() {
                0 => Events::of(&self.bytes).count(),
                known => known,
            };
            self.rest.put_beside((events, events), new.beside);
        }
        let slice = self.rest.intern(new.slice) | if new.breaks { BREAKS } else { 0 };
        let (time, steps) = (new.time, new.steps);
        self.push(Seen { time, steps, slice });
    }

    fn push(&mut self, seen: Seen) {
        if self.bytes.capacity() - self.bytes.len() < EVENT {
            self.bytes.reserve_exact(ROOM);
        }
        put_varint(&mut self.bytes, (seen.time - self.last) as u64);
        put_varint(&mut self.bytes, seen.steps.into());
        put_varint(&mut self.bytes, seen.slice.rotate_left(1).into());
        self.last = seen.time;
    }

    /// Looks at the history, unpacked into `room`.
    pub fn look<R>(&mut self, room: &mut History, work: impl FnOnce(&History) -> R) -> R {
        room.seen.clear();
        room.seen.extend(Events::of(&self.bytes));
        std::mem::swap(&mut room.rest, &mut self.rest);
        let result = work(room);
        std::mem::swap(&mut room.rest, &mut self.rest);
        result
    }

    pub fn forget_before(&mut self, time: i64) {
        if self.first().is_some_and(|first| first < time) {
            self.change(|history| history.forget_before(time));
        }
    }

    fn change(&mut self, work: impl FnOnce(&mut History)) {
        let mut history = History {
            seen: Events::of(&self.bytes).collect(),
            rest: std::mem::take(&mut self.rest),
        };
        work(&mut history);
        *self = Packed {
            rest: history.rest,
            ..Packed::default()
        };
        history.seen.into_iter().for_each(|seen| self.push(seen));
    }
}

/// The events in packed bytes; up to where they can be read.
struct Events<'b> {
    rest: &'b [u8],
    time: i64,
}

impl Events<'_> {
    fn of(bytes: &[u8]) -> Events<'_> {
        Events { rest: bytes, time: 0 }
    }
}

impl Iterator for Events<'_> {
    type Item = Seen;

    fn next(&mut self) -> Option<Seen> {
        self.time += take_varint(&mut self.rest)? as i64;
        let steps = take_varint(&mut self.rest)? as u32;
        let slice = (take_varint(&mut self.rest)? as u32).rotate_right(1);
        let time = self.time;
        Some(Seen { time, steps, slice })
    }
}

impl Serialize for Packed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (Bytes(&self.bytes), &self.rest).serialize(serializer)
    }
}

struct Bytes<'b>(&'b [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

impl<'de> Deserialize<'de> for Packed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (bytes, rest) = <(&[u8], Rest)>::deserialize(deserializer)?;
        let (mut events, mut last, mut count) = (Events::of(bytes), 0, 0);
        for seen in &mut events {
            if seen.slice() >= rest.slices.len() {
                return Err(D::Error::custom("an event is of no slice"));
            }
            (last, count) = (seen.time, count + 1);
        }
        if !events.rest.is_empty() || (!rest.beside.is_empty() && rest.beside.len() != count) {
            return Err(D::Error::custom(
                "events do not go together with what stands beside them",
            ));
        }
        let bytes = bytes.to_vec();
        Ok(Packed { bytes, last, rest })
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
            let (mut packed, mut truth) = (Packed::default(), Vec::new());
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
                packed.insert(New {
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
                    packed.forget_before(time);
                    truth.retain(|one| one.0 >= time);
                }
                if dice.u8(..8) == 0 {
                    packed = postcard::from_bytes(&postcard::to_stdvec(&packed).unwrap()).unwrap();
                }
                let mut history = History::default();
                packed.change(|unpacked| history = unpacked.clone());
                assert_eq!(
                    (packed.first(), packed.last()),
                    (
                        history.first().map(|seen| seen.time),
                        history.last().map(|seen| seen.time)
                    )
                );
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
