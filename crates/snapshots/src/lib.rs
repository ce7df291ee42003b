//! Where snapshots live: a directory, or an object store.
//!
//! A partition's snapshots are a chain: a full one, then changes, each naming the one before it. The
//! newest whose whole chain is there and whole wins; one that is torn or lost costs replay, never
//! numbers. Beside them lies the journal: at which offset which setup came into force, and what a registry had answered;
//! and which topic was counted, since a name may come to mean another.

mod chain;
mod merge;
mod part;

use std::io::{Seek, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use bytes::Bytes;
use cambium_engine::{Setup, Topic};
use cambium_event::SchemaText;
use fail::fail_point;
use futures::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{GetResult, GetResultPayload, ObjectStore, ObjectStoreExt, PutPayload};
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, SemaphorePermit};

pub use chain::{Broken, Loaded, Publication, Snapshots};

/// Something that is not in the log, and the offset from which on it holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    pub offset: i64,
    pub epoch: u16,
    #[serde(flatten)]
    pub change: Change,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    Setup(Box<Setup>),
    /// A setup of whose definitions some begin with what was counted of them beside up to there, and the file that holds
    /// that.
    Past {
        setup: Box<Setup>,
        state: String,
    },
    /// What a registry answered for a schema id; no schema: it does not know it.
    Schema {
        id: u32,
        schema: Option<SchemaText>,
    },
}

impl std::fmt::Display for Change {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Change::Setup(_) => out.write_str("another setup comes into force"),
            Change::Past { .. } => out.write_str("definitions are given their past"),
            Change::Schema { id, schema: Some(_) } => write!(out, "schema {id} is known"),
            Change::Schema { id, schema: None } => {
                write!(
                    out,
                    "the registry does not know schema {id}: its records are rejected"
                )
            }
        }
    }
}

impl Entry {
    pub fn setup(&self) -> Option<&Setup> {
        match &self.change {
            Change::Setup(setup) | Change::Past { setup, .. } => Some(setup),
            Change::Schema { .. } => None,
        }
    }
}

/// A topic as it was counted: one that is created again has another id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Creation {
    pub epoch: u16,
    /// None where the broker gives none.
    pub id: Option<String>,
    pub partitions: usize,
}

/// What was counted beside of some definitions, and is to be taken over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Made {
    pub epoch: u16,
    /// All records before it are counted.
    pub counted: i64,
    /// What is to be counted from there on.
    pub setup: Setup,
}

/// What is being counted beside for a topic, to be gone on with where it was cut off.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub setup: Setup,
    /// Which of its definitions, by kind and name.
    pub only: Vec<(String, String)>,
    /// Where each partition's log began.
    pub begun: Vec<i64>,
    /// The files that come in front of it, by their digests.
    #[serde(default)]
    pub files: Vec<String>,
}

/// The place of all partitions' snapshots.
#[derive(Clone)]
pub struct Store {
    store: Arc<dyn ObjectStore>,
    prefix: Key,
    /// The last write did not succeed.
    is_failing: Arc<AtomicBool>,
    /// Whose turn it is to merge a chain.
    merging: Arc<Semaphore>,
}

/// A file that comes over the network waits on disk where it is larger.
const IN_MEMORY: usize = 4 << 20;

/// What a write meets where the tests want that: while a file is there, the disk is full.
fn disk_full() -> Option<object_store::Error> {
    fail_point!("disk-full", |sign| {
        let is_full = sign.is_some_and(|sign| Path::new(&sign).exists());
        is_full.then(|| object_store::Error::Generic {
            store: "LocalFileSystem",
            source: std::io::Error::from(std::io::ErrorKind::StorageFull).into(),
        })
    });
    None
}

impl Store {
    /// A directory on this machine; it is created.
    pub fn directory(path: &Path) -> Result<Store> {
        std::fs::create_dir_all(path).with_context(|| format!("cannot create {}", path.display()))?;
        let store = LocalFileSystem::new_with_prefix(path)
            .with_context(|| format!("cannot keep snapshots in {}", path.display()))?
            .with_fsync(true);
        Ok(Store::new(Arc::new(store)))
    }

    /// An object store of any kind.
    pub fn new(store: Arc<dyn ObjectStore>) -> Store {
        Store {
            store,
            prefix: Key::default(),
            is_failing: Arc::default(),
            merging: Arc::new(Semaphore::new(1)),
        }
    }

    /// `s3://bucket/prefix` or `file:///directory`. Credentials come from the environment, as for AWS's own tools.
    pub fn url(url: &str) -> Result<Store> {
        let parsed = url::Url::parse(url).with_context(|| format!("[snapshots] url: '{url}' is no URL"))?;
        if parsed.scheme() == "file" {
            return Store::directory(Path::new(parsed.path()));
        }
        let environment = std::env::vars().filter(|(name, _)| name.starts_with("AWS_"));
        let options = environment.map(|(name, value)| (name.to_lowercase(), value));
        let (store, prefix) = object_store::parse_url_opts(&parsed, options).with_context(|| {
            format!("[snapshots] url: '{url}' is no place for snapshots; s3://bucket/prefix is")
        })?;
        Ok(Store {
            prefix,
            ..Store::new(Arc::from(store))
        })
    }

    /// Where that is kept which is counted beside, until it is taken over. No topic has such a name.
    pub fn beside(&self) -> Store {
        Store {
            prefix: self.prefix.clone().join("~past"),
            ..self.clone()
        }
    }

    /// Where what was taken over is kept for as long as a start may have to take it over again.
    pub fn taken(&self) -> Store {
        Store {
            prefix: self.prefix.clone().join("~taken"),
            ..self.clone()
        }
    }

    fn plan_key(&self, topic: &str) -> Key {
        self.beside().prefix.join(topic).join("plan.json")
    }

    /// What is being counted beside for a topic; one that cannot be read is none.
    pub async fn plan(&self, topic: &str) -> Result<Option<Plan>> {
        let bytes = self.get(&self.plan_key(topic)).await?;
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    /// Writes down what is to be counted beside; or, with nothing, that it is done.
    pub async fn write_plan(&self, topic: &str, plan: Option<&Plan>) -> Result<()> {
        match plan {
            Some(plan) => self.put(&self.plan_key(topic), serde_json::to_vec(plan)?).await,
            None => self.delete(&self.plan_key(topic)).await,
        }
    }

    fn forgotten_key(&self) -> Key {
        self.prefix.clone().join("forgotten.json")
    }

    /// The users who are to be forgotten, sorted.
    ///
    /// # Errors
    /// Where the list cannot be read: nobody counts on as if there were none.
    pub async fn forgotten(&self) -> Result<Vec<u64>> {
        let key = self.forgotten_key();
        match self.get(&key).await? {
            None => Ok(Vec::new()),
            Some(bytes) => chain::decoded(&bytes).with_context(|| {
                format!("{key}, the list of users to be forgotten, cannot be read; write it anew with `cambium forget`")
            }),
        }
    }

    /// Writes down that users are to be forgotten, beside those who are already. To be called by one at a time.
    pub async fn forget(&self, users: &[u64]) -> Result<()> {
        let key = self.forgotten_key();
        let mut all = self.forgotten().await.unwrap_or_default();
        all.extend(users);
        all.sort_unstable();
        all.dedup();
        let bytes = chain::encoded(&all)?;
        self.put(&key, bytes.clone()).await?;
        let found = self.get(&key).await?;
        anyhow::ensure!(
            found.as_deref() == Some(bytes.as_slice()),
            "{key} is not what was written to it"
        );
        Ok(())
    }

    /// The partitions that were ever counted, in their order.
    pub async fn topics(&self) -> Result<Vec<Topic>> {
        let found: Vec<_> = self
            .store
            .list(Some(&self.prefix))
            .try_collect()
            .await
            .context("cannot list snapshots")?;
        let topic = |location: &Key| {
            let parts: Vec<_> = location.prefix_match(&self.prefix)?.collect();
            match parts.as_slice() {
                [name, partition, file] if file.as_ref() == chain::JOURNAL => Some(Topic {
                    name: name.as_ref().to_owned(),
                    partition: partition.as_ref().parse().ok()?,
                }),
                _ => None,
            }
        };
        let mut topics: Vec<Topic> = found.iter().filter_map(|one| topic(&one.location)).collect();
        topics.sort();
        Ok(topics)
    }

    /// The topics of which something is being counted beside.
    pub async fn planned(&self) -> Result<Vec<String>> {
        let mut planned = Vec::new();
        for topic in self
            .topics()
            .await?
            .into_iter()
            .map(|topic| topic.name)
            .collect::<std::collections::BTreeSet<_>>()
        {
            if self.plan(&topic).await?.is_some() {
                planned.push(topic);
            }
        }
        Ok(planned)
    }

    /// The snapshots of one partition; the last `keep` are kept.
    pub fn partition(&self, topic: &Topic, keep: usize) -> Snapshots {
        let key = self
            .prefix
            .clone()
            .join(topic.name.as_str())
            .join(topic.partition.to_string());
        Snapshots::new(self.clone(), key, keep.max(1))
    }

    /// Whether snapshots can be written and read here.
    pub async fn check(&self) -> Result<()> {
        let key = self.prefix.clone().join("check");
        self.put(&key, b"cambium check".to_vec()).await?;
        let found = self.get(&key).await?;
        self.delete(&key).await?;
        anyhow::ensure!(found.is_some(), "what was written to {key} cannot be read");
        Ok(())
    }

    /// Whether nothing can be written here at present.
    pub fn is_failing(&self) -> bool {
        self.is_failing.load(Ordering::Relaxed)
    }

    async fn turn_to_merge(&self) -> Result<SemaphorePermit<'_>> {
        Ok(self.merging.acquire().await?)
    }

    async fn put(&self, key: &Key, bytes: impl Into<PutPayload>) -> Result<()> {
        let put = match disk_full() {
            Some(full) => Err(full),
            None => self.store.put(key, bytes.into()).await,
        };
        self.is_failing.store(put.is_err(), Ordering::Relaxed);
        put.map(|_| ())
            .with_context(|| format!("cannot write snapshot {key}"))
    }

    /// None where there is nothing.
    async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        match self.store.get(key).await {
            Ok(found) => {
                let bytes = found
                    .bytes()
                    .await
                    .with_context(|| format!("cannot read snapshot {key}"))?;
                Ok(Some(bytes))
            }
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read snapshot {key}")),
        }
    }

    /// The same as a file, which is not held in memory where it is large; none where there is nothing.
    async fn file(&self, key: &Key) -> Result<Option<Box<dyn part::Held>>> {
        let reading = async {
            let mut bytes = match self.store.get(key).await? {
                GetResult {
                    payload: GetResultPayload::File(file, _),
                    ..
                } => return anyhow::Ok(Box::new(file) as Box<dyn part::Held>),
                found => found.into_stream(),
            };
            let mut file = tempfile::spooled_tempfile(IN_MEMORY);
            while let Some(some) = bytes.try_next().await? {
                file.write_all(&some)?;
            }
            file.rewind()?;
            Ok(Box::new(file))
        };
        match reading.await {
            Ok(file) => Ok(Some(file)),
            Err(error) if matches!(error.downcast_ref(), Some(object_store::Error::NotFound { .. })) => {
                Ok(None)
            }
            Err(error) => Err(error).with_context(|| format!("cannot read snapshot {key}")),
        }
    }

    async fn list(&self, prefix: &Key) -> Result<Vec<String>> {
        let found: Vec<_> = self
            .store
            .list(Some(prefix))
            .try_collect()
            .await
            .with_context(|| format!("cannot list snapshots under {prefix}"))?;
        let mut names: Vec<String> = found
            .iter()
            .filter_map(|one| one.location.filename().map(str::to_owned))
            .collect();
        names.sort();
        Ok(names)
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        match self.store.delete(key).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("cannot delete snapshot {key}")),
        }
    }
}
