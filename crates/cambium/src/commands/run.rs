//! `cambium run`: consume for ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use cambium_engine::Topic;
use cambium_event::Record;
use cambium_kafka::{Assigner, Settings, Source, Worker};
use cambium_pipeline::{Log, Owner, Start, StartError, start};
use clap::Args;

use super::Where;
use crate::Processors;
use crate::config::{self, Config};
use crate::warehouse::Warehouse;

/// Consume the configured topics for ever.
///
/// Example: cambium run --config cambium.toml
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    place: Where,
    /// Go on where records are lost, and leave a row in `gaps` that says so
    #[arg(long)]
    accept_gap: bool,
}

pub async fn run(arguments: Arguments) -> Result<()> {
    let config = Config::read(&arguments.place.config)?;
    let warehouse = loop {
        match Warehouse::open_for_writing(&config, &arguments.place.data).await {
            Err(error) if is_away(&error) => {
                tracing::warn!("{error:#}; trying again");
                tokio::time::sleep(RETRY).await;
            }
            opened => break opened?,
        }
    };
    let stop = Arc::new(AtomicBool::new(false));
    let watched = stop.clone();
    tokio::spawn(async move {
        super::interrupted().await;
        watched.store(true, Ordering::Relaxed);
    });
    consume(
        &config,
        &arguments.place.data,
        &warehouse,
        arguments.accept_gap,
        stop,
    )
    .await
}

/// Consumes until `stop` is set.
pub async fn consume(
    config: &Config,
    data: &std::path::Path,
    warehouse: &Warehouse,
    accept_gap: bool,
    stop: Arc<AtomicBool>,
) -> Result<()> {
    let owners = Owners {
        start: warehouse.start(config, data, accept_gap)?,
        sources: config.sources.clone(),
        runtime: tokio::runtime::Handle::current(),
    };
    let settings = Settings {
        brokers: config.kafka.brokers.clone(),
        group: config.kafka.group.clone(),
        topics: config.sources.iter().map(|source| source.topic.clone()).collect(),
        settings: config.kafka.settings.clone(),
    };
    anyhow::ensure!(
        !settings.topics.is_empty(),
        "there is no [[source]] in the configuration: nothing to consume"
    );
    tokio::task::spawn_blocking(move || Source::new(&settings, owners)?.run(&stop))
        .await
        .context("consuming ended")?
}

/// Between two tries to reach ClickHouse at a start.
const RETRY: Duration = Duration::from_secs(1);

/// Whether ClickHouse could not be reached, as against having said no.
fn is_away(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        matches!(
            cause.downcast_ref::<cambium_clickhouse::ClientError>(),
            Some(cambium_clickhouse::ClientError::Network(_) | cambium_clickhouse::ClientError::TimedOut)
        )
    })
}

/// Makes the owners of partitions as they are assigned.
struct Owners {
    start: Start,
    sources: Vec<config::Source>,
    runtime: tokio::runtime::Handle,
}

impl Assigner for Owners {
    type Worker = PartitionWorker;

    fn start(&mut self, topic: &str, partition: i32, earliest: i64, end: i64) -> Result<PartitionWorker> {
        let source = self.sources.iter().find(|source| source.topic == topic);
        let first = match source.map(|source| source.start) {
            Some(config::Start::Latest) => end,
            _ => earliest,
        };
        let with = Start {
            topic: Topic {
                name: topic.to_owned(),
                partition,
            },
            ..self.start.clone()
        };
        let log = Log { earliest, end, first };
        loop {
            match self.runtime.block_on(start(with.clone(), log)) {
                Ok(owner) => return Ok(PartitionWorker { owner }),
                // What only a person can decide ends the program; a server that is away comes back.
                Err(error) if error.is::<StartError>() || !is_away(&error) => return Err(error),
                Err(error) => {
                    tracing::warn!("{error:#}; trying again");
                    std::thread::sleep(RETRY);
                }
            }
        }
    }
}

struct PartitionWorker {
    owner: Owner<Processors>,
}

impl Worker for PartitionWorker {
    fn position(&self) -> i64 {
        self.owner.partition().position()
    }

    fn apply(&mut self, record: &Record<'_>) -> Result<()> {
        // What was read before a queue was set back is not read twice.
        if record.offset < self.owner.partition().position() {
            return Ok(());
        }
        self.owner.apply(record).map(|_| ())
    }

    fn tick(&mut self, end_offset: i64) -> Result<i64> {
        self.owner.tick(end_offset)?;
        Ok(self.owner.acknowledged())
    }

    fn is_full(&self) -> bool {
        self.owner.is_full()
    }

    fn finish(self) -> Result<i64> {
        Ok(self.owner.finish()?.position())
    }
}
