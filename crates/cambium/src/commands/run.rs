//! `cambium run`: consume for ever.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cambium_clickhouse::is_passing;
use cambium_engine::{Found, Setup, Topic};
use cambium_event::Record;
use cambium_kafka::{Assigner, LogReader, News, PartitionLog, Registry, Settings, Source, TopicNow, Worker};
use cambium_pipeline::{
    Generations, Log, Owner, Reader, Start, StartError, counted_generations, show_definitions, start,
};
use clap::Args;

use super::Where;
use crate::Processors;
use crate::config::{self, Config, ConfigError};
use crate::health::{Health, Waiting};
use crate::http;
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
    if config.sources.is_empty() {
        let text = "there is no [[source]] in the configuration: nothing to consume";
        return Err(ConfigError::new(text.to_owned()).into());
    }
    let stop = Arc::new(AtomicBool::new(false));
    let health = Arc::new(Health::default());
    let asked = health.clone();
    http::serve(&config.http.listen, move || asked.missing()).await?;
    let warehouse = tokio::select! {
        opened = open(&config, &arguments.place.data) => opened?,
        () = super::interrupted() => return Ok(()),
    };
    let watched = stop.clone();
    tokio::spawn(async move {
        super::interrupted().await;
        watched.store(true, Ordering::Relaxed);
        tracing::info!("ending: what was read is written first; once more, and it ends at once");
        super::interrupted().await;
        // Nothing is lost: what was not acknowledged is read again at the next start.
        std::process::exit(130);
    });
    let start = warehouse.start(&config, &arguments.place.data, arguments.accept_gap)?;
    let watching = config.alerts.on.then(|| config.watching()).transpose()?;
    let watching = watching.map(|watching| {
        tokio::spawn(cambium_notify::run(
            watching,
            warehouse.client.clone(),
            stop.clone(),
            Arc::default(),
        ))
    });
    let consumed = consume(&config, start, stop.clone(), health).await;
    stop.store(true, Ordering::Relaxed);
    if let Some(watching) = watching
        && let Err(error) = watching.await.context("the alerts ended")?
    {
        tracing::warn!("alerts: {error:#}");
    }
    consumed
}

/// ClickHouse with its tables, and the configured definitions shown; waits for a server that is away.
pub(super) async fn open(config: &Config, data: &std::path::Path) -> Result<Warehouse> {
    loop {
        let opened = async {
            let warehouse = Warehouse::open_for_counting(config, data).await?;
            show_definitions::<Processors>(&warehouse.client, &config.setup, config.hash_key()?).await?;
            Ok(warehouse)
        };
        match opened.await {
            Err(error) if is_away(&error) => {
                tracing::warn!("{error:#}; trying again");
                tokio::time::sleep(RETRY).await;
            }
            opened => return opened,
        }
    }
}

/// Consumes until `stop` is set; tells what it lacks meanwhile.
pub async fn consume(
    config: &Config,
    start: Start,
    stop: Arc<AtomicBool>,
    health: Arc<Health>,
) -> Result<()> {
    health.watches(start.writer.status().clone(), start.store.clone());
    let settings = kafka(config)?;
    let start = Start {
        reader: Some(Arc::new(KafkaLogs(LogReader::new(&settings)))),
        ..start
    };
    let mut topics = BTreeMap::new();
    for source in &config.sources {
        let topic = SourceOfTopic {
            setup: in_generations(
                &config.setup_of(source)?,
                &counted_generations(&start.held, &source.topic).await?,
            ),
            start: source.start,
            registry: config.registry(source)?.map(Arc::new),
        };
        topics.insert(source.topic.clone(), topic);
    }
    let owners = Owners {
        start,
        topics,
        health,
        runtime: tokio::runtime::Handle::current(),
        stop: stop.clone(),
    };
    let consumed = tokio::task::spawn_blocking(move || Source::new(&settings, owners)?.run(&stop)).await;
    match consumed.context("consuming ended")? {
        Err(error) if error.chain().any(|cause| cause.is::<Interrupted>()) => Ok(()),
        consumed => consumed,
    }
}

/// How Kafka is reached, as the configuration says.
pub(super) fn kafka(config: &Config) -> Result<Settings> {
    let settings = Settings {
        brokers: config.kafka.brokers.clone(),
        group: config.kafka.group.clone(),
        topics: config.sources.iter().map(|source| source.topic.clone()).collect(),
        settings: config.kafka_settings()?,
    };
    settings
        .check()
        .map_err(|error| ConfigError::new(format!("{error:#}")))?;
    Ok(settings)
}

/// The definitions in the generations that are counted.
pub(super) fn in_generations(setup: &Setup, counted: &Generations) -> Setup {
    setup.in_generations(|spec| counted.get(&(spec.kind.clone(), spec.name.clone())).copied())
}

/// A start that was waiting when the process was asked to end: nothing was read yet, and nothing is lost.
#[derive(Debug, thiserror::Error)]
#[error("ended while a partition waited for ClickHouse")]
struct Interrupted;

/// Between two tries to reach ClickHouse at a start.
const RETRY: Duration = Duration::from_secs(1);

/// Whether ClickHouse could not be reached, or cannot do just now what it was asked for, as against having said no, or not
/// being who we trust.
fn is_away(error: &anyhow::Error) -> bool {
    // As rustls says it; no library on the way hands its error on as what it is.
    let mut causes = error.chain().map(ToString::to_string);
    let is_stranger = causes.any(|cause| cause.starts_with("invalid peer certificate"));
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref());
    causes.any(is_passing) && !is_stranger
}

/// What the partitions of one topic have of their own.
struct SourceOfTopic {
    setup: Setup,
    start: config::Start,
    registry: Option<Arc<Registry>>,
}

/// The logs of topics, to be read again beside whoever consumes them.
pub(super) struct KafkaLogs(pub LogReader);

impl Reader for KafkaLogs {
    fn read(
        &self,
        topic: &Topic,
        offsets: Range<i64>,
        take: &mut dyn FnMut(&[Record<'_>]) -> Result<()>,
    ) -> Result<()> {
        self.0.read(&topic.name, topic.partition, offsets, take)
    }
}

/// Makes the owners of partitions as they are assigned.
struct Owners {
    start: Start,
    topics: BTreeMap<String, SourceOfTopic>,
    health: Arc<Health>,
    runtime: tokio::runtime::Handle,
    stop: Arc<AtomicBool>,
}

impl Assigner for Owners {
    type Worker = PartitionWorker;

    fn hears(&self, news: News) {
        self.health.hears(news);
    }

    fn start(&mut self, held: &PartitionLog<'_>) -> Result<PartitionWorker> {
        let topic = held.topic;
        let source = self
            .topics
            .get(topic)
            .with_context(|| format!("topic {topic} is not in the configuration"))?;
        let first = match source.start {
            config::Start::Latest => held.end,
            config::Start::Earliest => held.earliest,
        };
        let with = Start {
            topic: Topic {
                name: topic.to_owned(),
                partition: held.partition,
            },
            setup: source.setup.clone(),
            ..self.start.clone()
        };
        let log = Log {
            earliest: held.earliest,
            end: held.end,
            first,
            id: held.now.id.as_deref(),
            partitions: held.now.partitions,
            look: &|offset| held.look(offset),
        };
        let waits = Waits {
            runtime: self.runtime.clone(),
            stop: self.stop.clone(),
        };
        let owner = waits.start(&with, log)?;
        self.health.has_partitions();
        Ok(PartitionWorker {
            owner,
            again: Again {
                with,
                waits,
                earliest: held.earliest,
                now: held.now.clone(),
            },
            registry: source.registry.clone(),
            runtime: self.runtime.clone(),
            waiting: None,
            health: self.health.clone(),
        })
    }
}

/// Starts partitions, and waits for a server that is away.
#[derive(Clone)]
struct Waits {
    runtime: tokio::runtime::Handle,
    stop: Arc<AtomicBool>,
}

impl Waits {
    fn start(&self, with: &Start, log: Log<'_>) -> Result<Owner<Processors>> {
        loop {
            match self.runtime.block_on(start(with.clone(), log)) {
                Ok(owner) => return Ok(owner),
                // What only a person can decide ends the program; a server that is away comes back.
                Err(error) if error.is::<StartError>() || !is_away(&error) => return Err(error),
                Err(_) if self.stop.load(Ordering::Relaxed) => return Err(Interrupted.into()),
                Err(error) => {
                    tracing::warn!("{error:#}; trying again");
                    std::thread::sleep(RETRY);
                }
            }
        }
    }
}

/// What a partition is started with once more.
struct Again {
    with: Start,
    waits: Waits,
    earliest: i64,
    now: TopicNow,
}

struct PartitionWorker {
    owner: Owner<Processors>,
    again: Again,
    registry: Option<Arc<Registry>>,
    runtime: tokio::runtime::Handle,
    /// While the registry is away.
    waiting: Option<WaitsForRegistry>,
    health: Arc<Health>,
}

struct WaitsForRegistry {
    warned_at: Instant,
    /// `/readyz` says so for as long as this lives.
    _said: Waiting,
}

/// Between two warnings of the same kind.
const WARN_EVERY: Duration = Duration::from_secs(10);

impl PartitionWorker {
    /// Answers what a record's schema is; false while the registry is away.
    fn answer(&mut self, id: u32) -> Result<bool> {
        let asked = match &self.registry {
            Some(registry) => self.runtime.block_on(registry.schema(id)),
            None => Ok(None),
        };
        match asked {
            Ok(schema) => {
                self.waiting = None;
                self.owner.answer(id, schema)?;
                Ok(true)
            }
            Err(error) => {
                let warned_at = self.waiting.as_ref().map(|waiting| waiting.warned_at);
                if warned_at.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
                    self.waiting = Some(WaitsForRegistry {
                        warned_at: Instant::now(),
                        _said: self.health.waits_for_registry(),
                    });
                    tracing::warn!("{error:#}; reading waits for it");
                }
                Ok(false)
            }
        }
    }
}

impl Worker for PartitionWorker {
    fn position(&self) -> i64 {
        self.owner.partition().position()
    }

    fn wants_headers(&self) -> bool {
        self.owner.wants_headers()
    }

    fn apply(&mut self, records: &[Record<'_>]) -> Result<usize> {
        let mut taken = 0;
        while taken < records.len() {
            let applied = self.owner.apply_all(&records[taken..])?;
            taken += applied.records;
            if applied.wants_past {
                self.runtime.block_on(self.owner.take_past())?;
            }
            if let Some(id) = applied.wants_schema
                && !self.answer(id)?
            {
                break;
            }
        }
        Ok(taken)
    }

    fn tick(&mut self, end_offset: i64) -> Result<i64> {
        self.owner.tick(end_offset)?;
        Ok(self.owner.acknowledged())
    }

    fn is_full(&self) -> bool {
        self.owner.is_full()
    }

    fn wants_to_start_again(&self) -> bool {
        self.owner.wants_to_start_again()
    }

    fn start_again(self, end_offset: i64) -> Result<Self> {
        let Again {
            with,
            waits,
            earliest,
            now,
        } = &self.again;
        let position = self.owner.finish()?.position();
        let log = Log {
            earliest: *earliest,
            end: end_offset.max(position),
            // It is not the first start.
            first: position,
            id: now.id.as_deref(),
            partitions: now.partitions,
            // It is the log that was read until now.
            look: &|_| Ok(Found::Unknown),
        };
        let owner = waits.start(with, log)?;
        Ok(PartitionWorker { owner, ..self })
    }

    fn finish(self) -> Result<i64> {
        Ok(self.owner.finish()?.position())
    }
}
