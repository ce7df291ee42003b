//! The message ids of a user's accepted events.

use serde::de::{Deserialize, Deserializer, Error};
use serde::ser::{Serialize, Serializer};
use smallvec::SmallVec;

use crate::varint::{put_varint, take_varint};
use crate::{Bug, Map, bug};

/// Message ids, hashed, with the times of their events, for as long as a duplicate may come.
#[derive(Clone, Debug)]
pub(crate) enum Recent {
    Few(Few),
    Many(Box<Map<u64, i64>>),
}

/// A list up to here is searched from end to end; a hash map serves beyond.
const FEW: usize = 32;

/// A list that has grown full makes room for so many more, and not for as many again: there is one in each user.
const ROOM: usize = 4;

/// A short list of ids whose times lie near each other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Few {
    /// The earliest time there was.
    base: i64,
    ids: SmallVec<[Id; 3]>,
}

/// An id as two halves, so that nothing is lost between two of them, and its time behind the list's base.
#[derive(Clone, Copy, Debug)]
struct Id {
    halves: [u32; 2],
    after_ms: u32,
}

impl Id {
    fn new(id: u64, after_ms: u32) -> Id {
        Id {
            halves: halves(id),
            after_ms,
        }
    }

    fn id(self) -> u64 {
        u64::from(self.halves[0]) << 32 | u64::from(self.halves[1])
    }
}

fn halves(id: u64) -> [u32; 2] {
    [(id >> 32) as u32, id as u32]
}

impl Few {
    fn find(&self, id: u64) -> Option<usize> {
        let halves = halves(id);
        self.ids.iter().position(|known| known.halves == halves)
    }

    fn time(&self, place: usize) -> i64 {
        self.base + i64::from(self.ids[place].after_ms)
    }

    /// How far a time lies behind the base, which is moved back where it must; none: too far for a short list.
    fn after_ms(&mut self, time: i64) -> Option<u32> {
        if self.ids.is_empty() {
            self.base = time;
        } else if time < self.base {
            let moved = u32::try_from(self.base - time).ok()?;
            let last = self.ids.iter().map(|id| id.after_ms).max()?;
            last.checked_add(moved)?;
            self.ids.iter_mut().for_each(|id| id.after_ms += moved);
            self.base = time;
        }
        u32::try_from(time - self.base).ok()
    }

    fn iter(&self) -> impl Iterator<Item = (u64, i64)> {
        self.ids
            .iter()
            .map(|id| (id.id(), self.base + i64::from(id.after_ms)))
    }
}

impl Default for Recent {
    fn default() -> Self {
        Recent::Few(Few::default())
    }
}

impl Recent {
    /// Whether an accepted event with this id is not older than the cutoff.
    pub fn contains(&self, id: u64, cutoff: i64) -> bool {
        let time = match self {
            Recent::Few(few) => few.find(id).map(|place| few.time(place)),
            Recent::Many(ids) => ids.get(&id).copied(),
        };
        time.is_some_and(|time| time >= cutoff)
    }

    /// Something of what is looked through, wherever it lies.
    pub fn touch(&self) -> Option<u32> {
        match self {
            Recent::Few(few) => few.ids.last().map(|id| id.after_ms),
            Recent::Many(ids) => Some(ids.len() as u32),
        }
    }

    pub fn insert(&mut self, id: u64, time: i64, cutoff: i64) {
        if self.is_full() {
            self.forget_before(cutoff);
        }
        if let Recent::Few(few) = self {
            let known = few.find(id);
            if (known.is_some() || few.ids.len() < FEW)
                && let Some(after_ms) = few.after_ms(time)
            {
                match known {
                    Some(place) => few.ids[place].after_ms = few.ids[place].after_ms.max(after_ms),
                    None => {
                        if few.ids.len() == few.ids.capacity() {
                            few.ids.reserve_exact(ROOM);
                        }
                        few.ids.push(Id::new(id, after_ms));
                    }
                }
                return;
            }
            *self = Recent::many(few.iter());
        }
        if let Recent::Many(ids) = self {
            let known = ids.entry(id).or_insert(time);
            *known = time.max(*known);
        }
    }

    fn many(ids: impl Iterator<Item = (u64, i64)>) -> Recent {
        let mut many = Map::default();
        many.extend(ids);
        Recent::Many(Box::new(many))
    }

    /// Whether what is too old is to be taken out before one more comes: seldom where looking through takes long. That
    /// depends on nothing but the ids, so that a partition that was begun again forgets them when this one does.
    fn is_full(&self) -> bool {
        match self {
            Recent::Few(few) => few.ids.len() >= ROOM && few.ids.len().is_multiple_of(ROOM),
            Recent::Many(ids) => ids.len().is_power_of_two(),
        }
    }

    pub fn forget_before(&mut self, cutoff: i64) {
        match self {
            Recent::Few(few) => {
                let base = few.base;
                few.ids.retain(|id| base + i64::from(id.after_ms) >= cutoff);
            }
            Recent::Many(ids) => {
                ids.retain(|_, time| *time >= cutoff);
                if ids.len() < FEW {
                    *self = Recent::of(self.in_order());
                }
            }
        }
    }

    /// Of ids in the order of their times.
    fn of(ids: Vec<(i64, u64)>) -> Recent {
        let spans = ids
            .first()
            .zip(ids.last())
            .map_or(0, |(first, last)| last.0 - first.0);
        if ids.len() > FEW || spans > i64::from(u32::MAX) {
            return Recent::many(ids.into_iter().map(|(time, id)| (id, time)));
        }
        let base = ids.first().map_or(0, |(time, _)| *time);
        let mut few = SmallVec::new();
        few.reserve_exact(ids.len());
        few.extend(
            ids.into_iter()
                .map(|(time, id)| Id::new(id, (time - base) as u32)),
        );
        Recent::Few(Few { base, ids: few })
    }

    fn in_order(&self) -> Vec<(i64, u64)> {
        let mut ids: Vec<(i64, u64)> = match self {
            Recent::Few(few) => few.iter().map(|(id, time)| (time, id)).collect(),
            Recent::Many(ids) => ids.iter().map(|(id, time)| (*time, *id)).collect(),
        };
        ids.sort_unstable();
        ids
    }
}

impl Serialize for Recent {
    /// In the order of time: each time as what it lies behind the one before, each id as its eight bytes.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut ids = self.in_order();
        if bug(Bug::DuplicatesForgottenInSnapshot) {
            ids.clear();
        }
        let mut bytes = Vec::with_capacity(ids.len() * 11);
        let mut before = 0;
        for (time, id) in ids {
            put_varint(&mut bytes, (time - before) as u64);
            bytes.extend(id.to_le_bytes());
            before = time;
        }
        serializer.serialize_bytes(&bytes)
    }
}

impl<'de> Deserialize<'de> for Recent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = <&[u8]>::deserialize(deserializer)?;
        let (mut rest, mut ids, mut time) = (bytes, Vec::new(), 0);
        while !rest.is_empty() {
            let broken = || D::Error::custom("message ids end too early");
            let after = take_varint(&mut rest).ok_or_else(broken)?;
            let (id, behind) = rest.split_first_chunk::<8>().ok_or_else(broken)?;
            rest = behind;
            time += after as i64;
            ids.push((time, u64::from_le_bytes(*id)));
        }
        Ok(Recent::of(ids))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against a plain map, through saving and reading, with times that are far apart and out of order.
    #[test]
    fn ids_are_known_for_as_long_as_asked() {
        let mut dice = fastrand::Rng::with_seed(3);
        for round in 0..2_000 {
            let reach = [10_000, 1 << 34][round % 2];
            let (mut recent, mut truth) = (Recent::default(), std::collections::BTreeMap::new());
            let mut cutoff = 0;
            for _ in 0..dice.usize(..90) {
                let (id, time) = (
                    dice.u64(..60) * 0x0123_4567_89ab_cdef,
                    dice.i64(cutoff..cutoff + reach),
                );
                let is_known = truth.get(&id).is_some_and(|known| *known >= cutoff);
                assert_eq!(recent.contains(id, cutoff), is_known);
                recent.insert(id, time, cutoff);
                let known = truth.entry(id).or_insert(time);
                *known = time.max(*known);
                if dice.u8(..10) == 0 {
                    cutoff += dice.i64(0..reach / 2);
                    recent.forget_before(cutoff);
                    truth.retain(|_, time| *time >= cutoff);
                }
                if dice.u8(..10) == 0 {
                    let bytes = postcard::to_stdvec(&recent).unwrap();
                    recent = postcard::from_bytes(&bytes).unwrap();
                    assert_eq!(postcard::to_stdvec(&recent).unwrap(), bytes);
                }
            }
        }
    }
}
