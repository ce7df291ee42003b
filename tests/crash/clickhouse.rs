//! A ClickHouse whose inserts end in every way that inserts may end.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use anyhow::{Result, bail};
use cambium_clickhouse::Tables;
use cambium_engine::{TableRows, Topic};
use cambium_pipeline::{Held, Progress, versioned_tables};
use fastrand::Rng;

use crate::replay::model::{Model, Row, number, text};

/// What becomes of one insert into one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Written,
    /// Written at once, answered after a while: who asked may be gone by then.
    AnsweredLate,
    /// Written, and once more later: something on the way repeated it.
    Repeated,
    Refused,
    /// The answer was lost.
    WrittenButFailed,
    /// Only the first of its rows were written.
    HalfWritten,
    /// Given up by who asked, and written later.
    ArrivesLate,
}

const FATES: [Fate; 7] = [
    Fate::Written,
    Fate::AnsweredLate,
    Fate::Repeated,
    Fate::Refused,
    Fate::WrittenButFailed,
    Fate::HalfWritten,
    Fate::ArrivesLate,
];

pub struct Server {
    pub model: Model,
    /// Inserts that will yet arrive.
    late: Vec<TableRows>,
    random: Rng,
    /// Out of 100 inserts so many do not simply succeed.
    troubled: u8,
    pub is_away: bool,
    /// How often `progress` was asked for while an owner of another world goes on counting.
    pub counted_elsewhere: Option<i64>,
    /// Of everything that was inserted, in its order.
    digest: DefaultHasher,
    /// The version of `progress`, by partition; it never falls.
    progress: Vec<i128>,
}

/// One server, seen by all processes.
#[derive(Clone)]
pub struct ClickHouse(Arc<Mutex<Server>>);

impl ClickHouse {
    pub fn new(partitions: i32) -> ClickHouse {
        ClickHouse(Arc::new(Mutex::new(Server {
            model: Model::new(),
            late: Vec::new(),
            random: Rng::with_seed(0),
            troubled: 0,
            is_away: false,
            counted_elsewhere: None,
            digest: DefaultHasher::new(),
            progress: vec![0; partitions as usize],
        })))
    }

    pub fn lock(&self) -> MutexGuard<'_, Server> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Server {
    /// From now on so many of 100 inserts do not simply succeed.
    pub fn trouble(&mut self, troubled: u8, seed: u64) {
        self.random = Rng::with_seed(seed);
        self.troubled = troubled;
    }

    /// Lets some of the inserts arrive that were given up.
    pub fn arrive(&mut self, most: usize) {
        for _ in 0..most.min(self.late.len()) {
            let next = self.random.usize(..self.late.len());
            let rows = self.late.swap_remove(next);
            self.take(&rows, rows.rows);
        }
    }

    pub fn digest(&self) -> u64 {
        self.digest.finish()
    }

    fn fate(&mut self) -> Fate {
        if self.is_away {
            Fate::Refused
        } else if self.random.u8(..100) < self.troubled {
            FATES[self.random.usize(..FATES.len())]
        } else {
            Fate::Written
        }
    }

    fn take(&mut self, rows: &TableRows, first: usize) {
        let name = rows.table.name;
        (name, first).hash(&mut self.digest);
        self.model.take(rows, first);
        if name == "progress_rows" {
            // When it was flushed is no matter of the log.
            self.check_progress();
            return;
        }
        for part in rows.block() {
            self.digest.write(&part);
        }
    }

    fn check_progress(&mut self) {
        for row in self.model.newest("progress_rows") {
            let (partition, version) = (number(row, "partition") as usize, number(row, "version"));
            version.hash(&mut self.digest);
            assert!(version >= self.progress[partition], "progress went back");
            self.progress[partition] = version;
        }
    }

    fn insert(&mut self, rows: &TableRows) -> Fate {
        let fate = self.fate();
        let written = match fate {
            Fate::Refused | Fate::ArrivesLate => 0,
            Fate::HalfWritten => rows.rows / 2,
            _ => rows.rows,
        };
        if written > 0 {
            self.take(rows, written);
        }
        if matches!(fate, Fate::Repeated | Fate::ArrivesLate) {
            self.late.push(rows.clone());
        }
        fate
    }

    fn of<'m>(&'m self, table: &str, topic: &'m Topic) -> impl Iterator<Item = &'m Row> {
        let rows = self.model.newest(table).collect::<Vec<_>>().into_iter();
        rows.filter(|row| is_of(row, topic))
    }
}

fn is_of(row: &Row, topic: &Topic) -> bool {
    number(row, "partition") == i128::from(topic.partition) && text(row, "topic") == topic.name
}

impl Tables for ClickHouse {
    async fn insert(&self, rows: &TableRows) -> Result<()> {
        // On its way: the process may end before it arrives.
        tokio::time::sleep(Duration::from_millis(3)).await;
        let fate = self.lock().insert(rows);
        if fate == Fate::AnsweredLate {
            tokio::time::sleep(Duration::from_millis(700)).await;
        }
        match fate {
            Fate::Written | Fate::AnsweredLate | Fate::Repeated => Ok(()),
            _ => bail!("the insert into {} failed", rows.table.name),
        }
    }
}

impl Held for ClickHouse {
    async fn highest_version(&self, topic: &Topic, origins: &[u64]) -> Result<u64> {
        let server = self.lock();
        if server.is_away {
            bail!("ClickHouse is away");
        }
        let journaled = origins.iter().map(|origin| i128::from(*origin));
        let held = server.of("origin_rows", topic);
        let origins: BTreeSet<i128> = held.map(|row| number(row, "origin")).chain(journaled).collect();
        let tables = versioned_tables();
        let versioned = tables.iter().flat_map(|table| server.model.newest(table));
        let versioned = versioned.filter(|row| origins.contains(&number(row, "origin")));
        let versions = versioned.chain(server.of("record_rows", topic));
        Ok(versions
            .map(|row| number(row, "version") as u64)
            .max()
            .unwrap_or(0))
    }

    async fn progress(&self, topic: &Topic) -> Result<Option<Progress>> {
        let mut server = self.lock();
        server.counted_elsewhere = server.counted_elsewhere.map(|asked| asked + 1);
        let flushed_since = server.counted_elsewhere.unwrap_or(0);
        let mut rows = server.of("progress_rows", topic);
        let row = rows.find(|row| number(row, "last_record") != 0);
        Ok(row.map(|row| Progress {
            version: number(row, "version") as u64,
            last_record: number(row, "last_record") as u64,
            flushed_at: number(row, "flushed_at") as i64 + flushed_since,
        }))
    }

    async fn first_origin(&self, topic: &Topic) -> Result<Option<i64>> {
        let server = self.lock();
        let starts = server
            .of("origin_rows", topic)
            .map(|row| number(row, "start") as i64);
        Ok(starts.min())
    }

    async fn put_gap(&self, topic: &Topic, offsets: Range<i64>, _: &str) -> Result<()> {
        (&topic.name, topic.partition, offsets.start, offsets.end).hash(&mut self.lock().digest);
        Ok(())
    }
}
