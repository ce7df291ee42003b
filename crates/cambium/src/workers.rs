//! What runs on the threads of partitions: each takes records, flushes, and starts again where something else is to be counted.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cambium_clickhouse::is_passing;
use cambium_engine::{Found, Setup, Topic};
use cambium_event::Record;
use cambium_kafka::{Assigner, LogReader, News, PartitionLog, Registry, TopicNow, Worker, is_silence};
use cambium_pipeline::{Log, Owner, Reader, Start, StartError, start};

use crate::Processors;
use crate::config;
use crate::health::{Counted, Health};

/// A start that was waiting when the process was asked to end: nothing was read yet, and nothing is lost.
#[derive(Debug, thiserror::Error)]
#[error("ended while a partition waited for ClickHouse")]
pub(crate) struct Interrupted;

/// Between two tries to reach ClickHouse at a start.
pub(crate) const RETRY: Duration = Duration::from_secs(1);

/// Whether ClickHouse could not be reached, or cannot do just now what it was asked for, as against having said no, or not
/// being who we trust.
pub(crate) fn is_away(error: &anyhow::Error) -> bool {
    // As rustls says it; no library on the way hands its error on as what it is.
    let mut causes = error.chain().map(ToString::to_string);
    let is_stranger = causes.any(|cause| cause.starts_with("invalid peer certificate"));
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref());
    causes.any(is_passing) && !is_stranger
}

/// What the partitions of one topic have of their own.
pub(crate) struct SourceOfTopic {
    pub start: config::Start,
    pub registry: Option<Arc<Registry>>,
}

/// What is to be counted of each topic. It may change while the process runs.
#[derive(Default)]
pub(crate) struct Setups {
    by_topic: Mutex<BTreeMap<String, Setup>>,
    /// How often it changed.
    changes: AtomicU64,
}

impl Setups {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Setup>> {
        self.by_topic
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// From now on this is to be counted of topics.
    pub fn change(&self, setups: BTreeMap<String, Setup>) {
        *self.lock() = setups;
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// What is to be counted of a topic, and which change it came with.
    fn of(&self, topic: &str) -> Result<(Setup, u64)> {
        // Of two changes at once the later one is seen again.
        let change = self.changes.load(Ordering::Acquire);
        let setup = self.lock().get(topic).cloned();
        let setup = setup.with_context(|| format!("topic {topic} is not in the configuration"))?;
        Ok((setup, change))
    }
}

/// The logs of topics, to be read again beside whoever consumes them.
pub(crate) struct KafkaLogs(pub LogReader);

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
pub(crate) struct Owners {
    pub start: Start,
    pub topics: BTreeMap<String, SourceOfTopic>,
    pub setups: Arc<Setups>,
    pub health: Arc<Health>,
    pub runtime: tokio::runtime::Handle,
    pub stop: Arc<AtomicBool>,
    /// The topic whose first partition is had by one process, of all.
    pub first_topic: String,
}

impl Assigner for Owners {
    type Worker = PartitionWorker;

    fn hears(&self, news: News) {
        self.health.hears(news);
    }

    fn begins_at(&self, topic: &str, partition: i32, earliest: i64) {
        let labels = [("topic", topic.to_owned()), ("partition", partition.to_string())];
        metrics::gauge!("cambium_earliest_offset", &labels).set(earliest as f64);
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
        let (setup, change) = self.setups.of(topic)?;
        let with = Start {
            topic: Topic {
                name: topic.to_owned(),
                partition: held.partition,
            },
            setup,
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
        let is_first = held.partition == 0 && self.first_topic == topic;
        Ok(PartitionWorker {
            owner,
            again: Again {
                with,
                waits,
                setups: self.setups.clone(),
                change,
                earliest: held.earliest,
                now: held.now.clone(),
            },
            registry: source.registry.clone(),
            runtime: self.runtime.clone(),
            waiting: None,
            health: self.health.clone(),
            _first: is_first.then(|| self.health.has_first_partition()),
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
                Err(error) if error.is::<StartError>() || !is_away(&error) && !is_silence(&error) => {
                    return Err(error);
                }
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
    setups: Arc<Setups>,
    /// The change that its setup came with.
    change: u64,
    earliest: i64,
    now: TopicNow,
}

pub(crate) struct PartitionWorker {
    owner: Owner<Processors>,
    again: Again,
    registry: Option<Arc<Registry>>,
    runtime: tokio::runtime::Handle,
    /// While the registry is away.
    waiting: Option<WaitsForRegistry>,
    health: Arc<Health>,
    /// Of the first partition.
    _first: Option<Counted>,
}

struct WaitsForRegistry {
    warned_at: Instant,
    /// `/readyz` says so for as long as this lives.
    _said: Counted,
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
            || self.again.change != self.again.setups.changes.load(Ordering::Acquire)
    }

    fn start_again(mut self, end_offset: i64) -> Result<Self> {
        let Again {
            with,
            waits,
            setups,
            change,
            earliest,
            now,
        } = &mut self.again;
        (with.setup, *change) = setups.of(&with.topic.name)?;
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
