//! What `replay FILE… --topic` counts in front of a topic's log: records of before it, each on the partition of its user.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};

use anyhow::Result;
use cambium_engine::Setup;
use cambium_event::{Decoders, Format, Plan, Record, Schemas};

use super::check::keys::java;
use super::replay::{Sorted, sort};
use crate::files::{Input, Spool, open};

#[derive(Default)]
pub struct Front {
    /// Of the files, as they are given.
    pub digests: Vec<String>,
    pub schemas: Schemas,
    partitions: Vec<Mutex<Spool>>,
    /// Lines that are no event, or nobody's.
    pub unread: u64,
}

impl Front {
    /// The files, by their digests; none: nothing lies in front.
    pub fn inputs(paths: &[PathBuf]) -> Result<Vec<Input>> {
        let mut inputs: Vec<Input> = Vec::new();
        for input in if paths.is_empty() {
            Vec::new()
        } else {
            open(paths)?
        } {
            if inputs.iter().any(|known| known.digest == input.digest) {
                eprintln!("{} is given twice: read once", input.name);
            } else {
                inputs.push(input);
            }
        }
        Ok(inputs)
    }

    /// Sorts the files' records by their time, and lays each where Java's partitioner puts its user among so many.
    pub fn new(inputs: Vec<Input>, setup: &Setup, as_is: bool, partitions: i32) -> Result<Front> {
        let digests = inputs.iter().map(|input| input.digest.clone()).collect();
        let Sorted { sorter, schemas } = sort(inputs, &setup.fields, as_is)?;
        let decoders = Decoders::new(Plan::new(&setup.fields, &[]), Format::Json, &schemas)?;
        let mut spools = (0..partitions)
            .map(|_| Spool::new())
            .collect::<Result<Vec<_>>>()?;
        let mut unread = 0;
        for entry in sorter.sorted()? {
            let entry = entry?;
            let record = Record {
                schema: entry.schema,
                payload: Some(&entry.bytes),
                ..Record::default()
            };
            match decoders.read(&record, |event| java(event.user().as_bytes())) {
                Ok(hash) => spools[(hash % partitions as u32) as usize].push(&entry)?,
                Err(_) => unread += 1,
            }
        }
        Ok(Front {
            digests,
            schemas,
            partitions: spools.into_iter().map(Mutex::new).collect(),
            unread,
        })
    }

    pub fn records(&self) -> u64 {
        self.partitions.iter().map(|spool| locked(spool).records).sum()
    }

    /// The records of a partition; none where nothing lies in front.
    pub fn partition(&self, partition: i32) -> Option<MutexGuard<'_, Spool>> {
        self.partitions.get(partition as usize).map(locked)
    }
}

fn locked(spool: &Mutex<Spool>) -> MutexGuard<'_, Spool> {
    spool.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
