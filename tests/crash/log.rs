//! The log of one partition: it grows, forgets its beginning, and is created again.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use anyhow::{Result, ensure};
use cambium_engine::{Found, Mark, Topic};
use cambium_event::Record;
use cambium_pipeline::Reader;
use cambium_simulate::Record as Sent;

/// What a log holds, with its offset there.
#[derive(Clone, Default)]
pub struct Records(Arc<Mutex<Holds>>);

#[derive(Default)]
struct Holds {
    earliest: i64,
    records: Vec<(i64, Sent)>,
}

impl Records {
    fn lock(&self) -> MutexGuard<'_, Holds> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Reader for Records {
    fn read(
        &self,
        _: &Topic,
        offsets: Range<i64>,
        take: &mut dyn FnMut(&[Record<'_>]) -> Result<()>,
    ) -> Result<()> {
        let held = self.lock();
        ensure!(
            offsets.is_empty() || held.earliest <= offsets.start,
            "the log no longer holds {offsets:?}"
        );
        let these = held.records.iter().filter(|(offset, _)| offsets.contains(offset));
        let these: Vec<Record<'_>> = these.map(record).collect();
        these.chunks(3).try_for_each(take)
    }
}

pub struct Log {
    held: Records,
    pub earliest: i64,
    pub end: i64,
    /// Where each log of this name began, in the offsets that its records have for the truth.
    begun: Vec<i64>,
    /// The offset behind the record of the case that was sent last.
    next_in_case: i64,
    /// All that was ever sent, whatever was forgotten since.
    pub sent: Vec<Sent>,
    /// Whether a start may refuse.
    pub is_cut: bool,
}

impl Log {
    pub fn new() -> Log {
        Log {
            held: Records::default(),
            earliest: 0,
            end: 0,
            begun: vec![0],
            next_in_case: 0,
            sent: Vec::new(),
            is_cut: false,
        }
    }

    /// How often it was created again.
    pub fn creation(&self) -> usize {
        self.begun.len() - 1
    }

    /// The offset that a record has for the truth.
    pub fn for_truth(&self, epoch: u16, offset: i64) -> i64 {
        self.begun[usize::from(epoch).min(self.creation())] + offset
    }

    pub fn append(&mut self, record: &Sent) {
        let begun = self.begun[self.creation()];
        // Holes lie where they lie in the case, whichever log the record goes to.
        let hole = record.offset - self.next_in_case;
        let offset = self.end + hole;
        self.next_in_case = record.offset + 1;
        self.end = offset + 1;
        self.held.lock().records.push((offset, record.clone()));
        self.sent.push(Sent {
            offset: begun + offset,
            ..record.clone()
        });
    }

    pub fn truncate(&mut self, earliest: i64) {
        if earliest > self.earliest {
            self.earliest = earliest;
            let mut held = self.held.lock();
            held.earliest = earliest;
            held.records.retain(|(offset, _)| *offset >= earliest);
            self.is_cut = true;
        }
    }

    pub fn create_again(&mut self) {
        let next = self.sent.last().map_or(0, |record| record.offset + 1);
        // Where nothing was sent since, nobody can tell one from the other, nor has to.
        if next > self.begun[self.creation()] {
            self.begun.push(next);
        }
        // Who still reads the old one finds nothing of the new.
        self.held = Records::default();
        (self.earliest, self.end, self.is_cut) = (0, 0, true);
    }

    /// To be read again beside its owner.
    pub fn reader(&self) -> Records {
        self.held.clone()
    }

    /// So many records before an offset, and so many at most from there on.
    pub fn with_records<R>(
        &self,
        from: i64,
        (before, most): (usize, usize),
        work: impl FnOnce(&[Record<'_>]) -> R,
    ) -> R {
        let held = self.held.lock();
        let next = held.records.partition_point(|(offset, _)| *offset < from);
        let before = before.min(next);
        let these = held
            .records
            .iter()
            .skip(next - before)
            .take(most.saturating_add(before));
        work(&these.map(record).collect::<Vec<_>>())
    }

    pub fn look(&self, offset: i64) -> Found {
        let held = self.held.lock();
        let found = held.records.iter().find(|(at, _)| *at == offset);
        found.map_or(Found::Nothing, |found| Found::Record(Mark::of(&record(found))))
    }
}

fn record((offset, sent): &(i64, Sent)) -> Record<'_> {
    Record {
        offset: *offset,
        timestamp: sent.timestamp,
        payload: Some(&sent.payload),
        ..Record::default()
    }
}
