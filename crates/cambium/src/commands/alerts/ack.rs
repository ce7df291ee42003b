//! `cambium alerts ack` and `cambium alerts silence`: entries in the alerts' journal, which whoever evaluates
//! follows.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use cambium_engine::duration_ms;
use cambium_kafka::JournalWriter;
use cambium_notify::{Entry, Silence};
use clap::Args;

use crate::config::{Config, ConfigError};

/// Say that somebody looks after an alert.
///
/// Example: cambium alerts ack 5f0c2ab1d3e49876 --config cambium.toml
#[derive(Args, Debug)]
pub struct Ack {
    /// The configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The alert's id, as `alerts list` and its messages give it
    id: String,
}

pub async fn ack(arguments: Ack) -> Result<()> {
    let config = Config::read(&arguments.config)?;
    write(&config, &Entry::Acknowledge { id: arguments.id }).await
}

/// Tell nobody of a rule's alerts for a while.
///
/// Example: cambium alerts silence payments --for "2 h" --config cambium.toml
#[derive(Args, Debug)]
pub struct Quieten {
    /// The configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The rule's name; * is every rule
    rule: String,
    /// Of one slice alone, as `alerts list` gives it
    #[arg(long)]
    slice: Option<String>,
    /// For how long; "0 s" ends a silence
    #[arg(long = "for", value_name = "DURATION", default_value = "1 h")]
    lasts: String,
}

pub async fn silence(arguments: Quieten) -> Result<()> {
    let config = Config::read(&arguments.config)?;
    if arguments.rule != "*" && !arguments.rule.starts_with("pipeline: ") {
        config.rule(&arguments.rule)?;
    }
    let lasts_ms =
        duration_ms(&arguments.lasts).map_err(|error| ConfigError::new(format!("--for: {error}")))?;
    let now_ms = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as i64);
    let silence = Silence {
        rule: arguments.rule,
        slice: arguments.slice,
        until: now_ms + lasts_ms,
    };
    write(&config, &Entry::Silence(silence)).await
}

async fn write(config: &Config, entry: &Entry) -> Result<()> {
    let writer = JournalWriter::open(&config.alerts_journal()?)?;
    writer.append(&entry.key(), &serde_json::to_vec(entry)?).await?;
    Ok(())
}
