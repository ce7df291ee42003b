//! Reading a stretch of a partition's log again, without a group.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use cambium_event::Record;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::Settings;
use crate::batch::{Batch, Queue};
use crate::look::settings_of;
use crate::read::partitions;
use crate::source::{is_fatal, is_out_of_range};

/// For how long a topic holds what it is given; none: for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    pub ms: Option<i64>,
    pub bytes: Option<i64>,
}

/// Reads logs beside whoever consumes them.
pub struct LogReader {
    config: ClientConfig,
    brokers: String,
}

const PATIENCE: Duration = Duration::from_millis(100);
/// A broker that says nothing for so long is not waited for any more.
const SILENCE: Duration = Duration::from_secs(30);

impl LogReader {
    pub fn new(settings: &Settings) -> LogReader {
        let mut config = settings.config();
        config
            .set("group.id", format!("{}-past", settings.group))
            // The end tells that nothing lies behind an offset.
            .set("enable.partition.eof", "true");
        LogReader {
            config,
            brokers: settings.brokers.clone(),
        }
    }

    fn consumer(&self) -> Result<BaseConsumer> {
        self.config.create().context("cannot make a Kafka client")
    }

    /// How many partitions a topic has; an error if it is not there.
    pub fn partitions(&self, topic: &str) -> Result<i32> {
        partitions(&self.consumer()?, &self.brokers, topic)
    }

    /// Where a partition's log begins and ends.
    pub fn bounds(&self, topic: &str, partition: i32) -> Result<Range<i64>> {
        let bounds = self.consumer()?.fetch_watermarks(topic, partition, SILENCE);
        let (earliest, end) =
            bounds.with_context(|| format!("cannot ask {} what {topic}[{partition}] holds", self.brokers))?;
        Ok(earliest..end)
    }

    /// For how long a topic holds what it is given.
    pub fn retention(&self, topic: &str) -> Result<Retention> {
        let settings = settings_of(&self.config, topic)?;
        let policy = settings.get("cleanup.policy").map_or("delete", String::as_str);
        let limit = |name: &str| {
            let limit: i64 = settings.get(name)?.parse().ok()?;
            (limit >= 0 && policy.contains("delete")).then_some(limit)
        };
        Ok(Retention {
            ms: limit("retention.ms"),
            bytes: limit("retention.bytes"),
        })
    }

    /// The first offset whose record is not older than a time; the end, where all are.
    pub fn offset_at(&self, topic: &str, partition: i32, time_ms: i64) -> Result<i64> {
        let mut asked = TopicPartitionList::new();
        asked
            .add_partition_offset(topic, partition, Offset::Offset(time_ms))
            .context("a time is not valid")?;
        let consumer = self.consumer()?;
        let found = consumer.offsets_for_times(asked, SILENCE);
        let found = found.with_context(|| {
            format!(
                "cannot ask {} when {topic}[{partition}] was written",
                self.brokers
            )
        })?;
        match found.elements().first().map(|found| found.offset()) {
            Some(Offset::Offset(offset)) => Ok(offset),
            _ => Ok(self.bounds(topic, partition)?.end),
        }
    }

    /// Hands over the records of these offsets, in their order and some at a time.
    ///
    /// # Errors
    /// Where the log no longer begins as early, the broker is silent, or `take` fails.
    pub fn read(
        &self,
        topic: &str,
        partition: i32,
        offsets: Range<i64>,
        take: &mut dyn FnMut(&[Record<'_>]) -> Result<()>,
    ) -> Result<()> {
        if offsets.is_empty() {
            return Ok(());
        }
        let consumer = Arc::new(self.consumer()?);
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(offsets.start))
            .context("an offset is not valid")?;
        consumer.assign(&list).context("the assignment failed")?;
        let queue = Queue::whole(&consumer).context("the client has no queue")?;
        let mut batch = Batch::new();
        let mut heard_at = Instant::now();
        loop {
            queue.take(&mut batch, PATIENCE);
            let headers = batch.headers();
            let mut records = batch.records(&headers);
            let behind = records.partition_point(|record| record.offset < offsets.end);
            let is_over = behind < records.len() || batch.is_at_end();
            records.truncate(behind);
            if let Some(last) = records.last() {
                heard_at = Instant::now();
                let is_last = last.offset + 1 == offsets.end;
                take(&records)?;
                if is_last {
                    return Ok(());
                }
            }
            if is_over {
                return Ok(());
            }
            for (error, reason) in batch.errors() {
                if is_out_of_range(&error) || is_fatal(&error) {
                    return Err(error).with_context(|| format!("{topic}[{partition}]: {reason}"));
                }
                tracing::debug!("Kafka: {error}: {reason}");
            }
            if heard_at.elapsed() > SILENCE {
                bail!(
                    "{} sent nothing of {topic}[{partition}] for {SILENCE:?}",
                    self.brokers
                );
            }
        }
    }
}
