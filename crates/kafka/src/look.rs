//! What a partition's log holds: its bounds, and single records of it.

use std::cell::OnceCell;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use cambium_engine::Mark;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::TopicNow;
use crate::read::with_record;

/// A partition's log, as it is when the partition is assigned.
pub struct PartitionLog<'l> {
    pub topic: &'l str,
    pub partition: i32,
    pub earliest: i64,
    pub end: i64,
    pub now: &'l TopicNow,
    pub(crate) looker: &'l Looker,
}

impl PartitionLog<'_> {
    /// Looks at the record at an offset; none where there is none: compaction, retention or a transaction.
    pub fn mark_at(&self, offset: i64) -> Result<Option<Mark>> {
        let looked = self.looker.mark_at(self.topic, self.partition, offset);
        looked.with_context(|| {
            format!(
                "cannot read {}[{}] at offset {offset}",
                self.topic, self.partition
            )
        })
    }
}

/// A consumer of no group, made when the first record is to be looked at.
pub(crate) struct Looker {
    config: ClientConfig,
    consumer: OnceCell<BaseConsumer>,
}

const PATIENCE: Duration = Duration::from_secs(30);

impl Looker {
    pub fn new(config: ClientConfig) -> Looker {
        Looker {
            config,
            consumer: OnceCell::new(),
        }
    }

    fn mark_at(&self, topic: &str, partition: i32, offset: i64) -> Result<Option<Mark>> {
        let consumer = match self.consumer.get() {
            Some(consumer) => consumer,
            None => {
                let made = self.config.create().context("cannot make a Kafka client")?;
                self.consumer.get_or_init(|| made)
            }
        };
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(offset))
            .context("an offset is not valid")?;
        consumer.assign(&list).context("the assignment failed")?;
        let looked = look(consumer, offset);
        consumer
            .unassign()
            .context("the assignment cannot be taken back")?;
        looked
    }
}

fn look(consumer: &BaseConsumer, offset: i64) -> Result<Option<Mark>> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                let is_there = message.offset() == offset;
                return Ok(is_there.then(|| with_record(&message, Mark::of)));
            }
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(None),
            Some(Err(KafkaError::MessageConsumption(
                RDKafkaErrorCode::OffsetOutOfRange | RDKafkaErrorCode::AutoOffsetReset,
            ))) => return Ok(None),
            // A broker that went away comes back, or does not within the time that it has.
            Some(Err(error)) => tracing::debug!("Kafka: {error}"),
            None => {}
        }
    }
    bail!("the broker sent nothing for {PATIENCE:?}; start again when it does")
}
