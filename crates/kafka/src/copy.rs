//! Copying topics into another, record by record, at least once.
//!
//! Of all partitions the record that is oldest by its Kafka timestamp comes next, as if all had been written to one log as they came:
//! else what is behind on one partition would be late behind another's.
//!
//! How far each source was copied is committed under a group of its own, after the broker has taken what
//! was copied: a copy that is cut off begins again a little before, and what it sends twice carries the
//! same message ids.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{Headers, Message, OwnedMessage};
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
    /// Beside those that it has.
    pub headers: Vec<(String, String)>,
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

/// A partition that is copied. It has a client of its own, since a queue that is split off a common one may miss what came before.
struct Lane {
    consumer: BaseConsumer,
    /// Where it ended when copying began.
    end: i64,
    /// What comes next of it; none: not known yet, or nothing.
    next: Option<OwnedMessage>,
}

impl Lane {
    fn timestamp(&self) -> Option<i64> {
        self.next.as_ref()?.timestamp().to_millis()
    }

    /// Waits for what comes next; nothing, where the partition is at its end.
    fn fill(&mut self) -> Result<()> {
        match self.consumer.poll(PATIENCE) {
            None => bail!("nothing was sent for {PATIENCE:?}"),
            // Compaction and transactions leave gaps before the end.
            Some(Err(KafkaError::PartitionEOF(_))) => Ok(()),
            Some(Err(error)) => Err(error.into()),
            Some(Ok(message)) => {
                self.next = (message.offset() < self.end).then(|| message.detach());
                Ok(())
            }
        }
    }
}

/// Asks a group's coordinator; again, where the broker is only about to become it, as of the first group ever.
fn patiently<T>(mut ask: impl FnMut() -> KafkaResult<T>) -> KafkaResult<T> {
    let begun = Instant::now();
    loop {
        let asked = ask();
        let is_about_to = asked.as_ref().err().is_some_and(|error| {
            matches!(
                error.rdkafka_error_code(),
                Some(
                    RDKafkaErrorCode::NotCoordinator
                        | RDKafkaErrorCode::CoordinatorNotAvailable
                        | RDKafkaErrorCode::CoordinatorLoadInProgress
                )
            )
        });
        if !is_about_to || begun.elapsed() > PATIENCE {
            return asked;
        }
        std::thread::sleep(A_MOMENT);
    }
}

const A_MOMENT: Duration = Duration::from_millis(200);
const COMMIT_EVERY: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(60);

impl Copy {
    /// Copies all that the sources held when `before` is called, which makes what `change` is to know; gives the number of records.
    pub fn run<B>(
        &self,
        before: impl FnOnce() -> Result<B>,
        mut change: impl FnMut(&mut B, &Original<'_>) -> Result<Copied>,
    ) -> Result<u64> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("group.id", &self.group)
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "error")
            .set("check.crcs", "true")
            // Of each partition.
            .set("queued.max.messages.kbytes", "4096");
        for (name, value) in &self.settings {
            config.set(name, value);
        }
        // How a partition's end is told, whatever the settings say.
        config.set("enable.partition.eof", "true");
        let consumer: BaseConsumer = config.create().context("cannot make a Kafka client")?;
        let mut lanes = self.lanes(&config, &consumer)?;
        let mut known = before()?;
        let producer = Producer::new(&self.to_brokers, &self.to_settings)?;
        let mut reached = BTreeMap::new();
        let (mut copied, mut committed_at) = (0, Instant::now());
        loop {
            for lane in lanes.iter_mut().filter(|lane| lane.next.is_none()) {
                lane.fill()
                    .with_context(|| format!("cannot read what is to be copied from {}", self.brokers))?;
            }
            lanes.retain(|lane| lane.next.is_some());
            let oldest = lanes.iter_mut().min_by_key(|lane| lane.timestamp());
            let next = oldest.and_then(|lane| lane.next.take());
            let is_over = next.is_none();
            if let Some(message) = next {
                self.send(&producer, &message, |original| change(&mut known, original))?;
                copied += 1;
                let key = (message.topic().to_owned(), message.partition());
                reached.insert(key, message.offset() + 1);
            }
            if is_over || committed_at.elapsed() >= COMMIT_EVERY {
                self.commit(&consumer, &producer, &mut reached)?;
                committed_at = Instant::now();
            }
            if is_over {
                return Ok(copied);
            }
        }
    }

    /// Begins each partition where the last copy ended; gives those that hold more now.
    fn lanes(&self, config: &ClientConfig, consumer: &BaseConsumer) -> Result<Vec<Lane>> {
        let mut all = TopicPartitionList::new();
        for topic in self.from.iter().collect::<BTreeSet<_>>() {
            all.add_partition_range(topic, 0, partitions(consumer, &self.brokers, topic)? - 1);
        }
        let committed = patiently(|| consumer.committed_offsets(all.clone(), PATIENCE))
            .with_context(|| format!("cannot ask {} how far the last copy came", self.brokers))?;
        let mut lanes = Vec::new();
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
            if at < end {
                let lane: BaseConsumer = config.create().context("cannot make a Kafka client")?;
                let mut begin = TopicPartitionList::new();
                begin
                    .add_partition_offset(topic, partition, Offset::Offset(at))
                    .context("an offset is not valid")?;
                lane.assign(&begin)
                    .with_context(|| format!("{topic}[{partition}] cannot be read"))?;
                lanes.push(Lane {
                    consumer: lane,
                    end,
                    next: None,
                });
            }
        }
        Ok(lanes)
    }

    fn send(
        &self,
        producer: &Producer,
        message: &OwnedMessage,
        change: impl FnOnce(&Original<'_>) -> Result<Copied>,
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
            .headers
            .iter()
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
        patiently(|| consumer.commit(&offsets, CommitMode::Sync))
            .context("how far the copy came cannot be committed")
    }
}
