//! `cambium generate`: simulated events, with their truth.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use cambium_kafka::{Producer, create_topic, read_all};
use cambium_simulate::{Product, Record, Rules, Settings, Truth, summary};
use clap::Args;

use crate::config::ConfigError;

/// Make the events of a simulated shop, as JSON lines or into Kafka, and the exact truth of their numbers.
///
/// The truth is worked out naively, by other code than the engine's. Of JSON lines it is what `replay`
/// counts; of Kafka it is that of all the topic holds when the last event is in.
///
/// Example: cambium generate --events 100000 --output events.jsonl --truth truth.json
#[derive(Args, Debug)]
pub struct Arguments {
    /// How many records
    #[arg(long, default_value_t = 10_000)]
    events: usize,
    /// How many users there are to come
    #[arg(long, default_value_t = 2_000)]
    users: u32,
    /// Records a second of event time, on average over a day
    #[arg(long, default_value_t = 1.0)]
    rate: f64,
    /// The time of the first event, RFC 3339
    #[arg(long, value_name = "TIME", default_value = "2026-01-01T00:00:00Z")]
    start: String,
    /// The same number gives the same events
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Share of events that come up to ten minutes late
    #[arg(long, value_name = "SHARE", default_value_t = 0.01)]
    late: f64,
    /// Share of records that come twice
    #[arg(long, value_name = "SHARE", default_value_t = 0.005)]
    duplicate: f64,
    /// Share of records that are broken
    #[arg(long, value_name = "SHARE", default_value_t = 0.001)]
    broken: f64,
    /// Share of events that are a day ahead of their time
    #[arg(long, value_name = "SHARE", default_value_t = 0.001)]
    ahead: f64,
    /// Where the JSON lines go; - is standard output
    #[arg(long, value_name = "FILE", default_value = "-", conflicts_with = "brokers")]
    output: PathBuf,
    /// Kafka's address: there, and not into a file
    #[arg(long, value_name = "HOST:PORT", requires = "topic")]
    brokers: Option<String>,
    /// The topic; it is created if it is not there
    #[arg(long, requires = "brokers")]
    topic: Option<String>,
    /// Partitions of a topic that is created
    #[arg(long, value_name = "N", default_value_t = 4)]
    partitions: i32,
    /// Where the truth goes, as JSON
    #[arg(long, value_name = "FILE")]
    truth: Option<PathBuf>,
    /// The zone of the truth's days
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    time_zone: String,
}

pub async fn run(arguments: Arguments) -> Result<()> {
    let start: jiff::Timestamp = arguments
        .start
        .parse()
        .map_err(|error| ConfigError::new(format!("--start {}: {error}", arguments.start)))?;
    let product = Product::new(Settings {
        seed: arguments.seed,
        users: arguments.users,
        start_ms: start.as_millisecond(),
        events_per_second: arguments.rate,
        late: arguments.late,
        duplicate: arguments.duplicate,
        broken: arguments.broken,
        ahead: arguments.ahead,
        payments_broken_ms: None,
    });
    let product = product.take(arguments.events);
    let records = match (&arguments.brokers, &arguments.topic) {
        (Some(brokers), Some(topic)) => {
            create_topic(brokers, &Default::default(), topic, arguments.partitions).await?;
            tokio::task::block_in_place(|| into_kafka(product, brokers, topic, arguments.truth.is_some()))?
        }
        _ => into_file(product, &arguments.output)?,
    };
    let Some(path) = &arguments.truth else {
        return Ok(());
    };
    let rules = Rules {
        zone: arguments.time_zone.clone(),
        lateness_ms: 86_400_000,
        lateness_changes: Vec::new(),
        skew_ms: 300_000,
        link_within_ms: None,
        drops: Vec::new(),
    };
    let text = serde_json::to_string_pretty(&summary(&Truth::new(&records, &rules)))?;
    std::fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))
}

/// Writes the lines; gives them back as `replay` reads them: in order of event time.
fn into_file(
    product: impl Iterator<Item = cambium_simulate::Publication>,
    output: &PathBuf,
) -> Result<Vec<Record>> {
    let cannot = || format!("cannot write {}", output.display());
    let mut out: Box<dyn Write> = if output.as_os_str() == "-" {
        Box::new(BufWriter::new(std::io::stdout().lock()))
    } else {
        Box::new(BufWriter::new(File::create(output).with_context(cannot)?))
    };
    let mut lines = Vec::new();
    let mut time = i64::MIN;
    for one in product {
        out.write_all(&one.payload).with_context(cannot)?;
        out.write_all(b"\n").with_context(cannot)?;
        // A line that is broken keeps its place behind the one before it.
        let parsed: Option<serde_json::Value> = serde_json::from_slice(&one.payload).ok();
        time = parsed
            .and_then(|event| event["timestamp"].as_i64())
            .unwrap_or(time);
        lines.push((time, one.payload));
    }
    out.flush().with_context(cannot)?;
    lines.sort_by_key(|(time, _)| *time);
    let records = lines
        .into_iter()
        .enumerate()
        .map(|(offset, (_, payload))| Record {
            partition: 0,
            offset: offset as i64,
            timestamp: None,
            payload,
        });
    Ok(records.collect())
}

/// Sends the records, keyed by user; gives back what the topic holds then, where that is asked for.
fn into_kafka(
    product: impl Iterator<Item = cambium_simulate::Publication>,
    brokers: &str,
    topic: &str,
    read_back: bool,
) -> Result<Vec<Record>> {
    let producer = Producer::new(brokers, &Default::default())?;
    let mut sent = 0u64;
    for one in product {
        // A broken record has no user in it; whoever sent it knows.
        producer.send_raw(
            topic,
            Some(one.user.as_bytes()),
            &one.payload,
            Some(one.timestamp_ms),
        )?;
        sent += 1;
    }
    producer
        .flush(Duration::from_secs(60))
        .with_context(|| format!("sending to {brokers}"))?;
    eprintln!("sent {sent} records to {topic}");
    if !read_back {
        return Ok(Vec::new());
    }
    let records = read_all(brokers, topic)?.into_iter();
    Ok(records
        .map(|(partition, offset, timestamp, payload)| Record {
            partition,
            offset,
            timestamp,
            payload,
        })
        .collect())
}
