//! The owner of a partition: applies records, flushes what changed once a second, and publishes a
//! snapshot only when ClickHouse has acknowledged the flush that it was captured with (rule 3).

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use cambium_clickhouse::{Batch, Writer};
use cambium_engine::{Capture, List, Outcome, Partition, Rows, Table};
use cambium_event::Record;
use cambium_snapshots::{Entry, Snapshots};
use tokio::sync::oneshot;

static PROGRESS: Table = Table {
    name: "progress_rows",
    columns: &[
        ("topic", "LowCardinality(String)"),
        ("partition", "Int32"),
        ("version", "UInt64"),
        ("offset", "Int64"),
        ("end_offset", "Int64"),
        ("watermark", "DateTime64(3, 'UTC')"),
        ("flushed_at", "DateTime64(3, 'UTC')"),
    ],
};

/// When what happens.
#[derive(Clone, Copy, Debug)]
pub struct Rhythm {
    pub flush: Duration,
    pub snapshot: Duration,
    /// Rows that wait for a flush; beyond it reading stops until ClickHouse is back.
    pub max_waiting_bytes: usize,
}

impl Default for Rhythm {
    fn default() -> Self {
        Rhythm {
            flush: Duration::from_secs(1),
            snapshot: Duration::from_secs(60),
            max_waiting_bytes: 64 << 20,
        }
    }
}

/// A flush that ClickHouse has not acknowledged yet.
struct UnderWay {
    acknowledged: oneshot::Receiver<()>,
    position: i64,
    capture: Option<Capture>,
}

pub struct Owner<L: List> {
    partition: Partition<L>,
    /// Setups that come into force further on.
    journal: VecDeque<Entry>,
    writer: Writer,
    snapshots: Snapshots,
    /// The snapshot that is being published, which gives its place back when it is done.
    publishing: Option<oneshot::Receiver<Result<Snapshots>>>,
    runtime: tokio::runtime::Handle,
    rhythm: Rhythm,
    under_way: Option<UnderWay>,
    acknowledged: i64,
    flushed_at: Instant,
    captured_at: Instant,
    captured: i64,
    end_offset: i64,
}

impl<L: List> Owner<L> {
    pub(crate) fn new(
        partition: Partition<L>,
        journal: VecDeque<Entry>,
        snapshots: Snapshots,
        writer: Writer,
        rhythm: Rhythm,
        end_offset: i64,
    ) -> Self {
        let position = partition.position();
        Owner {
            partition,
            journal,
            writer,
            snapshots,
            publishing: None,
            runtime: tokio::runtime::Handle::current(),
            rhythm,
            under_way: None,
            acknowledged: position,
            flushed_at: Instant::now(),
            captured_at: Instant::now(),
            captured: position,
            end_offset,
        }
    }

    pub fn partition(&self) -> &Partition<L> {
        &self.partition
    }

    /// Everything before it is in ClickHouse.
    pub fn acknowledged(&self) -> i64 {
        self.acknowledged
    }

    /// Applies the next record; a setup that comes into force here does so first.
    pub fn apply(&mut self, record: &Record<'_>) -> Result<Outcome> {
        while self
            .journal
            .front()
            .is_some_and(|entry| entry.offset <= record.offset)
        {
            if let Some(entry) = self.journal.pop_front() {
                self.change_setup(entry)?;
            }
        }
        let applied = self.partition.apply(record);
        applied.with_context(|| format!("{} at offset {}", self.partition.topic(), record.offset))
    }

    fn change_setup(&mut self, entry: Entry) -> Result<()> {
        tracing::info!(topic = %self.partition.topic(), offset = entry.offset, "another setup comes into force");
        self.partition
            .change_setup(entry.setup)
            .context("the setup cannot be used")
    }

    /// Whether so much waits for ClickHouse that reading should stop.
    pub fn is_full(&self) -> bool {
        self.partition.waiting_bytes() > self.rhythm.max_waiting_bytes
    }

    /// To be called often: looks after acknowledgements, and flushes when it is time.
    pub fn tick(&mut self, end_offset: i64) -> Result<()> {
        self.end_offset = end_offset;
        self.look_after_flush()?;
        let is_due = self.flushed_at.elapsed() >= self.rhythm.flush || self.is_full();
        if is_due && self.under_way.is_none() {
            let capture = self.captured_at.elapsed() >= self.rhythm.snapshot;
            self.flush(capture)?;
        }
        Ok(())
    }

    fn flush(&mut self, with_capture: bool) -> Result<()> {
        self.flushed_at = Instant::now();
        let rows = self.partition.flush().context("the flush failed")?;
        let is_new = self.captured < self.partition.position();
        let capture = if with_capture && is_new && self.has_snapshots()? {
            self.captured_at = Instant::now();
            self.captured = self.partition.position();
            let capture = self.partition.capture().context("the snapshot failed")?;
            let pause = self.captured_at.elapsed();
            tracing::debug!(topic = %self.partition.topic(), users = capture.users.len(), ?pause, "snapshot captured");
            Some(capture)
        } else {
            None
        };
        let (acknowledge, acknowledged) = oneshot::channel();
        let position = self.partition.position();
        let batch = Batch {
            rows,
            progress: self.progress(),
            acknowledge,
        };
        anyhow::ensure!(self.writer.send(batch), "the ClickHouse writer has ended");
        self.under_way = Some(UnderWay {
            acknowledged,
            position,
            capture,
        });
        Ok(())
    }

    fn progress(&self) -> Rows {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_millis() as i64);
        let topic = self.partition.topic();
        let mut rows = Rows::default();
        rows.row(&PROGRESS)
            .text(&topic.name)
            .i32(topic.partition)
            .u64(self.partition.version())
            .i64(self.partition.position())
            .i64(self.end_offset)
            .i64(self.partition.watermark().unwrap_or(0))
            .i64(now);
        rows
    }

    fn look_after_flush(&mut self) -> Result<()> {
        let Some(under_way) = &mut self.under_way else {
            return Ok(());
        };
        match under_way.acknowledged.try_recv() {
            Ok(()) => {
                if let Some(under_way) = self.under_way.take() {
                    self.take_acknowledgement(under_way);
                }
                Ok(())
            }
            Err(oneshot::error::TryRecvError::Empty) => Ok(()),
            Err(oneshot::error::TryRecvError::Closed) => anyhow::bail!("the ClickHouse writer has ended"),
        }
    }

    fn take_acknowledgement(&mut self, under_way: UnderWay) {
        self.acknowledged = under_way.position;
        if let Some(capture) = under_way.capture {
            let (done, publishing) = oneshot::channel();
            let placeholder = self.snapshots.placeholder();
            let mut snapshots = std::mem::replace(&mut self.snapshots, placeholder);
            self.publishing = Some(publishing);
            self.runtime.spawn(async move {
                let published = snapshots.publish(capture).await;
                let _ = done.send(published.map(|()| snapshots));
            });
        }
    }

    /// Whether a snapshot may be taken: none is on its way.
    fn has_snapshots(&mut self) -> Result<bool> {
        let Some(publishing) = &mut self.publishing else {
            return Ok(true);
        };
        match publishing.try_recv() {
            Ok(done) => {
                self.publishing = None;
                self.snapshots = done.context("the snapshot could not be published")?;
                Ok(true)
            }
            Err(oneshot::error::TryRecvError::Empty) => Ok(false),
            Err(oneshot::error::TryRecvError::Closed) => anyhow::bail!("the snapshot task has ended"),
        }
    }

    /// Flushes all, waits until it is acknowledged, and leaves a snapshot.
    pub fn finish(mut self) -> Result<Partition<L>> {
        while self.under_way.is_some() {
            self.look_after_flush()?;
            std::thread::sleep(Duration::from_millis(5));
        }
        while !self.has_snapshots()? {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.flush(true)?;
        while self.under_way.is_some() {
            self.look_after_flush()?;
            std::thread::sleep(Duration::from_millis(5));
        }
        while !self.has_snapshots()? {
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(self.partition)
    }
}
