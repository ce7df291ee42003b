//! Copying topics into another, record by record, at least once.
//!
//! How far each source was copied is committed under a group of its own, after the broker has taken what
//! was copied: a copy that is cut off begins again a little before, and what it sends twice carries the
//! same message ids.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::Producer;
use crate::read::partitions;

/// Where from, where to, and under which group's name.
#[derive(Clone, Debug)]
pub struct Copy {
    pub brokers: String,
    pub settings: BTreeMap<String, String>,
    pub group: String,
    pub from: Vec<String>,
    /// The cluster that is copied to; it may be the same.
    pub to_brokers: String,
    pub to_settings: BTreeMap<String, String>,
    pub to: String,
}

/// A record as it is copied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    pub key: Option<Vec<u8>>,
    pub payload: Option<Vec<u8>>,
    /// One header beside those that it has.
    pub header: Option<(String, String)>,
}

/// A record of a source.
pub struct Original<'m> {
    pub topic: &'m str,
    pub partition: i32,
    pub offset: i64,
    pub key: Option<&'m [u8]>,
    pub headers: Vec<(&'m str, &'m [u8])>,
    pub payload: Option<&'m [u8]>,
}

const COMMIT_EVERY: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(60);

impl Copy {
    /// Copies all that the sources hold now; gives the number of records.
    pub fn run(&self, mut change: impl FnMut(&Original<'_>) -> Result<Copied>) -> Result<u64> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("group.id", &self.group)
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "error")
            .set("check.crcs", "true")
            .set("enable.partition.eof", "true");
        for (name, value) in &self.settings {
            config.set(name, value);
        }
        let consumer: BaseConsumer = config.create().context("cannot make a Kafka client")?;
        let mut open = self.assign(&consumer)?;
        let producer = Producer::new(&self.to_brokers, &self.to_settings)?;
        let mut reached = BTreeMap::new();
        let (mut copied, mut committed_at) = (0, Instant::now());
        while !open.is_empty() {
            match consumer.poll(PATIENCE) {
                None => bail!("{} sent nothing for {PATIENCE:?}", self.brokers),
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    // Compaction and transactions leave gaps before the end.
                    let positions = consumer.position().context("the position is not known")?;
                    open.retain(|(topic, partition), end| {
                        let position = positions.find_partition(topic, *partition);
                        !matches!(position.map(|one| one.offset()), Some(Offset::Offset(at)) if at >= *end)
                    });
                }
                Some(Err(error)) => return Err(error).context("cannot read what is to be copied"),
                Some(Ok(message)) => {
                    self.send(&producer, &message, &mut change)?;
                    copied += 1;
                    let key = (message.topic().to_owned(), message.partition());
                    let next = message.offset() + 1;
                    reached.insert(key.clone(), next);
                    if open.get(&key).is_some_and(|end| next >= *end) {
                        open.remove(&key);
                    }
                }
            }
            if committed_at.elapsed() >= COMMIT_EVERY || open.is_empty() {
                self.commit(&consumer, &producer, &mut reached)?;
                committed_at = Instant::now();
            }
        }
        Ok(copied)
    }

    /// Begins each partition where the last copy ended; gives where each ends now.
    fn assign(&self, consumer: &BaseConsumer) -> Result<BTreeMap<(String, i32), i64>> {
        let mut all = TopicPartitionList::new();
        for topic in self.from.iter().collect::<BTreeSet<_>>() {
            all.add_partition_range(topic, 0, partitions(consumer, &self.brokers, topic)? - 1);
        }
        let committed = consumer
            .committed_offsets(all, PATIENCE)
            .with_context(|| format!("cannot ask {} how far the last copy came", self.brokers))?;
        let mut begin = TopicPartitionList::new();
        let mut open = BTreeMap::new();
        for one in committed.elements() {
            let (topic, partition) = (one.topic(), one.partition());
            let (earliest, end) = consumer
                .fetch_watermarks(topic, partition, PATIENCE)
                .with_context(|| format!("cannot ask {} what {topic}[{partition}] holds", self.brokers))?;
            let at = match one.offset() {
                Offset::Offset(at) if at < earliest => bail!(
                    "{topic}[{partition}]: the last copy ended at {at}, and the log begins at {earliest}: what lies between is lost"
                ),
                Offset::Offset(at) => at,
                _ => earliest,
            };
            begin
                .add_partition_offset(topic, partition, Offset::Offset(at))
                .context("an offset is not valid")?;
            if at < end {
                open.insert((topic.to_owned(), partition), end);
            }
        }
        consumer.assign(&begin).context("the topics cannot be read")?;
        Ok(open)
    }

    fn send(
        &self,
        producer: &Producer,
        message: &BorrowedMessage<'_>,
        change: &mut impl FnMut(&Original<'_>) -> Result<Copied>,
    ) -> Result<()> {
        let headers: Vec<(&str, &[u8])> = message.headers().map_or_else(Vec::new, |headers| {
            headers
                .iter()
                .filter_map(|header| Some((header.key, header.value?)))
                .collect()
        });
        let copied = change(&Original {
            topic: message.topic(),
            partition: message.partition(),
            offset: message.offset(),
            key: message.key(),
            headers: headers.clone(),
            payload: message.payload(),
        })?;
        let more = copied
            .header
            .as_ref()
            .map(|(name, value)| (name.as_str(), value.as_bytes()));
        let headers: Vec<_> = headers.into_iter().chain(more).collect();
        producer.send_record(
            &self.to,
            copied.key.as_deref(),
            copied.payload.as_deref(),
            message.timestamp().to_millis(),
            &headers,
        )
    }

    /// What was copied is safe first, and said to be so then.
    fn commit(
        &self,
        consumer: &BaseConsumer,
        producer: &Producer,
        reached: &mut BTreeMap<(String, i32), i64>,
    ) -> Result<()> {
        producer
            .flush(PATIENCE)
            .with_context(|| format!("copying to {}", self.to))?;
        let mut offsets = TopicPartitionList::new();
        for ((topic, partition), next) in std::mem::take(reached) {
            offsets
                .add_partition_offset(&topic, partition, Offset::Offset(next))
                .context("an offset is not valid")?;
        }
        if offsets.count() == 0 {
            return Ok(());
        }
        consumer
            .commit(&offsets, CommitMode::Sync)
            .context("how far the copy came cannot be committed")
    }
}
