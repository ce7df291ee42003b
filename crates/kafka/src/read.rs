//! Reading a topic from its beginning to its present end, without a group.

use std::time::Duration;

use anyhow::{Context, Result};
use cambium_event::Record;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

/// Partition, offset, Kafka timestamp, value.
pub type RawRecord = (i32, i64, Option<i64>, Vec<u8>);

/// All records that a topic holds now, in the order in which they come. For topics that fit in memory.
pub fn read_all(brokers: &str, topic: &str) -> Result<Vec<RawRecord>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "cambium-read")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .create()
        .context("cannot make a Kafka client")?;
    let partitions = partitions(&consumer, brokers, topic)?;
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(topic, partition, Offset::Beginning)
            .context("an offset is not valid")?;
    }
    consumer
        .assign(&list)
        .with_context(|| format!("cannot read topic {topic}"))?;
    let mut records = Vec::new();
    let mut ended = 0;
    while ended < partitions {
        match consumer.poll(Duration::from_secs(30)) {
            None => anyhow::bail!("{brokers} sent nothing of topic {topic} for 30 s"),
            Some(Err(KafkaError::PartitionEOF(_))) => ended += 1,
            Some(Err(error)) => return Err(error).with_context(|| format!("cannot read topic {topic}")),
            Some(Ok(message)) => records.push((
                message.partition(),
                message.offset(),
                message.timestamp().to_millis(),
                message.payload().unwrap_or_default().to_vec(),
            )),
        }
    }
    Ok(records)
}

/// A message as a record.
pub(crate) fn with_record<T>(message: &impl Message, use_record: impl FnOnce(&Record<'_>) -> T) -> T {
    let headers: Vec<(&str, &[u8])> = message.headers().map_or_else(Vec::new, |headers| {
        headers
            .iter()
            .filter_map(|header| Some((header.key, header.value?)))
            .collect()
    });
    use_record(&Record {
        offset: message.offset(),
        timestamp: message.timestamp().to_millis(),
        key: message.key(),
        headers: &headers,
        taken_in_at: None,
        schema: None,
        payload: message.payload(),
    })
}

/// How many partitions a topic has; an error if it is not there.
pub(crate) fn partitions<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    brokers: &str,
    topic: &str,
) -> Result<i32> {
    let metadata = consumer
        .fetch_metadata(Some(topic), Duration::from_secs(15))
        .with_context(|| format!("cannot ask {brokers} about topic {topic}"))?;
    let partitions = metadata
        .topics()
        .first()
        .map_or(0, |found| found.partitions().len());
    anyhow::ensure!(partitions > 0, "there is no topic {topic} on {brokers}");
    Ok(partitions as i32)
}
