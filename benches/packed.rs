//! Records in memory, in one piece, as they lie in what a broker sends; and a partition that counts them.

use std::hint::black_box;

use anyhow::Result;
use cambium::Processors;
use cambium_engine::Partition;
use cambium_event::{Record, TOGETHER};

use crate::traffic::{Behaviour, Encoding};

/// Payloads one behind the other.
#[derive(Default)]
pub struct Packed {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Packed {
    pub fn of(behaviours: impl Iterator<Item = Behaviour>, encoding: Encoding) -> Packed {
        let mut packed = Packed::default();
        for behaviour in behaviours {
            packed.push(&behaviour, encoding);
        }
        packed
    }

    pub fn push(&mut self, behaviour: &Behaviour, encoding: Encoding) {
        encoding.write(behaviour, &mut self.bytes);
        self.ends.push(self.bytes.len());
    }

    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let begins = std::iter::once(0).chain(self.ends.iter().copied());
        begins
            .zip(&self.ends)
            .map(|(begin, end)| &self.bytes[begin..*end])
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
}

/// Events between two flushes of a partition: a second's worth.
const FLUSH: usize = 100_000;

/// Goes on counting where the partition stands. Rows are made and thrown away.
pub fn count(partition: &mut Partition<Processors>, records: &Packed) -> Result<()> {
    let first = partition.position();
    let records: Vec<Record<'_>> = records
        .iter()
        .zip(first..)
        .map(|(payload, offset)| Record {
            offset,
            payload: Some(payload),
            ..Record::default()
        })
        .collect();
    for second in records.chunks(FLUSH) {
        for together in second.chunks(TOGETHER) {
            partition.apply_together(together)?;
        }
        black_box(partition.flush_running());
    }
    black_box(partition.flush()?);
    Ok(())
}
