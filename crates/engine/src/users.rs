//! Users and their states. Who was quiet for longer than the lateness is cold: kept as the bytes
//! of their snapshot form, woken when they return.

use std::collections::VecDeque;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::room::room_for_one;
use crate::time::HOUR_MS;
use crate::{Map, SnapshotError};

/// What is known of one user of one app.
#[derive(Serialize, Deserialize)]
pub(crate) struct User<P> {
    /// The time of the newest event. First, so that it can be read off the bytes alone.
    pub last_seen: i64,
    pub recent: Recent,
    pub parts: P,
    #[serde(skip)]
    pub touched: Touched,
}

/// Where a user already stands in a list of users to be visited.
#[derive(Clone, Copy, Default)]
pub(crate) struct Touched {
    pub since_flush: bool,
    pub since_capture: bool,
    /// The hour of the watermark at which they were last queued for cooling.
    pub queued_hour: i64,
}

impl<P: Default> Default for User<P> {
    fn default() -> Self {
        User {
            last_seen: i64::MIN,
            recent: Recent::default(),
            parts: P::default(),
            touched: Touched::default(),
        }
    }
}

/// The message ids of accepted events, hashed, with the events' times.
#[derive(Clone, Debug)]
pub(crate) enum Recent {
    Few(Vec<(u64, i64)>),
    Many(Map<u64, i64>),
}

/// A list up to here is searched from end to end; a hash map serves beyond.
const FEW: usize = 32;

impl Default for Recent {
    fn default() -> Self {
        Recent::Few(Vec::new())
    }
}

impl Recent {
    /// Whether an accepted event with this id is not older than the cutoff.
    pub fn contains(&self, id: u64, cutoff: i64) -> bool {
        let time = match self {
            Recent::Few(ids) => ids.iter().find(|(known, _)| *known == id).map(|(_, time)| *time),
            Recent::Many(ids) => ids.get(&id).copied(),
        };
        time.is_some_and(|time| time >= cutoff)
    }

    pub fn insert(&mut self, id: u64, time: i64, cutoff: i64) {
        if self.len().is_power_of_two() && self.len() >= 16 {
            self.forget_before(cutoff);
        }
        match self {
            Recent::Few(ids) => {
                if let Some((_, known)) = ids.iter_mut().find(|(known, _)| *known == id) {
                    *known = time.max(*known);
                } else if ids.len() < FEW {
                    room_for_one(ids);
                    ids.push((id, time));
                } else {
                    let mut many = Map::default();
                    many.extend(ids.drain(..));
                    many.insert(id, time);
                    *self = Recent::Many(many);
                }
            }
            Recent::Many(ids) => {
                let known = ids.entry(id).or_insert(time);
                *known = time.max(*known);
            }
        }
    }

    fn len(&self) -> usize {
        match self {
            Recent::Few(ids) => ids.len(),
            Recent::Many(ids) => ids.len(),
        }
    }

    pub fn forget_before(&mut self, cutoff: i64) {
        match self {
            Recent::Few(ids) => ids.retain(|(_, time)| *time >= cutoff),
            Recent::Many(ids) => {
                ids.retain(|_, time| *time >= cutoff);
                if ids.len() < FEW {
                    *self = Recent::Few(ids.sorted().into_iter().map(|(id, time)| (*id, *time)).collect());
                }
            }
        }
    }
}

impl Serialize for Recent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut ids: Vec<(u64, i64)> = match self {
            Recent::Few(ids) => ids.clone(),
            Recent::Many(ids) => ids.iter().map(|(id, time)| (*id, *time)).collect(),
        };
        ids.sort_unstable();
        ids.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Recent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let ids = Vec::<(u64, i64)>::deserialize(deserializer)?;
        if ids.len() <= FEW {
            return Ok(Recent::Few(ids));
        }
        let mut many = Map::default();
        many.extend(ids);
        Ok(Recent::Many(many))
    }
}

pub(crate) enum Slot<P> {
    Hot(Box<User<P>>),
    Cold(Box<[u8]>),
}

/// Who was touched in which hour of the watermark.
type Queue = VecDeque<(i64, Vec<u64>)>;

/// The users of one app.
pub(crate) struct Users<P> {
    slots: Map<u64, Slot<P>>,
    queue: Queue,
}

/// A user who is awake, found by one look-up.
pub(crate) struct Visit<'u, P> {
    id: u64,
    pub user: &'u mut User<P>,
    queue: &'u mut Queue,
}

impl<P> Visit<'_, P> {
    pub fn queue_for_cooling(self, watermark: i64) {
        let hour = watermark.div_euclid(HOUR_MS);
        let queued_hour = &mut self.user.touched.queued_hour;
        if *queued_hour == hour && !self.queue.is_empty() {
            return;
        }
        *queued_hour = hour;
        match self.queue.back_mut() {
            Some((last, ids)) if *last == hour => ids.push(self.id),
            _ => self.queue.push_back((hour, vec![self.id])),
        }
    }
}

impl<P> Default for Users<P> {
    fn default() -> Self {
        Users {
            slots: Map::default(),
            queue: VecDeque::new(),
        }
    }
}

impl<P: Default + Serialize + DeserializeOwned> Users<P> {
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// A user, woken or new.
    pub fn visit(&mut self, id: u64) -> Result<Visit<'_, P>, SnapshotError> {
        let slot = self.slots.entry(id).or_insert_with(|| Slot::Hot(Box::default()));
        if let Slot::Cold(bytes) = slot {
            *slot = Slot::Hot(Box::new(decode(bytes)?));
        }
        match slot {
            Slot::Hot(user) => Ok(Visit {
                id,
                user,
                queue: &mut self.queue,
            }),
            Slot::Cold(_) => Err(SnapshotError::User),
        }
    }

    /// The user if they are awake; who is touched is.
    pub fn hot(&mut self, id: u64) -> Option<&mut User<P>> {
        match self.slots.get_mut(&id) {
            Some(Slot::Hot(user)) => Some(user),
            _ => None,
        }
    }

    /// The users who may have grown cold: touched last in hours that lie before the cutoff.
    pub fn take_quiet(&mut self, cutoff: i64) -> Vec<u64> {
        let mut quiet = Vec::new();
        while self
            .queue
            .front()
            .is_some_and(|(hour, _)| (hour + 1) * HOUR_MS <= cutoff)
        {
            if let Some((_, mut ids)) = self.queue.pop_front() {
                quiet.append(&mut ids);
            }
        }
        quiet
    }

    /// Who still owes rows to the next flush stays awake, and is looked at again later.
    pub fn cool(&mut self, id: u64, cutoff: i64, watermark: i64) -> Result<(), SnapshotError> {
        let Some(slot) = self.slots.get_mut(&id) else {
            return Ok(());
        };
        let Slot::Hot(user) = slot else { return Ok(()) };
        if user.touched.since_flush {
            user.touched.queued_hour = i64::MIN;
            self.visit(id)?.queue_for_cooling(watermark);
        } else if user.last_seen < cutoff {
            user.recent.forget_before(cutoff);
            *slot = Slot::Cold(encode(user)?.into_boxed_slice());
        }
        Ok(())
    }

    /// Who was not seen since `before`, in the order of their numbers.
    pub fn not_seen_since(&self, before: i64) -> Vec<u64> {
        let mut found: Vec<u64> = self
            .slots
            .iter()
            .filter(|(_, slot)| last_seen(slot) < before)
            .map(|(id, _)| *id)
            .collect();
        found.sort_unstable();
        found
    }

    pub fn remove(&mut self, id: u64) {
        self.slots.remove(&id);
    }

    /// The bytes of a user's state; none where there is none.
    pub fn encoded(&self, id: u64) -> Result<Option<Vec<u8>>, SnapshotError> {
        match self.slots.get(&id) {
            None => Ok(None),
            Some(Slot::Cold(bytes)) => Ok(Some(bytes.to_vec())),
            Some(Slot::Hot(user)) => encode(user).map(Some),
        }
    }

    pub fn restore(&mut self, id: u64, bytes: Box<[u8]>) {
        self.slots.insert(id, Slot::Cold(bytes));
    }
}

fn last_seen<P>(slot: &Slot<P>) -> i64 {
    match slot {
        Slot::Hot(user) => user.last_seen,
        Slot::Cold(bytes) => postcard::take_from_bytes::<i64>(bytes).map_or(i64::MIN, |(time, _)| time),
    }
}

fn encode<P: Serialize>(user: &User<P>) -> Result<Vec<u8>, SnapshotError> {
    postcard::to_stdvec(user).map_err(|_| SnapshotError::User)
}

fn decode<P: DeserializeOwned>(bytes: &[u8]) -> Result<User<P>, SnapshotError> {
    postcard::from_bytes(bytes).map_err(|_| SnapshotError::User)
}
