//! The ClickHouse of a command: the user's own, or the embedded engine on the data directory.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use cambium_clickhouse::embedded::{ADDRESS_FILE, Child};
use cambium_clickhouse::{Client, Writer, keep, migrate};
use cambium_engine::Topic;
use cambium_pipeline::{Rhythm, Start};
use cambium_snapshots::Store;

use crate::config::Config;

/// A client, with the engine that it needs, if that runs for us.
pub struct Warehouse {
    pub client: Client,
    /// Ends with this.
    _engine: Option<Arc<Mutex<Child>>>,
}

/// Between two looks at the engine.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Without its engine a process would wait for ever: it ends, and goes on from its snapshot when it is
/// started again.
fn watch(engine: Child) -> Arc<Mutex<Child>> {
    let engine = Arc::new(Mutex::new(engine));
    let watched = Arc::downgrade(&engine);
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(LOOK_EVERY);
            let Some(engine) = watched.upgrade() else { return };
            if engine.lock().is_ok_and(|mut engine| engine.has_ended()) {
                tracing::error!("the embedded ClickHouse engine ended by itself; start again to go on");
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
            Some(url) => Store::url(url),
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
            setup: config.setup.clone(),
            key: config.hash_key()?,
            store: Warehouse::store(config, data)?,
            keep: config.snapshots.keep,
            client: self.client.clone(),
            writer: Writer::start(self.client.clone()),
            rhythm: Rhythm {
                snapshot: Duration::from_millis(config.snapshots.every.0.unsigned_abs()),
                ..Rhythm::default()
            },
            accept_gap,
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

async fn embedded(directory: &Path) -> Result<(String, Option<Child>)> {
    if let Ok(url) = std::fs::read_to_string(directory.join(ADDRESS_FILE))
        && Client::new(&url, "default", None, "default")
            .fetch("SELECT 1", "TSV")
            .await
            .is_ok()
    {
        return Ok((url, None));
    }
    let executable = std::env::current_exe().context("cannot find this program's own file")?;
    let directory = directory.to_owned();
    let child = tokio::task::spawn_blocking(move || Child::start(&executable, &directory)).await??;
    Ok((child.url().to_owned(), Some(child)))
}
