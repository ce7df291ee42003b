//! What a partition's log holds: its bounds, and single records of it.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cambium_engine::{Found, Mark};
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::TopicNow;
use crate::read::with_record;
use crate::silence::Silent;

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
    pub fn look(&self, offset: i64) -> Result<Found> {
        let looked = self.looker.look(self.topic, self.partition, offset);
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
    pub fn new(mut config: ClientConfig) -> Looker {
        // The end tells that nothing lies behind an offset.
        config.set("enable.partition.eof", "true");
        Looker {
            config,
            consumer: OnceCell::new(),
        }
    }

    fn look(&self, topic: &str, partition: i32, offset: i64) -> Result<Found> {
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
        match looked? {
            Found::Nothing if self.is_compacted(topic) => Ok(Found::Unknown),
            found => Ok(found),
        }
    }

    /// Whether single records of a topic may be gone; where the broker does not say, they may not.
    fn is_compacted(&self, topic: &str) -> bool {
        let described = settings_of(&self.config, topic);
        if let Err(error) = &described {
            tracing::warn!("whether topic {topic} is compacted cannot be asked: {error:#}");
        }
        let policy = described
            .ok()
            .and_then(|mut settings| settings.remove("cleanup.policy"));
        policy.is_some_and(|policy| policy.contains("compact"))
    }
}

/// What a topic is set to, as its broker says.
pub(crate) fn settings_of(config: &ClientConfig, topic: &str) -> Result<BTreeMap<String, String>> {
    let admin: AdminClient<DefaultClientContext> = config.create().context("cannot make a Kafka client")?;
    let options = AdminOptions::new().request_timeout(Some(PATIENCE));
    let topics = [ResourceSpecifier::Topic(topic)];
    let asked = futures::executor::block_on(admin.describe_configs(&topics, &options));
    let described = asked.with_context(|| format!("the settings of topic {topic} cannot be asked"))?;
    let described = described
        .into_iter()
        .next()
        .context("the broker says nothing of the topic")?;
    let described = described.map_err(KafkaError::AdminOp)?;
    let settings = described.entries.into_iter();
    Ok(settings
        .filter_map(|entry| Some((entry.name, entry.value?)))
        .collect())
}

fn look(consumer: &BaseConsumer, offset: i64) -> Result<Found> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                return Ok(match message.offset() == offset {
                    true => Found::Record(with_record(&message, Mark::of)),
                    false => Found::Nothing,
                });
            }
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(Found::Nothing),
            Some(Err(KafkaError::MessageConsumption(
                RDKafkaErrorCode::OffsetOutOfRange | RDKafkaErrorCode::AutoOffsetReset,
            ))) => return Ok(Found::Unknown),
            // A broker that went away comes back, or does not within the time that it has.
            Some(Err(error)) => tracing::debug!("Kafka: {error}"),
            None => {}
        }
    }
    Err(Silent(PATIENCE).into())
}
