//! What everything else is compared with: consumers that count records and throw them away.
//!
//! The only unsafe code here: rdkafka has no safe face for librdkafka's way of taking many records at once.
#![allow(unsafe_code)]

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use rdkafka::bindings::{
    rd_kafka_consume_batch_queue, rd_kafka_message_destroy, rd_kafka_message_t, rd_kafka_queue_destroy,
    rd_kafka_queue_get_consumer, rd_kafka_resp_err_t,
};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::report::{Figure, Watched};

/// Which records, and how many.
#[derive(Args, Clone, Debug)]
pub struct Arguments {
    #[arg(long)]
    pub brokers: String,
    #[arg(long)]
    pub topic: String,
    #[arg(long)]
    pub partitions: i32,
    #[arg(long)]
    pub events: u64,
}

const PATIENCE: Duration = Duration::from_secs(30);
/// Records that are taken at once.
const BATCH: usize = 10_000;

/// A consumer of all partitions from their beginning, with the settings that Cambium reads with.
fn consumer(arguments: &Arguments) -> Result<BaseConsumer> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &arguments.brokers)
        .set("group.id", "bare")
        .set("enable.auto.commit", "false")
        .set("check.crcs", "true")
        .set("queued.max.messages.kbytes", "16384")
        .set("fetch.queue.backoff.ms", "10")
        .create()?;
    let mut list = TopicPartitionList::new();
    for partition in 0..arguments.partitions {
        list.add_partition_offset(&arguments.topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    Ok(consumer)
}

/// One record after the other.
pub fn by_poll(arguments: &Arguments) -> Result<Figure> {
    let consumer = consumer(arguments)?;
    let next = || anyhow::Ok(consumer.poll(PATIENCE).context("the broker sends nothing")??);
    // The way to the first record is no matter of speed.
    next()?;
    let watched = Watched::begin()?;
    for _ in 1..arguments.events {
        next()?;
    }
    watched.end("rdkafka, BaseConsumer::poll", arguments.events)
}

/// Many at once, straight from librdkafka's queue.
pub fn by_batch(arguments: &Arguments) -> Result<Figure> {
    let consumer = consumer(arguments)?;
    let mut batch: Vec<*mut rd_kafka_message_t> = vec![std::ptr::null_mut(); BATCH];
    // SAFETY: the client lives as long as `consumer`, which outlives the queue; the queue is given back below.
    let queue = unsafe { rd_kafka_queue_get_consumer(consumer.client().native_ptr()) };
    let (mut left, mut heard_at, mut watched) = (arguments.events, Instant::now(), None);
    while left > 0 {
        // SAFETY: the queue is alive, and there is room for as many messages as it is told.
        let taken = unsafe { rd_kafka_consume_batch_queue(queue, 100, batch.as_mut_ptr(), BATCH) };
        let taken = usize::try_from(taken).context("librdkafka gives no records")?;
        for message in &batch[..taken] {
            // SAFETY: the first `taken` of the batch are messages that librdkafka has just handed over, to be
            // destroyed once each, and not used behind that.
            let error = unsafe {
                let error = (**message).err;
                rd_kafka_message_destroy(*message);
                error
            };
            if error == rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                left = left.saturating_sub(1);
            }
        }
        if taken > 0 {
            heard_at = Instant::now();
            if watched.is_none() {
                watched = Some(Watched::begin()?);
            }
        } else if heard_at.elapsed() > PATIENCE {
            bail!("the broker sends nothing");
        }
    }
    let watched = watched.context("there were no records")?;
    let figure = watched.end("rdkafka, rd_kafka_consume_batch_queue", arguments.events);
    // SAFETY: it was taken above, and nobody else has it.
    unsafe { rd_kafka_queue_destroy(queue) };
    figure
}
