//! Whether each user is on one partition; and if not, why.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use anyhow::Result;
use cambium_kafka::Original;
use hyperloglogplus::{HyperLogLog, HyperLogLogPlus};

/// Users whose partition is remembered; how many there are beyond is estimated.
const MAX_REMEMBERED: usize = 2_000_000;
/// 2^14 registers: an error of 0.8 %.
const PRECISION: u8 = 14;

/// A user's number is a hash already.
type Hash = BuildHasherDefault<std::collections::hash_map::DefaultHasher>;

/// How the records of a topic are keyed.
pub struct Keys {
    partition_of: HashMap<u64, i32>,
    users: HyperLogLogPlus<u64, Hash>,
    /// Who was seen on two partitions, first.
    example: Option<(u64, i32, i32)>,
    scattered: std::collections::BTreeSet<u64>,
    /// Devices that an event names with a user, and the partition that it is on.
    linked: Vec<(u64, i32)>,
    records: u64,
    without_key: u64,
    keyed_by_user: u64,
    /// Keyed records that lie where Java's default partitioner puts them, and where librdkafka's does.
    partitions: Vec<(Vec<u8>, i32)>,
}

/// Keys that are tried on the partitioners.
const TRIED: usize = 10_000;

impl Keys {
    pub fn new() -> Result<Keys> {
        Ok(Keys {
            partition_of: HashMap::new(),
            users: HyperLogLogPlus::new(PRECISION, Hash::default()).map_err(anyhow::Error::msg)?,
            example: None,
            scattered: Default::default(),
            linked: Vec::new(),
            records: 0,
            without_key: 0,
            keyed_by_user: 0,
            partitions: Vec::new(),
        })
    }

    /// Takes an event of a user, by their number and id.
    pub fn add(&mut self, user: u64, id: &str, original: &Original<'_>) {
        self.records += 1;
        self.users.insert(&user);
        match original.key {
            None | Some(b"") => self.without_key += 1,
            Some(key) => {
                self.keyed_by_user += u64::from(key == id.as_bytes());
                if self.partitions.len() < TRIED {
                    self.partitions.push((key.to_vec(), original.partition));
                }
            }
        }
        match self.partition_of.get(&user) {
            Some(first) if *first != original.partition => {
                self.scattered.insert(user);
                self.example.get_or_insert((user, *first, original.partition));
            }
            Some(_) => {}
            None if self.partition_of.len() < MAX_REMEMBERED => {
                self.partition_of.insert(user, original.partition);
            }
            None => {}
        }
    }

    /// Takes a device that an event names beside its user.
    pub fn link(&mut self, device: u64, partition: i32) {
        if self.linked.len() < MAX_REMEMBERED {
            self.linked.push((device, partition));
        }
    }

    /// Whether what devices did alone lies where their users are; and what mends it.
    pub fn complaint_of_devices(&self) -> Option<String> {
        let apart = self.linked.iter().filter_map(|(device, partition)| {
            let own = self.partition_of.get(device).filter(|own| *own != partition)?;
            Some((device, own, partition))
        });
        let devices: std::collections::BTreeSet<_> = apart.clone().map(|(device, ..)| device).collect();
        let (device, own, partition) = apart.clone().next()?;
        Some(format!(
            "{} devices did something on another partition than that of their user (device {device} on {own}, with its \
             user on {partition}), so that [identity] does not bring them together. `cambium rekey` writes the user's id \
             into what their devices did",
            devices.len()
        ))
    }

    /// How many users there are, about.
    pub fn users(&mut self) -> u64 {
        self.users.count().round() as u64
    }

    /// What is wrong with the keys, and what mends it.
    pub fn complaint(&self, partitions: i32) -> Option<String> {
        let (user, first, second) = self.example?;
        Some(format!(
            "{} users are on several partitions (user {user} on {first} and {second}), so that their sessions and \
             funnels are cut and they count twice in rolling windows. {} `cambium rekey` mends what is there",
            self.scattered.len(),
            self.reason(partitions)
        ))
    }

    fn reason(&self, partitions: i32) -> String {
        if self.without_key * 2 > self.records {
            return "The records have no key: producers must send the user's id as the key.".to_owned();
        }
        if self.keyed_by_user * 2 < self.records {
            return "The records are keyed by something else than the user: producers must send the user's id as the key."
                .to_owned();
        }
        let share = |partitioner: fn(&[u8]) -> u32| {
            let fit = self.partitions.iter().filter(|(key, partition)| {
                (partitioner(key) % partitions.max(1) as u32) as i32 == *partition
            });
            fit.count() as f64 / self.partitions.len().max(1) as f64
        };
        let (java, librdkafka) = (share(java), share(crc32fast::hash));
        if java > 0.99 || librdkafka > 0.99 {
            return "The keys lie where they should now: was the number of partitions changed, or an app keyed otherwise before?"
                .to_owned();
        }
        format!(
            "{:.0} % of the keys lie where Java's default partitioner puts them, {:.0} % where librdkafka's does: \
             producers use different ones. Set partitioner=murmur2_random where librdkafka is used (Python, Go, C#, Node, Rust).",
            java * 100.0,
            librdkafka * 100.0
        )
    }
}

/// The hash by which Java's default partitioner chooses: murmur2, made positive.
pub fn java(key: &[u8]) -> u32 {
    murmur2::murmur2(key, murmur2::KAFKA_SEED) & 0x7fff_ffff
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of Kafka's own tests of its `Utils.murmur2`.
    #[test]
    fn the_hash_is_javas() {
        for (key, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
        ] {
            assert_eq!(java(key.as_bytes()), (hash as u32) & 0x7fff_ffff, "{key}");
        }
    }

    fn keys(place: impl Fn(usize, &str) -> (Option<String>, i32)) -> String {
        let mut keys = Keys::new().unwrap();
        for round in 0..2 {
            for user in 0..100u64 {
                let id = format!("u{user}");
                let (key, partition) = place(round, &id);
                let original = Original {
                    topic: "t",
                    partition,
                    offset: 0,
                    key: key.as_deref().map(str::as_bytes),
                    headers: Vec::new(),
                    payload: None,
                };
                keys.add(user, &id, &original);
            }
        }
        assert_eq!(keys.users(), 100);
        keys.complaint(4).unwrap_or_default()
    }

    #[test]
    fn devices_are_where_their_users_are_or_it_is_said() {
        let mut keys = Keys::new().unwrap();
        for (user, partition) in [(1, 0), (2, 3)] {
            let original = Original {
                topic: "t",
                partition,
                offset: 0,
                key: None,
                headers: Vec::new(),
                payload: None,
            };
            keys.add(user, "", &original);
        }
        keys.link(1, 0);
        // Of which nothing was seen.
        keys.link(9, 2);
        assert_eq!(keys.complaint_of_devices(), None);
        keys.link(2, 1);
        let complaint = keys.complaint_of_devices().unwrap();
        assert!(
            complaint.starts_with("1 devices") && complaint.contains("device 2 on 3"),
            "{complaint}"
        );
    }

    #[test]
    fn the_reason_is_named() {
        let by = |hash: u32| (hash % 4) as i32;
        assert_eq!(keys(|_, id| (Some(id.to_owned()), by(java(id.as_bytes())))), "");
        let mixed = keys(|round, id| {
            let hash = if round == 0 {
                java(id.as_bytes())
            } else {
                crc32fast::hash(id.as_bytes())
            };
            (Some(id.to_owned()), by(hash))
        });
        assert!(mixed.contains("murmur2_random"), "{mixed}");
        let unkeyed = keys(|round, _| (None, round as i32));
        assert!(
            unkeyed.contains("no key") && unkeyed.starts_with("100 users"),
            "{unkeyed}"
        );
        let other = keys(|round, _| (Some("session".to_owned()), round as i32));
        assert!(other.contains("something else"), "{other}");
    }
}
