//! Users and their states. Who was quiet for some minutes is asleep: kept as the bytes of their snapshot form, woken
//! when they return. Nothing is forgotten by it. That comes with time: who has not been seen for so long that what they
//! did is settled rests, and what no event can change any more is taken out of the bytes.

use std::collections::BTreeMap;

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
    /// The turn at which they were last noted as awake.
    noted_at: u32,
    /// They stand in line for their first rest.
    waits: bool,
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

/// Users by a turn: a stretch of time.
#[derive(Default)]
struct Line(BTreeMap<u32, Vec<u64>>);

/// How long a turn is.
const TURN_MS: i64 = MINUTE_MS;

/// The turn of a time, from 1; of one that has none, the first or last.
#[inline]
fn turn(time: i64) -> u32 {
    (time / TURN_MS).clamp(0, i64::from(u32::MAX - 1)) as u32 + 1
}

impl Line {
    fn push(&mut self, turn: u32, id: u64) {
        if let Some(mut last) = self.0.last_entry()
            && *last.key() < turn
        {
            // Few come to it any more.
            last.get_mut().shrink_to_fit();
        }
        self.0.entry(turn).or_default().push(id);
    }

    /// The turn of those who stand first.
    fn first(&self) -> Option<u32> {
        self.0.first_key_value().map(|(turn, _)| *turn)
    }

    /// Of those who stand first so many at most, and their turn.
    fn take_first(&mut self, most: usize) -> Option<(u32, Vec<u64>)> {
        let mut first = self.0.first_entry()?;
        let turn = *first.key();
        let ids = first.get_mut();
        if ids.len() > most {
            return Some((turn, ids.split_off(ids.len() - most)));
        }
        Some((turn, first.remove()))
    }

    /// Who stands in turns before this one.
    fn take_before(&mut self, turn: u32) -> Vec<u64> {
        let mut ids = Vec::new();
        while let Some(first) = self.0.first_entry()
            && *first.key() < turn
        {
            ids.append(&mut first.remove());
        }
        ids
    }
}

/// So many users of an app, or this share of them where it is more, stay awake however many come: one who is awake takes
/// twice as much memory as one who is asleep.
const AWAKE: usize = 1 << 16;
const AWAKE_ONE_OF: usize = 8;

/// How often a user rests: when their events are too old to come again, and when nothing of theirs can change any more.
pub(crate) const RESTS: usize = 2;

/// The users of one app.
pub(crate) struct Users<P> {
    slots: Map<u64, Slot<P>>,
    /// By the turn of the watermark in which they were touched.
    awake: Line,
    /// How many are awake.
    hot: usize,
    /// Who waits for each rest, by the turn of their newest event as they were put there.
    waiting: [Line; RESTS],
    /// Who was seen last before has had their first rest.
    rested: i64,
}

/// A user who is awake, found by one look-up.
pub(crate) struct Visit<'u, P> {
    id: u64,
    pub user: &'u mut User<P>,
    awake: &'u mut Line,
}

impl<P> Visit<'_, P> {
    /// They are awake, and are looked at again some turns later.
    pub fn note(self, watermark: i64) {
        let turn = turn(watermark);
        if std::mem::replace(&mut self.user.touched.noted_at, turn) != turn {
            self.awake.push(turn, self.id);
        }
    }
}

impl<P> Default for Users<P> {
    fn default() -> Self {
        Users {
            slots: Map::default(),
            awake: Line::default(),
            hot: 0,
            waiting: Default::default(),
            rested: i64::MIN,
        }
    }
}

impl<P: Default + Serialize + DeserializeOwned> Users<P> {
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// A user, woken or new.
    pub fn visit(&mut self, id: u64) -> Result<Visit<'_, P>, SnapshotError> {
        let slot = self.slots.entry(id).or_insert_with(|| {
            self.hot += 1;
            Slot::Hot(Box::default())
        });
        if let Slot::Cold(bytes) = slot {
            let mut user = Box::new(decode(bytes)?);
            user.touched.waits = turn(user.last_seen) >= turn(self.rested);
            *slot = Slot::Hot(user);
            self.hot += 1;
        }
        match slot {
            Slot::Hot(user) => Ok(Visit {
                id,
                user,
                awake: &mut self.awake,
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

    /// Those fall asleep who were not touched since, and those who were touched longest ago where too many are awake; so
    /// many at most. Gives how many did.
    pub fn lay_down_quiet(
        &mut self,
        since: i64,
        watermark: i64,
        most: usize,
    ) -> Result<usize, SnapshotError> {
        let (mut looked_at, mut asleep) = (0, 0);
        while looked_at < most
            && let Some(first) = self.awake.first()
        {
            let is_quiet = first < turn(since);
            let too_many = self
                .hot
                .saturating_sub(AWAKE.max(self.slots.len() / AWAKE_ONE_OF));
            let these = if is_quiet { usize::MAX } else { too_many };
            let Some((turn, ids)) = self.awake.take_first(these.min(most - looked_at)) else {
                break;
            };
            looked_at += ids.len();
            let before = asleep;
            for id in ids {
                asleep += usize::from(self.lay_down(id, turn, watermark)?);
            }
            // Where nobody may, nobody need.
            if !is_quiet && asleep == before {
                break;
            }
        }
        Ok(asleep)
    }

    /// Takes a user to the bytes of their snapshot form who was touched last in this turn. Who owes rows stays awake, and
    /// is looked at again later.
    fn lay_down(&mut self, id: u64, touched_in: u32, watermark: i64) -> Result<bool, SnapshotError> {
        let Some(slot) = self.slots.get_mut(&id) else {
            return Ok(false);
        };
        let Slot::Hot(user) = slot else { return Ok(false) };
        if user.touched.noted_at > touched_in {
            return Ok(false);
        }
        if user.touched.owes {
            user.touched.noted_at = turn(watermark);
            self.awake.push(turn(watermark), id);
            return Ok(false);
        }
        if !user.touched.waits {
            self.waiting[0].push(turn(user.last_seen), id);
        }
        *slot = Slot::Cold(encode(user)?.into_boxed_slice());
        self.hot -= 1;
        Ok(true)
    }

    /// Who may rest, for the first or second time: seen last in turns that lie before `since`.
    pub fn take_waiting(&mut self, rest: usize, since: i64) -> Vec<u64> {
        if rest == 0 {
            self.rested = self.rested.max(since);
        }
        self.waiting[rest].take_before(turn(since))
    }

    /// Lets a user rest who is asleep and was not seen since: `forget` takes out what no event can change any more.
    pub fn rest(
        &mut self,
        id: u64,
        (rest, since): (usize, i64),
        forget: impl FnOnce(&mut User<P>) -> Result<(), SnapshotError>,
    ) -> Result<(), SnapshotError> {
        let Some(slot) = self.slots.get_mut(&id) else {
            return Ok(());
        };
        let last = turn(last_seen(slot));
        match slot {
            _ if last >= turn(since) => {
                if rest == 0 {
                    self.waiting[0].push(last, id);
                }
            }
            // No flush has let them fall asleep: then they stand in line again.
            Slot::Hot(user) => user.touched.waits &= rest != 0,
            Slot::Cold(bytes) => {
                let mut user = decode(bytes)?;
                forget(&mut user)?;
                *bytes = encode(&user)?.into_boxed_slice();
                if let Some(next) = self.waiting.get_mut(rest + 1) {
                    next.push(last, id);
                }
            }
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
        if let Some(Slot::Hot(_)) = self.slots.remove(&id) {
            self.hot -= 1;
        }
    }

    /// A user who is no longer kept, if they were.
    pub fn take(&mut self, id: u64) -> Result<Option<User<P>>, SnapshotError> {
        match self.slots.remove(&id) {
            None => Ok(None),
            Some(Slot::Hot(user)) => {
                self.hot -= 1;
                Ok(Some(*user))
            }
            Some(Slot::Cold(bytes)) => Ok(Some(decode(&bytes)?)),
        }
    }

    /// The users, in no order; none is left.
    pub fn drain(&mut self) -> impl Iterator<Item = Result<(u64, User<P>), SnapshotError>> {
        let slots = std::mem::take(&mut self.slots);
        slots.into_entries().map(|(id, slot)| match slot {
            Slot::Hot(user) => Ok((id, *user)),
            Slot::Cold(bytes) => Ok((id, decode(&bytes)?)),
        })
    }

    /// Changes a user where they are: who is asleep stays so, and who is not there yet comes to be, asleep.
    pub fn change(
        &mut self,
        id: u64,
        rested: [i64; RESTS],
        change: impl FnOnce(&mut User<P>) -> Result<(), SnapshotError>,
    ) -> Result<(), SnapshotError> {
        match self.slots.get_mut(&id) {
            Some(Slot::Hot(user)) => change(user),
            Some(Slot::Cold(bytes)) => {
                let mut user = decode(bytes)?;
                change(&mut user)?;
                *bytes = encode(&user)?.into_boxed_slice();
                Ok(())
            }
            None => {
                let mut user = User::default();
                change(&mut user)?;
                self.restore(id, encode(&user)?.into_boxed_slice(), rested);
                Ok(())
            }
        }
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

    /// A user as they were captured. `rested` are the times before which they were seen last who have had each rest.
    pub fn restore(&mut self, id: u64, bytes: Box<[u8]>, rested: [i64; RESTS]) {
        let slot = Slot::Cold(bytes);
        let last = turn(last_seen(&slot));
        let next = rested.iter().position(|since| last >= turn(*since));
        if let Some(next) = next {
            self.waiting[next].push(last, id);
        }
        self.rested = rested[0];
        self.slots.insert(id, slot);
    }
}

fn last_seen<P>(slot: &Slot<P>) -> i64 {
    match slot {
        Slot::Hot(user) => user.last_seen,
        // Of one whose bytes are all zeros none are left.
        Slot::Cold(bytes) => postcard::take_from_bytes::<i64>(bytes).map_or(0, |(time, _)| time),
    }
}

/// So many bytes most users fit in.
const ENCODED: usize = 512;

/// So many zeros at the end are left out, and put back: a processor that keeps nothing of a user is one. So those that no
/// definition uses cost nothing, and a release with more of them reads what an earlier one wrote.
const ZEROS: usize = 64;

pub(crate) fn encode<P: Serialize>(user: &User<P>) -> Result<Vec<u8>, SnapshotError> {
    // A vector of its own would grow many times on the way.
    let mut room = [0; ENCODED];
    match postcard::to_slice(user, &mut room) {
        Ok(bytes) => Ok(without_zeros(bytes).to_vec()),
        Err(_) => {
            let bytes = postcard::to_stdvec(user).map_err(|_| SnapshotError::User)?;
            Ok(without_zeros(&bytes).to_vec())
        }
    }
}

fn without_zeros(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().rev().take(ZEROS).take_while(|byte| **byte == 0);
    &bytes[..bytes.len() - zeros.count()]
}

fn decode<P: DeserializeOwned>(bytes: &[u8]) -> Result<User<P>, SnapshotError> {
    let mut room = [0; ENCODED + ZEROS];
    let long;
    let whole = if bytes.len() <= ENCODED {
        room[..bytes.len()].copy_from_slice(bytes);
        &room[..bytes.len() + ZEROS]
    } else {
        long = [bytes, &[0; ZEROS]].concat();
        &long
    };
    let decoded = postcard::take_from_bytes(whole);
    decoded.map(|(user, _)| user).map_err(|_| SnapshotError::User)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: i64 = 60 * MINUTE_MS;

    fn see(users: &mut Users<()>, id: u64, time: i64) {
        let visit = users.visit(id).unwrap();
        visit.user.last_seen = visit.user.last_seen.max(time);
        visit.user.recent.insert(time as u64, time, i64::MIN);
        visit.note(time);
    }

    /// Who has rests at a time, by which rest. Two hours and a day behind are the rests.
    fn rest(users: &mut Users<()>, now: i64) -> Vec<(usize, u64)> {
        let mut had = Vec::new();
        for (rest, since) in [now - 2 * HOUR_MS, now - 24 * HOUR_MS].into_iter().enumerate() {
            for id in users.take_waiting(rest, since) {
                let note = |_: &mut User<()>| {
                    had.push((rest, id));
                    Ok(())
                };
                users.rest(id, (rest, since), note).unwrap();
            }
        }
        had
    }

    #[test]
    fn users_rest_twice_when_they_have_stayed_away() {
        let mut users = Users::default();
        see(&mut users, 1, 0);
        users.lay_down_quiet(HOUR_MS, HOUR_MS, usize::MAX).unwrap();
        // They come back, and stand in line once.
        see(&mut users, 1, HOUR_MS);
        users
            .lay_down_quiet(2 * HOUR_MS, 2 * HOUR_MS, usize::MAX)
            .unwrap();
        assert_eq!(rest(&mut users, HOUR_MS * 5 / 2), []);
        assert_eq!(rest(&mut users, 4 * HOUR_MS), [(0, 1)]);
        assert_eq!(rest(&mut users, 24 * HOUR_MS), []);
        let bytes = users.capture(1).unwrap().unwrap();
        assert_eq!(rest(&mut users, 26 * HOUR_MS), [(1, 1)]);
        assert_eq!(rest(&mut users, 99 * HOUR_MS), []);
        // As they were captured between the rests, they have the second before them.
        let mut restored = Users::<()>::default();
        restored.restore(1, bytes.into_boxed_slice(), [22 * HOUR_MS, 0]);
        assert_eq!(rest(&mut restored, 26 * HOUR_MS), [(1, 1)]);
    }

    #[test]
    fn so_many_stay_awake() {
        let mut users = Users::default();
        let captured = |users: &mut Users<()>, id| users.capture(id).unwrap().unwrap();
        for id in 0..AWAKE as u64 {
            see(&mut users, id, 0);
        }
        let awake: Vec<u64> = (0..10).map(|id| AWAKE as u64 + id).collect();
        awake.iter().for_each(|id| see(&mut users, *id, MINUTE_MS));
        let before = captured(&mut users, AWAKE as u64 - 1);
        // Who was touched longest ago, a few at a time; who owes rows does not.
        users.hot(AWAKE as u64 - 2).unwrap().touched.owes = true;
        assert_eq!(users.lay_down_quiet(0, MINUTE_MS, 4).unwrap(), 3);
        assert_eq!(users.lay_down_quiet(0, MINUTE_MS, usize::MAX).unwrap(), 7);
        assert_eq!(users.lay_down_quiet(0, MINUTE_MS, usize::MAX).unwrap(), 0);
        assert!(users.hot == AWAKE && awake.iter().all(|id| users.hot(*id).is_some()));
        assert!(users.hot(AWAKE as u64 - 2).is_some() && users.hot(AWAKE as u64 - 1).is_none());
        assert_eq!(captured(&mut users, AWAKE as u64 - 1), before);
    }
}
