//! A topic full of traffic.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use cambium_kafka::{Producer, create_topic};

use crate::traffic::{Encoding, Settings, Traffic, user_id};

/// What a topic holds.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub topic: String,
    pub encoding: Encoding,
    pub events: u64,
    /// The payloads alone.
    pub bytes: u64,
    pub users: u64,
    pub duplicates: u64,
    pub took: Duration,
}

/// Creates a topic and sends all of the traffic, keyed by user, each record under the time at which it arrives.
pub async fn load(brokers: &str, partitions: i32, encoding: Encoding, settings: Settings) -> Result<Loaded> {
    let begun = Instant::now();
    let topic = format!("events-{}", encoding.name());
    create_topic(brokers, &BTreeMap::new(), &topic, partitions).await?;
    // Room for a second's worth, so that the broker never waits for the next event to be made.
    let queue = [
        ("queue.buffering.max.messages", "500000"),
        ("queue.buffering.max.kbytes", "262144"),
    ];
    let queue = queue.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let producer = Producer::new(brokers, &BTreeMap::from(queue))?;
    let (mut bytes, mut duplicates, mut users) = (0, 0, HashSet::new());
    let mut payload = Vec::new();
    for behaviour in Traffic::new(settings) {
        payload.clear();
        encoding.write(&behaviour, &mut payload);
        bytes += payload.len() as u64;
        duplicates += u64::from(behaviour.is_repeated);
        users.insert(behaviour.user);
        let key = user_id(behaviour.user);
        producer.send_raw(&topic, Some(key.as_bytes()), &payload, Some(behaviour.arrives_ms))?;
    }
    producer.flush(Duration::from_secs(120))?;
    Ok(Loaded {
        topic,
        encoding,
        events: settings.events,
        bytes,
        users: users.len() as u64,
        duplicates,
        took: begun.elapsed(),
    })
}

/// Milliseconds since 1970.
pub fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as i64)
}
