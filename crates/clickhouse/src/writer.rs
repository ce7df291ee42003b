//! The one writer of a process: it gathers the flushes of all partitions into one insert a table.
//!
//! While an insert is under way, flushes gather behind it; so a slow ClickHouse gets fewer and larger
//! inserts. One that fails is repeated for ever, with pauses that grow: its rows are idempotent.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cambium_engine::Rows;
use tokio::sync::{mpsc, oneshot};

use crate::Client;

/// One partition's flush.
pub struct Batch {
    pub rows: Rows,
    /// Written when all else is there: what says how far the numbers are.
    pub progress: Rows,
    pub acknowledge: oneshot::Sender<()>,
}

/// What the writer is doing, for readiness.
#[derive(Debug, Default)]
pub struct WriterStatus {
    /// Failures since the last success; 0: ClickHouse takes rows.
    pub failing: AtomicU64,
}

#[derive(Clone)]
pub struct Writer {
    batches: mpsc::Sender<Batch>,
    status: Arc<WriterStatus>,
}

/// Batches that may wait; a partition has one under way at most.
const WAITING: usize = 1024;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

impl Writer {
    /// Starts the writer on the present runtime; it ends when all its handles are gone.
    pub fn start(client: Client) -> Writer {
        let (batches, receiver) = mpsc::channel(WAITING);
        let status = Arc::new(WriterStatus::default());
        tokio::spawn(write_all(client, receiver, status.clone()));
        Writer { batches, status }
    }

    pub fn status(&self) -> &Arc<WriterStatus> {
        &self.status
    }

    /// Hands a batch over, from a thread that may block. False: the writer is gone.
    pub fn send(&self, batch: Batch) -> bool {
        self.batches.blocking_send(batch).is_ok()
    }
}

async fn write_all(client: Client, mut batches: mpsc::Receiver<Batch>, status: Arc<WriterStatus>) {
    while let Some(first) = batches.recv().await {
        let mut gathered = vec![first];
        while let Ok(next) = batches.try_recv() {
            gathered.push(next);
        }
        let (mut rows, mut progress, mut waiting) = (Rows::default(), Rows::default(), Vec::new());
        for batch in gathered {
            rows.append(batch.rows);
            progress.append(batch.progress);
            waiting.push(batch.acknowledge);
        }
        write_until_done(&client, &rows, &status).await;
        write_until_done(&client, &progress, &status).await;
        // Whoever no longer waits has gone; the rows are safe all the same.
        for one in waiting {
            let _ = one.send(());
        }
    }
}

async fn write_until_done(client: &Client, rows: &Rows, status: &WriterStatus) {
    let mut pause = FIRST_PAUSE;
    let begun = Instant::now();
    while let Err(error) = client.write(rows).await {
        metrics::counter!("cambium_write_failures_total").increment(1);
        status.failing.fetch_add(1, Ordering::Relaxed);
        tracing::warn!("{error:#}; trying again in {pause:?}");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    status.failing.store(0, Ordering::Relaxed);
    metrics::counter!("cambium_rows_written_total").increment(rows.count() as u64);
    metrics::histogram!("cambium_write_seconds").record(begun.elapsed());
}
