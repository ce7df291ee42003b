//! Whether what no snapshot covers yet is about to be deleted by Kafka.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use cambium_engine::Topic;
use cambium_kafka::{Held, LogReader, Retention};
use cambium_snapshots::Store;

use super::Findings;
use crate::commands::run::kafka;
use crate::config::Config;

/// A topic should hold records for so many times as long as passes between two snapshots.
const SNAPSHOTS: i64 = 10;
/// What is no snapshot's and among so much of the oldest is in danger.
const OLDEST_ONE_OF: i64 = 2;

/// Compares, for each partition that was counted, its newest snapshot with what the topic holds and for how long.
pub async fn check(
    config: &Config,
    store: &Store,
    held: &BTreeMap<String, Vec<Held>>,
    findings: &mut Findings,
) {
    for (topic, held) in held {
        if let Err(error) = check_topic(config, store, (topic, held), findings).await {
            findings.warn(format!(
                "topic {topic}: whether it holds records for long enough cannot be asked: {error:#}"
            ));
        }
    }
}

async fn check_topic(
    config: &Config,
    store: &Store,
    (topic, held): (&str, &[Held]),
    findings: &mut Findings,
) -> Result<()> {
    let reader = LogReader::new(&kafka(config)?);
    let retention = tokio::task::block_in_place(|| reader.retention(topic))?;
    let every_ms = config.snapshots.every.0;
    if let Some(ms) = retention.ms.filter(|ms| *ms < SNAPSHOTS * every_ms) {
        findings.warn(format!(
            "topic {topic}: records are held for {} s, and snapshots are taken every {} s: what a process that is away for long \
             has not read is lost. Raise retention.ms",
            ms / 1000,
            every_ms / 1000
        ));
    }
    for (partition, held) in (0..).zip(held) {
        let name = Topic {
            name: topic.to_owned(),
            partition,
        };
        let Some((_, position)) = store.partition(&name, 1).reaches().await? else {
            continue;
        };
        if position < held.earliest {
            findings.fail(format!(
                "{name}: the newest snapshot ends at offset {position}, and the log begins at {}: what lay between is lost; \
                 `cambium run` will say which ways there are",
                held.earliest
            ));
        } else if position < held.end
            && let Some(why) =
                tokio::task::block_in_place(|| why_in_danger(&reader, retention, &name, (position, *held)))?
        {
            findings.warn(format!(
                "{name}: from offset {position} on nothing is in a snapshot, and it will be deleted soon: {why}. Start `cambium run`, or \
                 let the topic hold more"
            ));
        }
    }
    Ok(())
}

/// What a topic deletes first is what is oldest.
fn why_in_danger(
    reader: &LogReader,
    retention: Retention,
    topic: &Topic,
    (position, held): (i64, Held),
) -> Result<Option<String>> {
    if let Some(ms) = retention.ms {
        let half = now_ms() - ms / OLDEST_ONE_OF;
        if position < reader.offset_at(&topic.name, topic.partition, half)? {
            let text = format!("it is older than half of retention.ms ({} s)", ms / 1000);
            return Ok(Some(text));
        }
    }
    // Without a time it is not known when; the log has been cut already where it does not begin at 0.
    let is_old = position - held.earliest < (held.end - held.earliest) / OLDEST_ONE_OF;
    let is_cut = held.earliest > 0;
    Ok(retention
        .bytes
        .filter(|_| is_old && is_cut)
        .map(|bytes| format!("it is in the older half of what the log holds (retention.bytes = {bytes})")))
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as i64)
}
