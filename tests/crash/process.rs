//! A process: a runtime with a clock of its own, one writer, and owners of partitions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use cambium::Processors;
use cambium_clickhouse::Writer;
use cambium_engine::{HashKey, Setup, Topic};
use cambium_pipeline::{Counting, Log as Held, Owner, Rhythm, Start, start};
use cambium_snapshots::Store;
use tokio::runtime::{Builder, Runtime};

use super::clickhouse::ClickHouse;
use super::log::Log;

/// What a schedule's processes are started with.
#[derive(Clone)]
pub struct Settings {
    pub few: usize,
    pub users_at_a_time: usize,
    pub keep: usize,
    /// As a new broker; from an old one, records have to tell.
    pub has_topic_ids: bool,
}

pub struct Process {
    pub owners: BTreeMap<i32, Owned>,
    writer: Writer,
    rhythm: Rhythm,
    runtime: Runtime,
}

pub struct Owned {
    pub owner: Owner<Processors>,
    /// Which log of its name it reads.
    creation: usize,
    acknowledged: i64,
}

impl Process {
    pub fn new(settings: &Settings, clickhouse: ClickHouse) -> Process {
        let runtime = still_runtime();
        let entered = runtime.enter();
        let writer = Writer::start(clickhouse);
        let rhythm = Rhythm {
            flush: Duration::from_millis(50),
            settle: Duration::from_millis(200),
            few: settings.few,
            snapshot: Duration::from_millis(500),
            at_a_time: Duration::ZERO,
            users_at_a_time: settings.users_at_a_time,
            look_for_past: Duration::from_millis(100),
            ..Rhythm::default()
        };
        drop(entered);
        Process {
            owners: BTreeMap::new(),
            writer,
            rhythm,
            runtime,
        }
    }

    /// What the process does by itself goes on for so long.
    pub fn pass(&self, ms: u64) {
        self.runtime
            .block_on(async { tokio::time::sleep(Duration::from_millis(ms)).await });
    }

    fn start(&self, log: &Log, with: &Taking<'_>) -> Start<ClickHouse> {
        Start {
            topic: with.topic.clone(),
            setup: with.setup.clone(),
            key: HashKey::default(),
            store: with.store.clone(),
            keep: with.settings.keep,
            held: with.clickhouse.clone(),
            writer: self.writer.clone(),
            rhythm: self.rhythm,
            accept_gap: with.accept_gap,
            reader: Some(Arc::new(log.reader())),
        }
    }

    /// Whether all that the log holds is applied.
    pub fn has_read(&self, partition: i32, log: &Log) -> bool {
        let owned = self.owners.get(&partition);
        owned.is_none_or(|owned| owned.owner.partition().position() >= log.end)
    }

    pub fn take(&mut self, log: &Log, with: Taking<'_>) -> Result<()> {
        let partition = with.topic.partition;
        let start_with = self.start(log, &with);
        let id = log.creation().to_string();
        let held = Held {
            earliest: log.earliest,
            end: log.end,
            first: log.earliest,
            id: with.settings.has_topic_ids.then_some(id.as_str()),
            partitions: 1,
            look: &|offset| Ok(log.look(offset)),
        };
        let owner = self.runtime.block_on(start::<Processors, _>(start_with, held))?;
        let owned = Owned {
            acknowledged: owner.acknowledged(),
            creation: log.creation(),
            owner,
        };
        self.owners.insert(partition, owned);
        Ok(())
    }

    pub fn read(&mut self, partition: i32, log: &Log, most: (usize, usize)) -> Result<()> {
        let Some(owned) = self.owners.get_mut(&partition) else {
            return Ok(());
        };
        let position = owned.owner.partition().position();
        anyhow::ensure!(owned.creation == log.creation(), "the topic is another");
        anyhow::ensure!(position >= log.earliest, "the log no longer holds it");
        let entered = self.runtime.enter();
        let applied = log.with_records(position, most, |records| owned.owner.apply_all(records))?;
        drop(entered);
        if applied.wants_past {
            self.runtime.block_on(owned.owner.take_past())?;
        }
        Ok(())
    }

    pub fn tick(&mut self, partition: i32, end: i64) -> Result<()> {
        let entered = self.runtime.enter();
        if let Some(owned) = self.owners.get_mut(&partition) {
            owned.owner.tick(end)?;
            let acknowledged = owned.owner.acknowledged();
            assert!(
                acknowledged >= owned.acknowledged && acknowledged <= owned.owner.partition().position(),
                "what is acknowledged is a prefix that grows"
            );
            owned.acknowledged = acknowledged;
        }
        drop(entered);
        Ok(())
    }

    /// Whether an owner wants to be given up and taken again.
    pub fn wants_to_start_again(&self, partition: i32) -> bool {
        let owned = self.owners.get(&partition);
        owned.is_some_and(|owned| owned.owner.wants_to_start_again())
    }

    /// Counts definitions beside, up to where the partition's numbers are, and leaves them to be taken over; it may be cut
    /// off by its end. False where nobody counts the partition.
    pub fn count_past(
        &mut self,
        log: &Log,
        with: Taking<'_>,
        (only, is_cut_off): (&[(String, String)], bool),
    ) -> Result<bool> {
        let begun = Counting::<Processors, _>::begin(self.start(log, &with), only, (0, log.earliest));
        let Some(mut counting) = self.runtime.block_on(begun)? else {
            return Ok(false);
        };
        let wait = || self.pass(5);
        loop {
            let entered = self.runtime.enter();
            counting.read(&log.reader(), &wait, &mut |_, _| {})?;
            drop(entered);
            if !self.runtime.block_on(counting.is_far())? {
                break;
            }
        }
        for _ in 0..1000 {
            if is_cut_off {
                return Ok(true);
            }
            let entered = self.runtime.enter();
            let has_ended = counting.go_on_ending()?;
            drop(entered);
            if has_ended {
                self.runtime.block_on(counting.leave())?;
                return Ok(true);
            }
            self.pass(5);
        }
        anyhow::bail!("what is counted beside does not end in time")
    }

    /// Gives a partition up in order; says up to where it is counted, where that could be done in time.
    pub fn give_up(&mut self, partition: i32) -> Result<Option<Owner<Processors>>> {
        let Some(mut owned) = self.owners.remove(&partition) else {
            return Ok(None);
        };
        for _ in 0..1000 {
            let entered = self.runtime.enter();
            let has_ended = owned.owner.go_on_ending()?;
            drop(entered);
            if has_ended {
                return Ok(Some(owned.owner));
            }
            self.pass(5);
        }
        anyhow::bail!("the partition is not given up in time")
    }
}

/// How a partition is taken.
pub struct Taking<'w> {
    pub topic: Topic,
    pub setup: &'w Setup,
    pub settings: &'w Settings,
    pub store: &'w Store,
    pub clickhouse: &'w ClickHouse,
    pub accept_gap: bool,
}

/// A runtime on this thread, whose time passes when all that could be done is done.
pub fn still_runtime() -> Runtime {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    runtime.expect("a runtime can be made")
}
