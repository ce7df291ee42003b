//! Looking at what a topic holds, without a group: the newest records of each partition.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Headers, Message};
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};

use crate::Original;
use crate::read::partitions;

/// What a partition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    pub earliest: i64,
    pub end: i64,
}

const PATIENCE: Duration = Duration::from_secs(15);

/// Hands over the newest `records` of each partition of a topic; gives what each partition holds.
pub fn sample(
    brokers: &str,
    settings: &BTreeMap<String, String>,
    topic: &str,
    records: i64,
    look: impl FnMut(&Original<'_>) -> Result<()>,
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
    let consumer: BaseConsumer<Reasons> = config
        .create_with_context(Reasons::default())
        .context("[kafka] settings: librdkafka does not take them")?;
    let looked = look_at(&consumer, brokers, topic, records, look);
    if looked.is_err() {
        // Why a broker cannot be reached, librdkafka says beside, and only to who polls.
        let _ = consumer.poll(Duration::from_millis(100));
    }
    match consumer.context().last() {
        Some(reason) => looked.with_context(|| reason),
        None => looked,
    }
}

/// Keeps the last error of a client.
#[derive(Default)]
struct Reasons(Mutex<Option<String>>);

impl Reasons {
    fn last(&self) -> Option<String> {
        self.0.lock().ok().and_then(|last| last.clone())
    }
}

impl ClientContext for Reasons {
    fn error(&self, error: KafkaError, reason: &str) {
        let is_news = !matches!(
            error.rdkafka_error_code(),
            Some(RDKafkaErrorCode::PartitionEOF | RDKafkaErrorCode::AllBrokersDown)
        );
        if is_news && let Ok(mut last) = self.0.lock() {
            *last = Some(reason.to_owned());
        }
    }
}

impl ConsumerContext for Reasons {}

fn look_at(
    consumer: &BaseConsumer<Reasons>,
    brokers: &str,
    topic: &str,
    records: i64,
    mut look: impl FnMut(&Original<'_>) -> Result<()>,
) -> Result<Vec<Held>> {
    let mut begin = TopicPartitionList::new();
    let mut all = Vec::new();
    let mut open = BTreeSet::new();
    for partition in 0..partitions(consumer, brokers, topic)? {
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
