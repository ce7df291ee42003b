//! The one writer of a process: it gathers the flushes of all partitions into one insert a table.
//!
//! It has two lanes, so that counts do not wait behind a hundred thousand sessions; rows may come in any order (rule
//! 2). While an insert is under way, flushes gather behind it in its lane; so a slow ClickHouse gets fewer and larger
//! inserts. One that fails is repeated for ever, with pauses that grow: its rows are idempotent.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use cambium_engine::{Bug, Rows, bug};
use fail::fail_point;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::Tables;

/// What a partition's flush leaves each second, whatever there is.
pub struct RunningFlush {
    pub rows: Rows,
    /// Who is told that ClickHouse has them.
    pub acknowledge: Vec<oneshot::Sender<()>>,
}

/// What it leaves more rarely where there is much.
pub struct SettledFlush {
    pub rows: Rows,
    /// Tells that ClickHouse has the running flush that went with it.
    pub after: oneshot::Receiver<()>,
    /// Written when all of these rows are there: what says how far the numbers are.
    pub progress: Rows,
    pub acknowledge: oneshot::Sender<()>,
}

/// What the writer is doing, for readiness.
#[derive(Debug, Default)]
pub struct WriterStatus {
    running: Lane,
    settled: Lane,
}

#[derive(Debug, Default)]
struct Lane {
    /// Since the last success; 0: ClickHouse takes rows.
    failures: AtomicU64,
    /// Since when an insert has been under way.
    since: Mutex<Option<Instant>>,
}

/// An insert that is under way for longer is said before it has failed.
const SLOW: Duration = Duration::from_secs(10);

impl Lane {
    fn is_failing(&self) -> bool {
        let since = self.since.lock().ok().and_then(|since| *since);
        self.failures.load(Ordering::Relaxed) > 0 || since.is_some_and(|since| since.elapsed() > SLOW)
    }

    fn is_under_way(&self, since: Option<Instant>) {
        if let Ok(mut place) = self.since.lock() {
            *place = since;
        }
    }
}

impl WriterStatus {
    /// Whether ClickHouse does not take rows.
    pub fn is_failing(&self) -> bool {
        self.running.is_failing() || self.settled.is_failing()
    }
}

#[derive(Clone)]
pub struct Writer {
    running: mpsc::Sender<RunningFlush>,
    settled: mpsc::Sender<SettledFlush>,
    status: Arc<WriterStatus>,
}

/// Flushes that may wait in a lane; a partition has one in each at most.
const WAITING: usize = 1024;
/// Partitions flush at the same moments: what follows the first of them within this time goes with it.
const GATHER: Duration = Duration::from_millis(10);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

impl Writer {
    /// Starts the writer on the present runtime; it ends when all its handles are gone.
    pub fn start(tables: impl Tables) -> Writer {
        let (running, running_flushes) = mpsc::channel(WAITING);
        let (settled, settled_flushes) = mpsc::channel(WAITING);
        let status = Arc::new(WriterStatus::default());
        tokio::spawn(write_running(tables.clone(), running_flushes, status.clone()));
        tokio::spawn(write_settled(tables, settled_flushes, status.clone()));
        Writer {
            running,
            settled,
            status,
        }
    }

    pub fn status(&self) -> &Arc<WriterStatus> {
        &self.status
    }

    /// Hands a flush over, from a thread that may block.
    pub fn send_running(&self, flush: RunningFlush) -> Result<()> {
        self.running.blocking_send(flush).ok().context(ENDED)
    }

    /// Writes rows beside all flushes, and waits until ClickHouse has them.
    pub async fn write(&self, rows: Rows) -> Result<()> {
        let (acknowledge, acknowledged) = oneshot::channel();
        let flush = RunningFlush {
            rows,
            acknowledge: vec![acknowledge],
        };
        self.running.send(flush).await.ok().context(ENDED)?;
        acknowledged.await.context(ENDED)
    }

    /// The same, for what may come more rarely.
    pub fn send_settled(&self, flush: SettledFlush) -> Result<()> {
        self.settled.blocking_send(flush).ok().context(ENDED)
    }
}

const ENDED: &str = "the ClickHouse writer has ended";

async fn write_running(
    tables: impl Tables,
    mut flushes: mpsc::Receiver<RunningFlush>,
    status: Arc<WriterStatus>,
) {
    while let Some(gathered) = gather(&mut flushes).await {
        let (mut rows, mut waiting) = (Rows::default(), Vec::new());
        for flush in gathered {
            rows.append(flush.rows);
            waiting.extend(flush.acknowledge);
        }
        write_until_done(&tables, &rows, &status.running).await;
        fail_point!("before-acknowledgement");
        acknowledge(waiting);
    }
}

async fn write_settled(
    tables: impl Tables,
    mut flushes: mpsc::Receiver<SettledFlush>,
    status: Arc<WriterStatus>,
) {
    while let Some(gathered) = gather(&mut flushes).await {
        let (mut rows, mut progress) = (Rows::default(), Rows::default());
        let (mut before, mut waiting) = (Vec::new(), Vec::new());
        for flush in gathered {
            rows.append(flush.rows);
            progress.append(flush.progress);
            before.push(flush.after);
            waiting.push(flush.acknowledge);
        }
        if bug(Bug::ProgressBeforeRows) {
            write_until_done(&tables, &progress, &status.settled).await;
        }
        write_until_done(&tables, &rows, &status.settled).await;
        for one in before {
            if one.await.is_err() {
                // The other lane has ended without writing it: so has this process.
                return;
            }
        }
        fail_point!("before-progress");
        write_until_done(&tables, &progress, &status.settled).await;
        fail_point!("after-progress");
        acknowledge(waiting);
    }
}

/// The next flushes: what waits already, and what follows at once.
async fn gather<F>(flushes: &mut mpsc::Receiver<F>) -> Option<Vec<F>> {
    let mut gathered = vec![flushes.recv().await?];
    tokio::time::sleep(GATHER).await;
    while let Ok(next) = flushes.try_recv() {
        gathered.push(next);
    }
    Some(gathered)
}

fn acknowledge(waiting: Vec<oneshot::Sender<()>>) {
    for one in waiting {
        // Whoever no longer waits has gone; the rows are safe all the same.
        let _ = one.send(());
    }
}

async fn write_until_done(tables: &impl Tables, rows: &Rows, lane: &Lane) {
    let mut pause = FIRST_PAUSE;
    let begun = Instant::now();
    lane.is_under_way(Some(begun));
    while let Err(error) = tables.write(rows).await {
        metrics::counter!("cambium_write_failures_total").increment(1);
        if bug(Bug::FailedInsertAcknowledged) {
            break;
        }
        lane.failures.fetch_add(1, Ordering::Relaxed);
        tracing::warn!("{error:#}; trying again in {pause:?}");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    lane.failures.store(0, Ordering::Relaxed);
    lane.is_under_way(None);
    metrics::counter!("cambium_rows_written_total").increment(rows.count() as u64);
    metrics::histogram!("cambium_write_seconds").record(begun.elapsed());
}
