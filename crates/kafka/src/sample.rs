//! Looking at what a topic holds, without a group: the newest records of each partition.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::Original;
use crate::read::partitions;

/// What a partition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    pub earliest: i64,
    pub end: i64,
}

const PATIENCE: Duration = Duration::from_secs(30);

/// Hands over the newest `records` of each partition of a topic; gives what each partition holds.
pub fn sample(
    brokers: &str,
    settings: &BTreeMap<String, String>,
    topic: &str,
    records: i64,
    mut look: impl FnMut(&Original<'_>) -> Result<()>,
) -> Result<Vec<Held>> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", brokers)
        .set("group.id", "cambium-check")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true");
    for (name, value) in settings {
        config.set(name, value);
    }
    let consumer: BaseConsumer = config
        .create()
        .context("[kafka] settings: librdkafka does not take them")?;
    let mut begin = TopicPartitionList::new();
    let mut all = Vec::new();
    let mut open = BTreeSet::new();
    for partition in 0..partitions(&consumer, brokers, topic)? {
        let (earliest, end) = consumer
            .fetch_watermarks(topic, partition, PATIENCE)
            .with_context(|| format!("cannot ask {brokers} what {topic}[{partition}] holds"))?;
        all.push(Held { earliest, end });
        if end > earliest {
            open.insert(partition);
            begin
                .add_partition_offset(topic, partition, Offset::Offset((end - records).max(earliest)))
                .context("an offset is not valid")?;
        }
    }
    consumer
        .assign(&begin)
        .with_context(|| format!("cannot read topic {topic}"))?;
    while !open.is_empty() {
        match consumer.poll(PATIENCE) {
            None => bail!("{brokers} sent nothing of topic {topic} for {PATIENCE:?}"),
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                open.remove(&partition);
            }
            Some(Err(error)) => return Err(error).with_context(|| format!("cannot read topic {topic}")),
            Some(Ok(message)) => {
                let headers = message.headers().map_or_else(Vec::new, |headers| {
                    headers
                        .iter()
                        .filter_map(|header| Some((header.key, header.value?)))
                        .collect()
                });
                look(&Original {
                    topic,
                    partition: message.partition(),
                    offset: message.offset(),
                    key: message.key(),
                    headers,
                    payload: message.payload(),
                })?;
                let end = all[message.partition() as usize].end;
                if message.offset() + 1 >= end {
                    open.remove(&message.partition());
                }
            }
        }
    }
    Ok(all)
}
