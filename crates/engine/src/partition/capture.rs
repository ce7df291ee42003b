//! A capture is spread out, so that the partition never stands still for long.
//!
//! It begins at a flush: there the head is encoded, and it is settled who is part of it. Their states are encoded a few
//! at a time between records; who is about to change before their turn is encoded first, as they were. So the bytes
//! are those of the offset at which it began, whatever came in between.

use cambium_event::TOGETHER;
use serde::Serialize;
use serde::de::DeserializeOwned;
use smallvec::SmallVec;

use super::{Ids, Partition};
use crate::users::{User, encode};
use crate::{Bug, Capture, List, Map, SnapshotError, bug};

/// A user of an app, by the app's number and their own.
type Who = (u32, u64);

/// Up to here a list of them is not looked through.
const SHORT: usize = 1 << 12;

/// Who changed since the last capture began, and the capture that is under way.
pub(super) struct Captures {
    changed: Vec<Who>,
    /// What users who are in `changed` bear: 1 and 2 in turn, so that one capture's users are told from the next one's.
    /// Who still bears the one before when a capture is complete does not exist: each of its users was given another
    /// mark at their turn, or before it as they changed.
    mark: u8,
    under_way: Option<UnderWay>,
}

struct UnderWay {
    /// What is known at its beginning: all but the users.
    capture: Capture,
    /// Who is part of it, sorted; the first of them are in the capture already.
    users: Vec<Who>,
    /// Who was about to change before their turn, as they were; none: they were not there.
    early: Map<Who, Option<Vec<u8>>>,
}

impl UnderWay {
    fn waits_for(&self, who: Who) -> bool {
        let waiting = &self.users[self.capture.users.len()..];
        waiting.binary_search(&who).is_ok() && !self.early.contains_key(&who)
    }
}

impl Default for Captures {
    fn default() -> Self {
        Captures {
            changed: Vec::new(),
            mark: 1,
            under_way: None,
        }
    }
}

impl Captures {
    /// To be told of a user before they change.
    #[inline]
    pub fn change<P>(&mut self, app: u32, id: u64, user: &mut User<P>) -> Result<(), SnapshotError>
    where
        P: Default + Serialize + DeserializeOwned,
    {
        if user.touched.changed == self.mark {
            return Ok(());
        }
        self.keep(app, id, user)?;
        user.touched.changed = self.mark;
        self.note((app, id));
        Ok(())
    }

    /// Who slept in between is noted again, so before the list grows it is looked through for them.
    fn note(&mut self, who: Who) {
        if self.changed.len() == self.changed.capacity() && self.changed.len() >= SHORT {
            self.changed.sort_unstable();
            self.changed.dedup();
            self.changed.reserve(self.changed.len());
        }
        self.changed.push(who);
    }

    /// Encodes who is part of the capture under way, as they are before they change.
    #[cold]
    fn keep<P>(&mut self, app: u32, id: u64, user: &User<P>) -> Result<(), SnapshotError>
    where
        P: Default + Serialize + DeserializeOwned,
    {
        if let Some(under_way) = &mut self.under_way
            && user.touched.changed != self.mark
            && under_way.waits_for((app, id))
            && !bug(Bug::CaptureOfLaterState)
        {
            let state = if user.is_new() { None } else { Some(encode(user)?) };
            under_way.early.insert((app, id), state);
        }
        Ok(())
    }
}

impl<L: List> Partition<L> {
    /// What changed since the last capture. To be taken together with a flush, and published when
    /// ClickHouse has acknowledged that flush.
    pub fn capture(&mut self) -> Result<Capture, SnapshotError> {
        self.begin_capture()?;
        let capture = self.capture_more(usize::MAX)?;
        Ok(capture.expect("all users had their turn"))
    }

    /// Begins a capture of what is known now, to be completed by [`Partition::capture_more`]. To be called together
    /// with a flush, and while no other capture is under way.
    pub fn begin_capture(&mut self) -> Result<(), SnapshotError> {
        assert!(!self.is_capturing(), "one capture is under way at a time");
        let head = self.encoded_head()?;
        let captures = &mut self.captures;
        let mut users = std::mem::take(&mut captures.changed);
        users.sort_unstable();
        users.dedup();
        captures.mark = 3 - captures.mark;
        captures.under_way = Some(UnderWay {
            capture: Capture {
                position: self.position,
                epoch: self.epoch,
                head,
                users: Vec::with_capacity(users.len()),
            },
            users,
            early: Map::default(),
        });
        Ok(())
    }

    /// Whether a capture has begun and is not complete.
    pub fn is_capturing(&self) -> bool {
        self.captures.under_way.is_some()
    }

    /// Encodes the next users of the capture that is under way, so many at most. Gives it when that was all, and
    /// nothing where more are waiting or none is under way.
    pub fn capture_more(&mut self, most: usize) -> Result<Option<Capture>, SnapshotError> {
        let Some(under_way) = &mut self.captures.under_way else {
            return Ok(None);
        };
        let waiting = &under_way.users[under_way.capture.users.len()..];
        for together in waiting[..most.min(waiting.len())].chunks(TOGETHER) {
            // The users of one app follow each other.
            if let Some((number, _)) = together.first() {
                let ids = together.iter().map(|(_, user)| Ids {
                    user: *user,
                    message: None,
                });
                let ids: SmallVec<[Ids; TOGETHER]> = ids.collect();
                self.apps[*number as usize].users.foresee(&ids, L::touch);
            }
            for (number, id) in together.iter().copied() {
                let state = match under_way.early.remove(&(number, id)) {
                    Some(state) => state,
                    None => self.apps[number as usize].users.capture(id)?,
                };
                under_way.capture.users.push((number, id, state));
            }
        }
        if under_way.capture.users.len() < under_way.users.len() {
            return Ok(None);
        }
        Ok(self.captures.under_way.take().map(|under_way| under_way.capture))
    }
}
