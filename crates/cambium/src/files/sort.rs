//! A stable external sort: records in order of event time, with bounded memory.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, Write};

use anyhow::{Context, Result};

use super::read::Entry;

/// Stands for no schema: no schema's number is so large.
const NO_SCHEMA: u64 = u64::MAX;
/// What is held in memory before it goes to disk.
const RUN_BYTES: usize = 256 << 20;

#[derive(Default)]
pub struct Sorter {
    run: Vec<(i64, Entry)>,
    run_bytes: usize,
    runs: Vec<File>,
    pub records: u64,
}

impl Sorter {
    pub fn push(&mut self, time: i64, entry: Entry) -> Result<()> {
        self.run_bytes += entry.bytes.len() + 48;
        self.run.push((time, entry));
        self.records += 1;
        if self.run_bytes >= RUN_BYTES {
            self.spill()
        } else {
            Ok(())
        }
    }

    fn spill(&mut self) -> Result<()> {
        self.run.sort_by_key(|(time, _)| *time);
        let mut file = BufWriter::new(tempfile::tempfile().context("cannot create a file to sort in")?);
        for (time, entry) in self.run.drain(..) {
            write(&mut file, time, &entry)?;
        }
        let mut file = file
            .into_inner()
            .context("cannot write to a file to sort in; is the disk full?")?;
        file.rewind()?;
        self.runs.push(file);
        self.run_bytes = 0;
        Ok(())
    }

    /// The records in order; of equal times those that came first come first.
    pub fn sorted(mut self) -> Result<impl Iterator<Item = Result<Entry>>> {
        self.run.sort_by_key(|(time, _)| *time);
        let mut sources: Vec<Source> = Vec::new();
        for run in self.runs {
            sources.push(Source::Disk(BufReader::new(run)));
        }
        sources.push(Source::Memory(self.run.into_iter()));
        let mut heads = BinaryHeap::new();
        for (index, source) in sources.iter_mut().enumerate() {
            if let Some((time, entry)) = source.next_record()? {
                heads.push(Reverse((time, index, entry)));
            }
        }
        Ok(std::iter::from_fn(move || {
            let Reverse((_, index, entry)) = heads.pop()?;
            match sources[index].next_record() {
                Ok(Some((time, next))) => heads.push(Reverse((time, index, next))),
                Ok(None) => {}
                Err(error) => return Some(Err(error)),
            }
            Some(Ok(entry))
        }))
    }
}

fn write(file: &mut impl Write, time: i64, entry: &Entry) -> Result<()> {
    file.write_all(&time.to_le_bytes())?;
    file.write_all(&entry.schema.map_or(NO_SCHEMA, u64::from).to_le_bytes())?;
    file.write_all(&(entry.bytes.len() as u64).to_le_bytes())?;
    Ok(file.write_all(&entry.bytes)?)
}

/// Records that wait on disk, in their order.
pub struct Spool {
    file: BufWriter<File>,
    pub records: u64,
}

impl Spool {
    pub fn new() -> Result<Spool> {
        let file = tempfile::tempfile().context("cannot create a file for records to wait in")?;
        Ok(Spool {
            file: BufWriter::new(file),
            records: 0,
        })
    }

    pub fn push(&mut self, entry: &Entry) -> Result<()> {
        self.records += 1;
        write(&mut self.file, 0, entry)
            .context("cannot write to a file for records to wait in; is the disk full?")
    }

    /// They may be read more than once, each time from the beginning.
    pub fn entries(&mut self) -> Result<impl Iterator<Item = Result<Entry>>> {
        self.file.flush()?;
        let mut file = self.file.get_ref().try_clone()?;
        file.rewind()?;
        let mut source = Source::Disk(BufReader::new(file));
        Ok(std::iter::from_fn(move || {
            let next = source.next_record().transpose()?;
            Some(next.map(|(_, entry)| entry))
        }))
    }
}

enum Source {
    Disk(BufReader<File>),
    Memory(std::vec::IntoIter<(i64, Entry)>),
}

impl Source {
    fn next_record(&mut self) -> Result<Option<(i64, Entry)>> {
        let file = match self {
            Source::Memory(records) => return Ok(records.next()),
            Source::Disk(file) => file,
        };
        let mut time = [0; 8];
        match file.read_exact(&mut time) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let (mut schema, mut length) = ([0; 8], [0; 8]);
        file.read_exact(&mut schema)?;
        file.read_exact(&mut length)?;
        let mut bytes = vec![0; u64::from_le_bytes(length) as usize];
        file.read_exact(&mut bytes)?;
        let schema = u32::try_from(u64::from_le_bytes(schema)).ok();
        Ok(Some((i64::from_le_bytes(time), Entry { schema, bytes })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_on_disk_and_in_memory_merge_stably() {
        let mut sorter = Sorter::default();
        for (round, times) in [[3, 1, 2], [2, 3, 1], [1, 2, 3]].into_iter().enumerate() {
            for time in times {
                let bytes = format!("{time}{round}").into_bytes();
                sorter.push(time, Entry { schema: None, bytes }).unwrap();
            }
            if round < 2 {
                sorter.spill().unwrap();
            }
        }
        let sorted: Vec<String> = sorter
            .sorted()
            .unwrap()
            .map(|line| String::from_utf8(line.unwrap().bytes).unwrap())
            .collect();
        assert_eq!(sorted.join(" "), "10 11 12 20 21 22 30 31 32");
    }
}
