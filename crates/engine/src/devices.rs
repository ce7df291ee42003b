//! `[identity]`: devices that become their users.
//!
//! What a device does before anybody says who they are is counted as that of a user of its own. The first event that names
//! both says whose the device is: what it did from `link_within` before on is taken out of where it is counted, and is
//! counted as the user's, like events that come late ([`crate::Partition`] sees to it). So of a device the records are
//! kept that a link may still reach, and what was known of it before the first of them.

use cambium_event::Record;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::{
    Compiler, Context, DAY_MS, DefinitionError, Duration, Input, LONGEST_DAY_MS, Processor, Renames,
    Replaced, Table,
};

/// `[identity]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// What a device did so long before is the user's too.
    #[serde(default = "a_week")]
    pub link_within: Duration,
}

fn a_week() -> Duration {
    Duration(7 * DAY_MS)
}

/// How many devices came to belong to users.
pub static LINKS: Table = Table {
    name: "link_rows",
    columns: &[
        ("definition", "UInt64"),
        ("origin", "UInt64"),
        ("app", "LowCardinality(String)"),
        ("version", "UInt64"),
        ("deleted", "UInt8"),
        ("devices", "UInt64"),
        ("links_too_late", "UInt64"),
    ],
};

/// Counts links, and keeps what a partition needs to know of devices. What becomes of events is the partition's work.
pub struct Identity {
    /// Not where a partition counts some definitions beside another one, which counts links.
    tells: bool,
}

#[derive(Default, Serialize, Deserialize)]
pub struct Links {
    devices: u64,
    too_late: u64,
    #[serde(skip)]
    is_changed: bool,
}

impl Links {
    /// A device came to belong to somebody; whether it did something before that stays its own.
    pub(crate) fn add(&mut self, is_too_late: bool) {
        self.devices += 1;
        self.too_late += u64::from(is_too_late);
        self.is_changed = true;
    }
}

/// What is known of an id.
#[derive(Default, Serialize, Deserialize)]
pub enum Known {
    #[default]
    Nothing,
    /// It is a user's: also where an event names it as a device.
    User,
    Device(Box<Device>),
}

/// What is known of a device.
#[derive(Default, Serialize, Deserialize)]
pub struct Device {
    /// Whose it is since when, in the order of time.
    users: SmallVec<[(i64, u64); 1]>,
    /// The records that a link may reach, in the order of time, then of the log. None where it has a user.
    pub(crate) log: Vec<Kept>,
    /// What was known before the first of them, as bytes of its parts: nothing, or nobody was there.
    pub(crate) before: Vec<u8>,
}

impl Device {
    pub(crate) fn has_user(&self) -> bool {
        !self.users.is_empty()
    }

    /// From this time on it is this user's, until another comes. No event older than the cutoff will be accepted any more.
    pub(crate) fn link(&mut self, time: i64, user: u64, cutoff: i64) {
        let is_news = |(since, last): &(i64, u64)| *last != user && *since <= time;
        if self.users.last().is_none_or(is_news) {
            let over = self
                .users
                .iter()
                .take_while(|(since, _)| *since <= cutoff)
                .count();
            self.users.drain(..over.saturating_sub(1));
            self.users.push((time, user));
        }
    }

    /// Whose an event of this time is that names the device alone; none: its own.
    pub(crate) fn user_at(&self, time: i64, link_within_ms: i64) -> Option<u64> {
        let at = self.users.partition_point(|(since, _)| *since <= time);
        match at.checked_sub(1) {
            Some(last) => Some(self.users[last].1),
            None => {
                let (since, user) = self.users.first()?;
                (since - time <= link_within_ms).then_some(*user)
            }
        }
    }

    pub(crate) fn keep(&mut self, kept: Kept) {
        let place = (kept.time, kept.place);
        let at = self
            .log
            .partition_point(|other| (other.time, other.place) < place);
        self.log.insert(at, kept);
    }

    /// No link reaches what is older than the cutoff; but for the local day that it may lie in, which is taken back whole.
    pub(crate) fn out_of_reach(cutoff: i64) -> i64 {
        cutoff - LONGEST_DAY_MS
    }
}

/// A record of a device, to be counted once more as somebody else's.
#[derive(Serialize, Deserialize)]
pub(crate) struct Kept {
    /// When it happened, as it was judged.
    pub time: i64,
    pub place: i64,
    /// Before this, it was not counted yet.
    pub version: u64,
    /// The number of its message id.
    pub message: Option<u64>,
    pub offset: i64,
    timestamp: Option<i64>,
    taken_in_at: Option<i64>,
    key: Option<Box<[u8]>>,
    headers: Vec<(Box<str>, Box<[u8]>)>,
    schema: Option<u32>,
    payload: Option<Box<[u8]>>,
}

/// A record's headers.
pub(crate) type Headers<'k> = SmallVec<[(&'k str, &'k [u8]); 2]>;

impl Kept {
    pub(crate) fn new(
        record: &Record<'_>,
        (time, place, version): (i64, i64, u64),
        message: Option<u64>,
    ) -> Kept {
        let headers = record.headers.iter();
        Kept {
            time,
            place,
            version,
            message,
            offset: record.offset,
            timestamp: record.timestamp,
            taken_in_at: record.taken_in_at,
            key: record.key.map(Into::into),
            headers: headers
                .map(|(name, value)| ((*name).into(), (*value).into()))
                .collect(),
            schema: record.schema,
            payload: record.payload.map(Into::into),
        }
    }

    pub(crate) fn headers(&self) -> Headers<'_> {
        self.headers
            .iter()
            .map(|(name, value)| (&**name, &**value))
            .collect()
    }

    pub(crate) fn record<'k>(&'k self, headers: &'k [(&'k str, &'k [u8])]) -> Record<'k> {
        Record {
            offset: self.offset,
            timestamp: self.timestamp,
            key: self.key.as_deref(),
            headers,
            taken_in_at: self.taken_in_at,
            schema: self.schema,
            payload: self.payload.as_deref(),
        }
    }
}

impl Processor for Identity {
    const KIND: &'static str = "identity";
    const SEMANTICS: u32 = 1;
    const IS_SINGLE: bool = true;
    type Definition = Definition;
    type User = Known;
    type State = Links;

    fn new(definition: Definition, compiler: &mut Compiler<'_>) -> Result<Self, DefinitionError> {
        let time = compiler.setup.time(compiler.app);
        if definition.link_within.0.saturating_add(time.lateness_ms) > time.horizon_ms {
            return Err(DefinitionError::new(
                "link_within: longer than what is remembered: with the lateness it must be within [time] horizon",
            ));
        }
        Ok(Identity {
            tells: compiler.setup.only.is_none(),
        })
    }

    fn apply(&self, _: &mut Links, _: &mut Known, _: &Input<'_>, _: &mut Context<'_>) {}

    fn replace(&self, _: &mut Links, _: Known, _: &mut Known, _: &Replaced<'_>, _: &mut Context<'_>) {}

    fn flush(&self, links: &mut Links, context: &mut Context<'_>) {
        if std::mem::take(&mut links.is_changed) && self.tells {
            let (row, _) = context.versioned(&LINKS, false);
            row.u64(links.devices).u64(links.too_late);
        }
    }

    /// What no link reaches is settled: then what is known of the device is all that there is to know.
    fn rest(&self, _: u64, known: &mut Known, context: &mut Context<'_>) {
        if let Known::Device(device) = known
            && let Some(last) = device.log.last()
            && last.time < Device::out_of_reach(context.cutoff())
        {
            (device.log, device.before) = (Vec::new(), Vec::new());
        }
    }

    fn settled_after_ms(&self) -> i64 {
        LONGEST_DAY_MS
    }

    fn rename(&self, _: &mut Links, _: &Renames) {}

    fn rename_user(&self, _: &mut Known, _: &Renames) {}

    /// Whose a device is is known for ever.
    fn remember(&self, known: Known, _: i64) -> Option<Known> {
        match known {
            Known::Device(mut device) if device.has_user() => {
                (device.log, device.before) = (Vec::new(), Vec::new());
                Some(Known::Device(device))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_its_users_from_before_the_first_link_on() {
        let mut device = Device::default();
        // What comes late is no news.
        for (time, user) in [(300, 1), (310, 1), (500, 2), (400, 1), (700, 1), (100, 9)] {
            device.link(time, user, 450);
        }
        let expected = [
            (199, None),
            (200, Some(1)),
            (499, Some(1)),
            (500, Some(2)),
            (699, Some(2)),
            (700, Some(1)),
        ];
        for (time, user) in expected {
            assert_eq!(device.user_at(time, 100), user, "{time}");
        }
        assert_eq!(device.users.len(), 3);
        device.link(900, 2, 800);
        assert_eq!(device.users.as_slice(), [(700, 1), (900, 2)]);
    }
}
