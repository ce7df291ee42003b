//! `cambium run`: consume for ever.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use cambium_clickhouse::Client;
use cambium_engine::Setup;
use cambium_kafka::{LogReader, Settings, Source};
use cambium_pipeline::{Generations, Start, counted_generations, show_definitions, show_names};
use clap::Args;

use super::Where;
use crate::Processors;
use crate::changes::Changes;
use crate::config::{Config, ConfigError};
use crate::health::Health;
use crate::http;
use crate::warehouse::Warehouse;
use crate::workers::{Interrupted, KafkaLogs, Owners, RETRY, Setups, SourceOfTopic, is_away};

/// Consume the configured topics for ever.
///
/// Told to by SIGHUP, it takes the configuration again: definitions that are new or changed begin there.
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
    let path = Some(arguments.place.config);
    let consumed = consume((&config, path), start, stop.clone(), health).await;
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
    until_it_is_there(|| async {
        let warehouse = Warehouse::open_for_counting(config, data).await?;
        show(config, &warehouse.client).await?;
        Ok(warehouse)
    })
    .await
}

/// Shows what is configured, under the names that it has there.
pub(super) async fn show(config: &Config, client: &Client) -> Result<()> {
    show_definitions::<Processors>(client, &config.whole_setup()?, config.hash_key()?).await?;
    show_names(client, config.names.renamed()).await
}

/// What is to be counted of each topic, in the generations that are counted.
async fn setups_of(config: &Config, client: &Client) -> Result<BTreeMap<String, Setup>> {
    let mut setups = BTreeMap::new();
    for source in &config.sources {
        let counted = counted_generations(client, &source.topic).await?;
        setups.insert(
            source.topic.clone(),
            in_generations(&config.setup_of(source)?, &counted),
        );
    }
    Ok(setups)
}

/// Takes the configuration again whenever the process is told to (SIGHUP): what is to be counted, and what is shown.
async fn take_changes(path: PathBuf, client: Client, setups: Arc<Setups>) {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let Ok(mut told) = signal(SignalKind::hangup()) else {
            return;
        };
        while told.recv().await.is_some() {
            match take_change(&path, &client).await {
                Ok(changed) => {
                    tracing::info!(
                        "{} is taken again: what is to be counted holds from here on, all else from the next start on",
                        path.display()
                    );
                    setups.change(changed);
                }
                Err(error) => tracing::error!("{error:#}; what was counted before is counted on"),
            }
        }
    }
}

async fn take_change(path: &Path, client: &Client) -> Result<BTreeMap<String, Setup>> {
    let config = Config::read(path)?;
    until_it_is_there(|| show(&config, client)).await?;
    until_it_is_there(|| setups_of(&config, client)).await
}

/// Tries again for as long as ClickHouse is away.
async fn until_it_is_there<T, F: Future<Output = Result<T>>>(what: impl Fn() -> F) -> Result<T> {
    loop {
        match what().await {
            Err(error) if is_away(&error) => {
                tracing::warn!("{error:#}; trying again");
                tokio::time::sleep(RETRY).await;
            }
            done => return done,
        }
    }
}

/// Consumes until `stop` is set; tells what it lacks meanwhile. The configuration is taken again from `path` when the process
/// is told to.
pub async fn consume(
    (config, path): (&Config, Option<PathBuf>),
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
    let setups = Arc::new(Setups::default());
    setups.change(until_it_is_there(|| setups_of(config, &start.held)).await?);
    let mut topics = BTreeMap::new();
    for source in &config.sources {
        let topic = SourceOfTopic {
            start: source.start,
            registry: config.registry(source)?.map(Arc::new),
        };
        topics.insert(source.topic.clone(), topic);
    }
    let taking = path.map(|path| tokio::spawn(take_changes(path, start.held.clone(), setups.clone())));
    let telling = Changes::new(config, &start.held)?;
    let telling = telling.map(|changes| tokio::spawn(changes.tell(health.clone())));
    let owners = Owners {
        start,
        topics,
        setups,
        health,
        first_topic: config
            .sources
            .first()
            .map(|source| source.topic.clone())
            .unwrap_or_default(),
        runtime: tokio::runtime::Handle::current(),
        stop: stop.clone(),
    };
    let consumed = tokio::task::spawn_blocking(move || Source::new(&settings, owners)?.run(&stop)).await;
    for task in taking.into_iter().chain(telling) {
        task.abort();
    }
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
