//! Records a second from a real Kafka through every processor into the real ClickHouse engine, beside a bare
//! consumer that throws the same records away.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cambium::config::Config;
use cambium::warehouse::Warehouse;
use cambium_benches::{CONFIGURATION, events};
use cambium_kafka::{LocalKafka, Producer, create_topic};
use clap::{Parser, Subcommand};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

const EVENTS: usize = 2_000_000;
const PARTITIONS: i32 = 2;
const TOPIC: &str = "events";

/// The embedded engine is a child of this program, as it is one of cambium.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Option<Engine>,
    /// As cargo says to every benchmark
    #[arg(long)]
    bench: bool,
}

#[derive(Subcommand)]
enum Engine {
    Clickhouse(cambium::commands::clickhouse::Arguments),
}

#[tokio::main]
async fn main() -> Result<()> {
    if let Some(Engine::Clickhouse(arguments)) = Cli::parse().command {
        return cambium::commands::clickhouse::run(arguments).await;
    }
    let kafka = LocalKafka::start()?;
    let brokers = kafka.brokers();
    create_topic(&brokers, &BTreeMap::new(), TOPIC, PARTITIONS).await?;
    let producer = Producer::new(&brokers, &BTreeMap::new())?;
    for line in events(EVENTS, 100_000) {
        producer.send(TOPIC, &line, None)?;
    }
    producer.flush(Duration::from_secs(60))?;
    let bare = tokio::task::block_in_place(|| bare_consumer(&brokers))?;
    let cambium = whole(&brokers).await?;
    println!("a bare consumer:  {bare:>10.0} records a second");
    println!("cambium:          {cambium:>10.0} records a second");
    println!("ratio:            {:>10.3}", cambium / bare);
    Ok(())
}

fn bare_consumer(brokers: &str) -> Result<f64> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "bare")
        .set("check.crcs", "true")
        .create()?;
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition_offset(TOPIC, partition, Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    let begun = Instant::now();
    for _ in 0..EVENTS {
        consumer
            .poll(Duration::from_secs(30))
            .context("the broker sends nothing")??;
    }
    Ok(EVENTS as f64 / begun.elapsed().as_secs_f64())
}

/// From the first record to the last row in ClickHouse.
async fn whole(brokers: &str) -> Result<f64> {
    let directory = tempfile::tempdir()?;
    let text = format!("[kafka]\nbrokers = \"{brokers}\"\n[[source]]\ntopic = \"{TOPIC}\"\n{CONFIGURATION}");
    let config = Config::parse(&text, directory.path().to_owned())?;
    let warehouse = Warehouse::open_for_counting(&config, directory.path()).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let start = warehouse.start(&config, directory.path(), false)?;
    let client = warehouse.client.clone();
    let first = Arc::new(AtomicBool::new(false));
    let consuming = cambium::commands::run::consume(&config, start, stop.clone(), first.clone());
    let watching = async {
        while !first.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let begun = Instant::now();
        loop {
            let rows = client.rows("SELECT sum(offset) AS n FROM progress").await?;
            if rows.first().and_then(|row| row["n"].as_u64()) == Some(EVENTS as u64) {
                stop.store(true, Ordering::Relaxed);
                return anyhow::Ok(begun.elapsed());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let (consumed, watched) = tokio::join!(consuming, watching);
    consumed?;
    Ok(EVENTS as f64 / watched?.as_secs_f64())
}
