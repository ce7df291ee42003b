//! Numbers that stand for texts: users, definitions, origins.

use std::hash::Hasher;

use siphasher::sip::SipHasher24;
use xxhash_rust::xxh3::Xxh3;

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
    pub fn user(self, id: &str) -> u64 {
        let mut hasher = SipHasher24::new_with_keys(self.0, self.1);
        hasher.write(id.as_bytes());
        hasher.finish()
    }

    /// What tells two keys apart without giving either away; part of every definition's text.
    pub fn fingerprint(self) -> u32 {
        self.user("cambium: which key is this?") as u32
    }
}

/// The number of an origin: where a definition's state began with nothing.
pub fn origin_hash(topic: &str, partition: i32, start: i64) -> u64 {
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
    fn users_are_hashed_as_clickhouse_does() {
        // SELECT sipHash64Keyed((0, 0), 'u1'), the reference vector of SipHash-2-4 for 15 bytes below.
        let key = HashKey(0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908);
        let mut hasher = SipHasher24::new_with_keys(key.0, key.1);
        hasher.write(&(0..15).collect::<Vec<u8>>());
        assert_eq!(hasher.finish(), 0xa129_ca61_49be_45e5);
    }
}
