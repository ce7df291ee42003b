//! `cambium send`: JSON lines into Kafka, keyed by user.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use cambium_event::Schemas;
use cambium_kafka::Producer;
use clap::Args;

use crate::config::{ConfigError, in_file};
use crate::files::open;

/// Send JSON lines to a topic, keyed by user.
///
/// Example: echo '{"app":"shop","event":"view","user_id":"u1","timestamp":"2026-11-24T12:00:00Z"}' | cambium send --brokers localhost:9092 --topic events -
#[derive(Args, Debug)]
pub struct Arguments {
    /// Kafka's address
    #[arg(long, value_name = "HOST:PORT")]
    brokers: String,
    /// The topic
    #[arg(long)]
    topic: String,
    /// Any setting of librdkafka, as name=value, or name=@FILE for what a file holds (a password)
    #[arg(long = "set", value_name = "NAME=VALUE")]
    settings: Vec<String>,
    /// A file of JSON lines; - is standard input
    file: PathBuf,
}

pub fn run(arguments: Arguments) -> Result<()> {
    let mut settings = BTreeMap::new();
    for setting in &arguments.settings {
        let (name, value) = setting
            .split_once('=')
            .ok_or_else(|| ConfigError::new(format!("--set {setting}: is not name=value")))?;
        let value = match value.strip_prefix('@') {
            Some(file) => in_file(&format!("--set {name}"), file, Path::new("."))?,
            None => value.to_owned(),
        };
        settings.insert(name.to_owned(), value);
    }
    let producer = Producer::new(&arguments.brokers, &settings)?;
    let mut sent = 0u64;
    for input in open(&[arguments.file])? {
        input.each(&mut Schemas::new(), |_, entry| {
            anyhow::ensure!(
                entry.schema.is_none(),
                "an Avro container cannot be sent; JSON lines can"
            );
            sent += 1;
            producer.send(&arguments.topic, &entry.bytes, None)
        })?;
    }
    producer
        .flush(Duration::from_secs(60))
        .with_context(|| format!("sending to {}", arguments.brokers))?;
    println!("sent {sent} records to {}", arguments.topic);
    Ok(())
}
