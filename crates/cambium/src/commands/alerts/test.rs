//! `cambium alerts test`: a message for real.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use cambium_notify::{Message, Said, send};
use clap::Args;

use crate::config::Config;

/// Send a test message through a channel, for real: firing, then resolved.
///
/// Example: cambium alerts test ops --config cambium.toml
#[derive(Args, Debug)]
pub struct Arguments {
    /// The configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The channel's name
    channel: String,
}

const PATIENCE: Duration = Duration::from_secs(15);

pub async fn run(arguments: Arguments) -> Result<()> {
    let config = Config::read(&arguments.config)?;
    let channel = config.channel(&arguments.channel)?;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as i64);
    let firing = Message {
        id: format!("test-{now}"),
        rule: "test".to_owned(),
        state: Said::Firing,
        severity: "info".to_owned(),
        metric: "a test of this channel; nothing is wrong".to_owned(),
        slice: String::new(),
        value: Some(12.0),
        expected: Some(200.0),
        low: Some(150.0),
        high: Some(250.0),
        started_at: now - 60_000,
        detected_at: now,
        resolved_at: None,
        link: config.alerts.link.clone(),
        evidence: cambium_alerts::Evidence::default(),
    };
    let resolved = Message {
        state: Said::Resolved,
        resolved_at: Some(now),
        ..firing.clone()
    };
    for message in [firing, resolved] {
        send(&channel, &message, PATIENCE).await?;
    }
    println!("sent two messages through {}", arguments.channel);
    Ok(())
}
