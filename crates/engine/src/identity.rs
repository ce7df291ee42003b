//! Numbers that stand for texts: users, definitions, origins.

use std::hash::Hasher;

use crate::{Bug, bug};
use cambium_event::Record;
use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher24;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// The key under which user ids are hashed. The published key is (0, 0).
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct HashKey(pub u64, pub u64);

impl std::fmt::Debug for HashKey {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("HashKey(…)")
    }
}

impl HashKey {
    /// The number of a user: ClickHouse's `sipHash64Keyed((k0, k1), id)`.
    pub fn user(self, id: impl AsRef<[u8]>) -> u64 {
        let mut hasher = SipHasher24::new_with_keys(self.0, self.1);
        hasher.write(id.as_ref());
        hasher.finish()
    }

    /// What tells two keys apart without giving either away; part of every definition's text.
    pub fn fingerprint(self) -> u32 {
        self.user("cambium: which key is this?") as u32
    }
}

/// What tells the record at an offset from any other that may stand there in another log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    pub offset: i64,
    pub hash: u64,
}

impl Mark {
    /// Of its Kafka timestamp and its bytes: what a broker never changes.
    pub fn of(record: &Record<'_>) -> Mark {
        let sent = record.timestamp.unwrap_or(i64::MIN) as u64;
        // A tombstone is not an empty record. Once a record, so no hasher with a state of its own.
        let bytes = record.payload.map_or(1, xxh3_64);
        Mark {
            offset: record.offset,
            hash: bytes ^ sent.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        }
    }
}

/// What lies at an offset of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    Record(Mark),
    /// No record; had one been read there, it still would be.
    Nothing,
    /// None that could be looked at; one may have been read there.
    Unknown,
}

/// The version of rows that are true up to an offset: a higher epoch wins whatever the offset.
pub fn version(epoch: u16, offset: i64) -> u64 {
    (u64::from(epoch) << OFFSET_BITS) | offset as u64
}

/// Epoch and offset of a version.
pub fn of_version(version: u64) -> (u16, i64) {
    (
        (version >> OFFSET_BITS) as u16,
        (version & ((1 << OFFSET_BITS) - 1)) as i64,
    )
}

const OFFSET_BITS: u32 = 48;

/// The number of an origin: the version at which a definition's state began with nothing.
pub fn origin_hash(topic: &str, partition: i32, start: u64) -> u64 {
    if bug(Bug::OriginLeftOut) {
        return 1;
    }
    hash(&[topic.as_bytes(), &partition.to_le_bytes(), &start.to_le_bytes()])
}

/// A hash of parts that keeps their boundaries.
pub(crate) fn hash(parts: &[&[u8]]) -> u64 {
    let mut hasher = Xxh3::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.digest()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_tells_records_apart() {
        let record = |timestamp, payload| Record {
            offset: 7,
            timestamp,
            payload,
            ..Record::default()
        };
        let all = [
            record(Some(1), Some(b"a".as_slice())),
            record(Some(2), Some(b"a")),
            record(None, Some(b"a")),
            record(Some(1), Some(b"b")),
            record(Some(1), Some(b"")),
            record(Some(1), None),
            // Nothing of a timestamp mixes in where it is 0.
            record(Some(0), Some(b"a")),
            record(Some(0), Some(b"b")),
        ];
        for (place, one) in all.iter().enumerate() {
            for (other_place, other) in all.iter().enumerate() {
                assert_eq!(Mark::of(one) == Mark::of(other), place == other_place);
            }
        }
    }

    #[test]
    fn a_version_can_be_taken_apart() {
        assert_eq!(version(0, 5), 5);
        assert_eq!(of_version(version(3, 5)), (3, 5));
        assert!(version(1, 0) > version(0, 1 << 40));
    }

    #[test]
    fn users_are_hashed_as_clickhouse_does() {
        // SELECT sipHash64Keyed((0, 0), 'u1'), the reference vector of SipHash-2-4 for 15 bytes below.
        let key = HashKey(0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908);
        let mut hasher = SipHasher24::new_with_keys(key.0, key.1);
        hasher.write(&(0..15).collect::<Vec<u8>>());
        assert_eq!(hasher.finish(), 0xa129_ca61_49be_45e5);
    }
}
