//! Users and their states. Who was quiet for a while is cold: kept as the bytes of their snapshot form, woken when
//! they return.

use std::collections::VecDeque;

use cambium_event::TOGETHER;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::partition::Ids;
use crate::recent::Recent;
use crate::time::MINUTE_MS;
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
    /// They owe rows.
    pub owes: bool,
    /// The mark of the capture that they were last noted for; 0: of none, or of one that has them already.
    pub changed: u8,
    /// The turn at which they were last queued for cooling.
    queued_at: u32,
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

impl<P> User<P> {
    /// Whether no event of theirs was counted yet.
    pub fn is_new(&self) -> bool {
        self.last_seen == i64::MIN
    }
}

pub(crate) enum Slot<P> {
    Hot(Box<User<P>>),
    Cold(Box<[u8]>),
}

/// Who was touched in which turn: a stretch of the watermark.
type Queue = VecDeque<(u32, Vec<u64>)>;

/// How long a turn is.
const TURN_MS: i64 = 10 * MINUTE_MS;

/// The turn of a time between 1970 and 2100, from 1.
fn turn(time: i64) -> u32 {
    (time.max(0) / TURN_MS) as u32 + 1
}

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
        let turn = turn(watermark);
        if std::mem::replace(&mut self.user.touched.queued_at, turn) == turn {
            return;
        }
        match self.queue.back_mut() {
            Some((last, ids)) if *last == turn => ids.push(self.id),
            _ => self.queue.push_back((turn, vec![self.id])),
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

    /// Looks at users all at once: first where they are, then at what is asked first of each. Reading is all that it
    /// takes to have them at hand; nothing is made of what is read.
    pub fn foresee(&self, ids: &[Ids], touch: impl Fn(&P) -> i64) {
        let mut awake: SmallVec<[(&User<P>, Option<u64>); TOGETHER]> = SmallVec::new();
        for ids in ids {
            match self.slots.get(&ids.user) {
                Some(Slot::Hot(user)) => awake.push((user, ids.message)),
                Some(Slot::Cold(bytes)) => {
                    std::hint::black_box(bytes.first());
                }
                None => {}
            }
        }
        for (user, _) in &awake {
            std::hint::black_box(user.recent.touch());
        }
        for (user, message) in &awake {
            let is_known = message.is_some_and(|message| user.recent.contains(message, i64::MIN));
            std::hint::black_box((is_known, touch(&user.parts)));
        }
    }

    /// The user if they are awake; who is touched is.
    pub fn hot(&mut self, id: u64) -> Option<&mut User<P>> {
        match self.slots.get_mut(&id) {
            Some(Slot::Hot(user)) => Some(user),
            _ => None,
        }
    }

    /// The users who may have grown cold: touched last in turns that lie before `since`.
    pub fn take_quiet(&mut self, since: i64) -> Vec<u64> {
        let mut quiet = Vec::new();
        while self.queue.front().is_some_and(|(last, _)| *last < turn(since)) {
            if let Some((_, mut ids)) = self.queue.pop_front() {
                quiet.append(&mut ids);
            }
        }
        quiet
    }

    /// Takes a user to the bytes of their snapshot form who was not seen since; message ids from before `cutoff` are
    /// forgotten. Who still owes rows to the next flush stays awake, and is looked at again later. `before` is given
    /// who is about to grow cold.
    pub fn cool(
        &mut self,
        id: u64,
        since: i64,
        cutoff: i64,
        watermark: i64,
        before: impl FnOnce(&User<P>) -> Result<(), SnapshotError>,
    ) -> Result<(), SnapshotError> {
        let Some(slot) = self.slots.get_mut(&id) else {
            return Ok(());
        };
        let Slot::Hot(user) = slot else { return Ok(()) };
        if user.touched.owes {
            user.touched.queued_at = 0;
            self.visit(id)?.queue_for_cooling(watermark);
        } else if user.last_seen < since {
            before(user)?;
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

    /// The bytes of a user's state for a capture; none where there is none.
    pub fn capture(&mut self, id: u64) -> Result<Option<Vec<u8>>, SnapshotError> {
        match self.slots.get_mut(&id) {
            None => Ok(None),
            Some(Slot::Cold(bytes)) => Ok(Some(bytes.to_vec())),
            Some(Slot::Hot(user)) => {
                user.touched.changed = 0;
                encode(user).map(Some)
            }
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

/// So many bytes most users fit in.
const ENCODED: usize = 512;

pub(crate) fn encode<P: Serialize>(user: &User<P>) -> Result<Vec<u8>, SnapshotError> {
    // A vector of its own would grow many times on the way.
    let mut room = [0; ENCODED];
    match postcard::to_slice(user, &mut room) {
        Ok(bytes) => Ok(bytes.to_vec()),
        Err(_) => postcard::to_stdvec(user).map_err(|_| SnapshotError::User),
    }
}

fn decode<P: DeserializeOwned>(bytes: &[u8]) -> Result<User<P>, SnapshotError> {
    postcard::from_bytes(bytes).map_err(|_| SnapshotError::User)
}
