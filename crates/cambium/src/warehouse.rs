//! The ClickHouse of a command: the user's own, or the embedded engine on the data directory.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use cambium_clickhouse::embedded::{ADDRESS_FILE, Child};
use cambium_clickhouse::{Client, Writer, keep, migrate};
use cambium_engine::Topic;
use cambium_pipeline::{Rhythm, Start};
use cambium_snapshots::Store;

use crate::config::{Config, ConfigError};

/// A client, with the engine that it needs, if that is embedded.
pub struct Warehouse {
    pub client: Client,
    /// Ends with this, if it is our own.
    _engine: Option<Arc<Mutex<Engine>>>,
}

/// The embedded engine that a process uses.
enum Engine {
    Own(Child),
    /// Of a process that was there first, at this address.
    Anothers(SocketAddr),
}

/// Between two looks at the engine.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// An engine that is there answers a small question within this time.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

impl Engine {
    /// What to say when it has ended.
    fn end(&mut self) -> Option<&'static str> {
        match self {
            Engine::Own(child) => child
                .has_ended()
                .then_some("the embedded ClickHouse engine ended by itself; start again to go on"),
            // However busy it is, the system takes connections for it until it is gone.
            Engine::Anothers(address) => is_refused(address).then_some(
                "the process whose embedded ClickHouse engine this one used has ended, and the engine with it; start \
                 again to go on with an engine of its own. For engines that outlive a process: cambium clickhouse",
            ),
        }
    }
}

fn is_refused(address: &SocketAddr) -> bool {
    TcpStream::connect_timeout(address, LOOK_EVERY)
        .is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

/// Without its engine a process would wait for ever: it ends, and goes on from its snapshot when it is
/// started again.
fn watch(engine: Engine) -> Arc<Mutex<Engine>> {
    let engine = Arc::new(Mutex::new(engine));
    let watched = Arc::downgrade(&engine);
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(LOOK_EVERY);
            let Some(engine) = watched.upgrade() else { return };
            let end = engine.lock().ok().and_then(|mut engine| engine.end());
            if let Some(end) = end {
                tracing::error!("{end}");
                std::process::exit(1);
            }
        }
    });
    engine
}

impl Warehouse {
    /// The configured server; or the engine that already serves the directory; or one of our own.
    pub async fn open(config: &Config, data: &Path) -> Result<Warehouse> {
        let password = config.clickhouse_password()?;
        let (url, engine) = match &config.clickhouse.url {
            Some(url) => (url.clone(), None),
            None => embedded(&data.join("clickhouse")).await?,
        };
        let clickhouse = &config.clickhouse;
        let client = Client::new(&url, &clickhouse.user, password.as_deref(), &clickhouse.database)
            .on_cluster(clickhouse.cluster.as_deref());
        Ok(Warehouse {
            client,
            _engine: engine.map(watch),
        })
    }

    /// Where snapshots live.
    pub fn store(config: &Config, data: &Path) -> Result<Store> {
        match &config.snapshots.url {
            Some(url) => Ok(Store::url(url).map_err(|error| ConfigError::new(format!("{error:#}")))?),
            None => Store::directory(&data.join("snapshots")),
        }
    }

    /// The server, whether or not it has the database yet.
    pub fn server(&self) -> Client {
        self.client.clone().in_no_database()
    }

    /// What the partitions of a topic are started with; the topic is each one's own.
    pub fn start(&self, config: &Config, data: &Path, accept_gap: bool) -> Result<Start> {
        Ok(Start {
            topic: Topic {
                name: String::new(),
                partition: 0,
            },
            setup: config.whole_setup()?,
            key: config.hash_key()?,
            store: Warehouse::store(config, data)?,
            keep: config.snapshots.keep,
            held: self.client.clone(),
            writer: Writer::start(self.client.clone()),
            rhythm: Rhythm {
                snapshot: Duration::from_millis(config.snapshots.every.0.unsigned_abs()),
                ..Rhythm::default()
            },
            accept_gap,
            reader: None,
        })
    }

    /// The same, with rows held for as long as the configuration says.
    pub async fn open_for_counting(config: &Config, data: &Path) -> Result<Warehouse> {
        let warehouse = Warehouse::open_for_writing(config, data).await?;
        keep(&warehouse.client, &config.keep()).await?;
        Ok(warehouse)
    }

    /// The same as `open`, with its tables and views as this release has them.
    pub async fn open_for_writing(config: &Config, data: &Path) -> Result<Warehouse> {
        let warehouse = Warehouse::open(config, data).await?;
        migrate(&warehouse.client).await?;
        Ok(warehouse)
    }
}

async fn embedded(directory: &Path) -> Result<(String, Option<Engine>)> {
    if let Ok(url) = std::fs::read_to_string(directory.join(ADDRESS_FILE))
        && let Some(address) = url.strip_prefix("http://").and_then(|text| text.parse().ok())
        && answers(&url).await
    {
        return Ok((url, Some(Engine::Anothers(address))));
    }
    let executable = std::env::current_exe().context("cannot find this program's own file")?;
    let directory = directory.to_owned();
    let child = tokio::task::spawn_blocking(move || Child::start(&executable, &directory)).await??;
    Ok((child.url().to_owned(), Some(Engine::Own(child))))
}

/// Whether an engine is there; an address may be left of one that is gone, and be another program's now.
async fn answers(url: &str) -> bool {
    let client = Client::new(url, "default", None, "default");
    let asked = tokio::time::timeout(ANSWER_WITHIN, client.fetch("SELECT 1", "TSV"));
    matches!(asked.await, Ok(Ok(answer)) if answer == b"1\n")
}
