//! The owner of a partition: applies records, flushes what changed once a second, and publishes a
//! snapshot only when ClickHouse has acknowledged the flush that it was captured with (rule 3).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use cambium_clickhouse::{RunningFlush, SettledFlush, Writer};
use cambium_engine::{Bug, Capture, List, Partition, Rows, Setup, Table, bug};
use cambium_event::{Record, SchemaText, TOGETHER};
use cambium_snapshots::{Broken, Change, Entry, Made, Snapshots};
use fail::fail_point;
use tokio::sync::oneshot;
// Its clock can be held: in the simulation time passes when the schedule says so.
use tokio::time::Instant;

use crate::Rhythm;
use crate::meters::Meters;
use crate::past::{News, Pasts};

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
        ("last_record", "UInt64"),
    ],
};

/// Until a snapshot that could not be written is tried again.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// A flush that ClickHouse has not acknowledged yet.
struct UnderWay<What> {
    acknowledged: oneshot::Receiver<()>,
    begun: Instant,
    what: What,
}

impl<What> UnderWay<What> {
    fn new(what: What) -> (oneshot::Sender<()>, UnderWay<What>) {
        let (acknowledge, acknowledged) = oneshot::channel();
        let under_way = UnderWay {
            acknowledged,
            begun: Instant::now(),
            what,
        };
        (acknowledge, under_way)
    }
}

/// Takes a flush out of its place when ClickHouse has acknowledged it.
fn take_acknowledged<What>(place: &mut Option<UnderWay<What>>) -> Result<Option<UnderWay<What>>> {
    let Some(under_way) = place else {
        return Ok(None);
    };
    match under_way.acknowledged.try_recv() {
        Ok(()) => Ok(place.take()),
        Err(oneshot::error::TryRecvError::Empty) => Ok(None),
        Err(oneshot::error::TryRecvError::Closed) => anyhow::bail!("the ClickHouse writer has ended"),
    }
}

/// A flush of all that was still missing up to a position.
struct Settling {
    position: i64,
    /// The snapshot under way was begun with it.
    with_snapshot: bool,
}

/// A snapshot whose capture was begun with a flush. It is published when the capture is complete and the flush is
/// acknowledged.
struct Snapshot {
    begun: Instant,
    /// None until it is complete.
    capture: Option<Capture>,
    is_acknowledged: bool,
}

/// How far a flush of everything went.
struct Settled {
    version: u64,
    position: i64,
    watermark: i64,
    last_record: u64,
}

impl Settled {
    fn of<L: List>(partition: &Partition<L>) -> Settled {
        Settled {
            version: partition.version(),
            position: partition.position(),
            watermark: partition.watermark().unwrap_or(0),
            last_record: partition.last().map_or(0, |mark| mark.hash),
        }
    }
}

/// What was counted beside, on its way here.
#[derive(Default)]
enum Past {
    #[default]
    Nothing,
    /// It is asked whether there is something.
    Asked(oneshot::Receiver<Result<News>>),
    /// There is, or users are to be forgotten: a start sees to it.
    Found,
    /// It comes into force here, as the journal says: no record is applied before.
    Wanted,
}

/// How far records that were offered were applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    pub records: usize,
    /// First [`Owner::answer`] what is known of this schema id; then offer the next record again.
    pub wants_schema: Option<u32>,
    /// First [`Owner::take_past`]; then offer the next record again.
    pub wants_past: bool,
}

/// What is not in the log, in the order of the offsets from which on it holds.
pub(crate) struct Journal {
    pub entries: Vec<Entry>,
    /// The first that is not in force yet.
    pub next: usize,
    /// Before this offset everything was judged already: what was unknown then stays so.
    pub settled_until: i64,
}

pub struct Owner<L: List> {
    partition: Partition<L>,
    journal: Journal,
    /// The record whose schema is asked for, and the last whose schema was answered.
    asked_at: Option<i64>,
    answered_at: Option<i64>,
    writer: Writer,
    snapshots: Snapshots,
    /// Where definitions find a past, and when it was looked for last.
    pasts: Option<Pasts>,
    found: Option<i64>,
    looked_at: Instant,
    past: Past,
    /// Users who are to be left in no snapshot.
    to_purge: Option<Vec<u64>>,
    /// The snapshot that is being taken.
    snapshot: Option<Snapshot>,
    /// The snapshot that is being published, which gives its place back when it is done.
    publishing: Option<oneshot::Receiver<Result<Snapshots>>>,
    runtime: tokio::runtime::Handle,
    rhythm: Rhythm,
    /// A flush of what is flushed each second, and one of what users owe.
    running: Option<UnderWay<()>>,
    settling: Option<UnderWay<Settling>>,
    acknowledged: i64,
    flushed_at: Instant,
    flushed: i64,
    /// When users left what they owed last, and up to where all is flushed with it.
    settled_at: Instant,
    settled: Settled,
    /// Since when they have been leaving what they owe, a few at a time.
    settles_since: Option<Instant>,
    captured_at: Instant,
    captured: i64,
    /// Up to where the newest snapshot goes that is published, and since when something lies behind it.
    covered: i64,
    uncovered_since: Option<Instant>,
    end_offset: i64,
    /// Whether the last flush is on its way.
    ends: bool,
    meters: Meters,
}

impl<L: List> Owner<L> {
    pub(crate) fn new(
        partition: Partition<L>,
        journal: Journal,
        snapshots: Snapshots,
        writer: Writer,
        rhythm: Rhythm,
        end_offset: i64,
    ) -> Self {
        let position = partition.position();
        let meters = Meters::new(&partition);
        let settled = Settled::of(&partition);
        Owner {
            partition,
            journal,
            asked_at: None,
            answered_at: None,
            writer,
            snapshots,
            pasts: None,
            found: None,
            looked_at: Instant::now(),
            past: Past::Nothing,
            to_purge: None,
            snapshot: None,
            publishing: None,
            runtime: tokio::runtime::Handle::current(),
            rhythm,
            running: None,
            settling: None,
            acknowledged: position,
            flushed_at: Instant::now(),
            flushed: position,
            settled_at: Instant::now(),
            settled,
            settles_since: None,
            captured_at: Instant::now(),
            captured: position,
            covered: position,
            uncovered_since: None,
            end_offset,
            ends: false,
            meters,
        }
    }

    /// Takes over what is counted beside; what was `found` up to some offset already is not looked for again.
    pub(crate) fn with_pasts(mut self, pasts: Option<Pasts>, found: Option<i64>) -> Self {
        (self.pasts, self.found) = (pasts, found);
        self
    }

    /// When these users are forgotten, the next snapshot is to be the only one.
    pub(crate) fn with_users_to_purge(mut self, users: Option<Vec<u64>>) -> Self {
        self.to_purge = users;
        self
    }

    /// Whether a snapshot is wanted, since those before it hold users who are forgotten now.
    fn is_time_to_purge(&self) -> bool {
        let users = self.to_purge.as_ref();
        users.is_some_and(|users| self.partition.setup().has_forgotten(users))
    }

    /// Whether no snapshot was ever taken.
    pub(crate) fn is_unsaved(&self) -> bool {
        self.snapshots.newest().is_none()
    }

    pub(crate) fn partition_mut(&mut self) -> &mut Partition<L> {
        &mut self.partition
    }

    /// The journal has grown elsewhere, behind the position.
    pub(crate) fn goes_by(&mut self, entries: Vec<Entry>) {
        let position = self.partition.position();
        self.journal.next = entries.iter().take_while(|entry| entry.offset < position).count();
        self.journal.entries = entries;
    }

    /// There is no record between the position and `offset`.
    pub(crate) fn pass_to(&mut self, offset: i64) {
        self.partition.pass_to(offset);
    }

    pub fn partition(&self) -> &Partition<L> {
        &self.partition
    }

    /// Everything before it is in ClickHouse.
    pub fn acknowledged(&self) -> i64 {
        self.acknowledged
    }

    /// Whether the next records are wanted with their headers.
    pub fn wants_headers(&self) -> bool {
        let coming = self.journal.entries[self.journal.next..].iter();
        let setups = coming.filter_map(Entry::setup).chain([self.partition.setup()]);
        setups.into_iter().any(|setup| setup.fields.wants_headers())
    }

    /// Applies the next records; what comes into force at one does so first. Those that lie before the position were
    /// applied before.
    pub fn apply_all(&mut self, records: &[Record<'_>]) -> Result<Applied> {
        let mut applied = 0;
        let mut wants_schema = None;
        for together in records.chunks(TOGETHER) {
            if self.wants_past() {
                break;
            }
            if self.is_plain(together) {
                self.apply_together(together)?;
                applied += together.len();
                continue;
            }
            for record in together {
                wants_schema = self.apply(record)?;
                if wants_schema.is_some() || self.wants_past() {
                    break;
                }
                applied += 1;
            }
            if wants_schema.is_some() || self.wants_past() {
                break;
            }
        }
        if let Some(last) = records[..applied].last() {
            self.partition.mark(last);
        }
        Ok(Applied {
            records: applied,
            wants_schema,
            wants_past: self.wants_past(),
        })
    }

    fn wants_past(&self) -> bool {
        matches!(self.past, Past::Wanted)
    }

    /// Whether nothing else is to be done at or before any of these records.
    fn is_plain(&self, records: &[Record<'_>]) -> bool {
        let next = self.journal.entries.get(self.journal.next);
        records.iter().all(|record| {
            (record.offset >= self.partition.position() || bug(Bug::AppliedTwice))
                && !next.is_some_and(|entry| self.is_in_force(entry, record.offset))
                && self
                    .partition
                    .schema_id(record)
                    .is_none_or(|id| !self.wants_answer(id, record.offset))
        })
    }

    fn apply_together(&mut self, records: &[Record<'_>]) -> Result<()> {
        let applied = self.partition.apply_together(records);
        applied.with_context(|| {
            format!(
                "{} behind offset {}",
                self.partition.topic(),
                self.partition.position()
            )
        })
    }

    /// Gives the schema id that must be known first.
    fn apply(&mut self, record: &Record<'_>) -> Result<Option<u32>> {
        if record.offset < self.partition.position() && !bug(Bug::AppliedTwice) {
            return Ok(None);
        }
        while let Some(entry) = self.journal.entries.get(self.journal.next)
            && self.is_in_force(entry, record.offset)
        {
            if let Change::Past { .. } = entry.change {
                self.past = Past::Wanted;
                return Ok(None);
            }
            let entry = entry.clone();
            self.journal.next += 1;
            self.bring_into_force(entry)?;
        }
        if let Some(id) = self.partition.schema_id(record)
            && self.wants_answer(id, record.offset)
        {
            self.asked_at = Some(record.offset);
            return Ok(Some(id));
        }
        self.apply_together(std::slice::from_ref(record))?;
        Ok(None)
    }

    /// Whether an entry of the journal holds for the record at an offset.
    fn is_in_force(&self, entry: &Entry, offset: i64) -> bool {
        let is_early = bug(Bug::SetupAtAnotherOffset) && offset < self.journal.settled_until;
        entry.epoch == self.partition.epoch() && entry.offset <= offset + if is_early { 3 } else { 0 }
    }

    fn wants_answer(&self, id: u32, offset: i64) -> bool {
        if self.answered_at == Some(offset) {
            return false;
        }
        match self.partition.schema(id) {
            Some(Some(_)) => false,
            Some(None) => offset >= self.journal.settled_until,
            None => true,
        }
    }

    /// Says what a schema id stands for, from the record on that asked for it; none: nobody knows it. It is
    /// written down before it is used.
    pub fn answer(&mut self, id: u32, schema: Option<SchemaText>) -> Result<()> {
        self.answered_at = self.asked_at;
        if self.partition.schema(id) == Some(&schema) {
            return Ok(());
        }
        let entry = Entry {
            offset: self.partition.position(),
            epoch: self.partition.epoch(),
            change: Change::Schema { id, schema },
        };
        self.put_into_journal(entry.clone())?;
        self.bring_into_force(entry)
    }

    /// What holds from the position on is let in before the next record comes, which may take its time. With a past it takes
    /// a start.
    fn let_in_due(&mut self) -> Result<()> {
        let position = self.partition.position();
        while let Some(entry) = self.journal.entries.get(self.journal.next)
            && self.is_in_force(entry, position)
        {
            if let Change::Past { .. } = entry.change {
                self.past = Past::Found;
                break;
            }
            let entry = entry.clone();
            self.journal.next += 1;
            self.bring_into_force(entry)?;
        }
        Ok(())
    }

    fn bring_into_force(&mut self, entry: Entry) -> Result<()> {
        tracing::info!(topic = %self.partition.topic(), offset = entry.offset, "{}", entry.change);
        bring_into_force(&mut self.partition, entry.change)
    }

    /// Looks whether something was counted beside.
    fn look_for_past(&mut self) {
        match &mut self.past {
            Past::Nothing if self.rhythm.has_passed(self.rhythm.look_for_past, self.looked_at) => {
                self.looked_at = Instant::now();
                self.ask_for_past();
            }
            Past::Asked(asked) => match asked.try_recv() {
                Err(oneshot::error::TryRecvError::Empty) => {}
                Ok(Ok(news)) if news.forgets || self.is_new(news.made.as_ref()) => self.past = Past::Found,
                Ok(Err(error)) => {
                    let topic = self.partition.topic();
                    tracing::warn!(%topic, "cannot look for what was counted beside: {error:#}");
                    self.past = Past::Nothing;
                }
                Ok(Ok(_)) | Err(oneshot::error::TryRecvError::Closed) => self.past = Past::Nothing,
            },
            Past::Nothing | Past::Found | Past::Wanted => {}
        }
    }

    fn is_new(&self, made: Option<&Made>) -> bool {
        made.is_some_and(|made| self.found != Some(made.counted) && made.counted <= self.acknowledged)
    }

    fn ask_for_past(&mut self) {
        // While snapshots cannot be written, beginning again would read on from an older one.
        let Some(pasts) = self.pasts.clone().filter(|_| !self.snapshots.is_failing()) else {
            return;
        };
        let (topic, epoch) = (self.partition.topic().clone(), self.partition.epoch());
        let entries = self.journal.entries.clone();
        let (answer, asked) = oneshot::channel();
        self.past = Past::Asked(asked);
        self.runtime.spawn(async move {
            let _ = answer.send(pasts.news(&topic, epoch, &entries).await);
        });
    }

    /// Whether something was counted beside that a start would take over, or users are to be forgotten: to be ended, and
    /// started again.
    pub fn wants_to_start_again(&self) -> bool {
        matches!(self.past, Past::Found)
    }

    /// What the journal says comes into force here with what was counted beside does so.
    ///
    /// # Errors
    /// Where that is gone.
    pub async fn take_past(&mut self) -> Result<()> {
        self.past = Past::Nothing;
        let entry = self.journal.entries.get(self.journal.next).cloned();
        let Some(Entry {
            change: Change::Past { setup, state },
            offset,
            ..
        }) = entry
        else {
            return Ok(());
        };
        let topic = self.partition.topic();
        let pasts = self.pasts.as_ref();
        let pasts = pasts.with_context(|| format!("{topic}: what was counted beside is not at hand"))?;
        let past = pasts.state(topic, &state).await?;
        self.journal.next += 1;
        self.partition.pass_to(offset);
        take_over(&mut self.partition, *setup, past)
    }

    /// What is in force from the position on is written down.
    fn put_into_journal(&mut self, entry: Entry) -> Result<()> {
        self.journal.entries.insert(self.journal.next, entry);
        self.journal.next += 1;
        let journal = self.snapshots.placeholder();
        self.runtime
            .block_on(journal.write_journal(&self.journal.entries))
    }

    /// Whether so much waits for ClickHouse that reading should stop.
    pub fn is_full(&self) -> bool {
        self.partition.waiting_bytes() > self.rhythm.max_waiting_bytes
    }

    /// To be called often, between batches of records: looks after acknowledgements, goes on with what is spread out
    /// over many calls, and flushes when it is time.
    pub fn tick(&mut self, end_offset: i64) -> Result<()> {
        self.end_offset = end_offset;
        #[cfg(feature = "bugs")]
        if bug(Bug::ForgetsByTheClock) && self.flushed_at.elapsed() > Duration::from_secs(60) {
            self.partition.forget_message_ids()?;
        }
        self.look_after_flushes()?;
        self.has_snapshots()?;
        self.go_on_capturing(self.rhythm.at_a_time)?;
        self.go_on_settling(self.rhythm.at_a_time)?;
        self.go_on_laying_down(self.rhythm.at_a_time)?;
        self.look_for_past();
        let is_due = self.rhythm.has_passed(self.rhythm.flush, self.flushed_at) || self.is_full();
        if is_due && self.running.is_none() {
            let settles = self.settling.is_none() && (self.few_owe() || self.settles_for_long());
            self.flush(settles, self.is_time_to_capture())?;
        }
        Ok(())
    }

    fn few_owe(&self) -> bool {
        self.partition.owing() <= self.rhythm.few
    }

    fn is_time_to_capture(&self) -> bool {
        self.captured_at.elapsed() >= self.rhythm.snapshot || self.is_time_to_purge()
    }

    /// Where many users owe rows and it is time that they leave them, some do, for so long at most, until few are left
    /// for a flush to wait for.
    fn go_on_settling(&mut self, at_most: Duration) -> Result<()> {
        // Where nothing more comes, nothing is left to wait.
        let is_idle = self.flushed == self.partition.position();
        let is_beat = self.rhythm.has_passed(self.rhythm.settle, self.settled_at);
        let is_time = is_beat || self.is_time_to_capture() || is_idle;
        if !is_time || self.settling.is_some() || self.few_owe() {
            return Ok(());
        }
        let begun = Instant::now();
        self.settles_since.get_or_insert(begun);
        loop {
            let settled = self.partition.settle_some(self.rhythm.users_at_a_time);
            settled.context("the flush failed")?;
            if self.few_owe() || begun.elapsed() >= at_most {
                return Ok(());
            }
        }
    }

    /// Lets users fall asleep who stay away, for so long at most.
    fn go_on_laying_down(&mut self, at_most: Duration) -> Result<()> {
        let begun = Instant::now();
        loop {
            let asleep = self.partition.lay_down_quiet(self.rhythm.users_at_a_time);
            if asleep.context("the flush failed")? == 0 || begun.elapsed() >= at_most {
                return Ok(());
            }
        }
    }

    /// More may come to owe rows than leave them meanwhile.
    fn settles_for_long(&self) -> bool {
        self.settles_since
            .is_some_and(|since| since.elapsed() >= self.rhythm.flush)
    }

    fn flush(&mut self, settles: bool, with_capture: bool) -> Result<()> {
        self.flushed_at = Instant::now();
        self.flushed = self.partition.position();
        self.tell();
        let rows = self.partition.flush_running();
        let (acknowledge, running) = UnderWay::new(());
        let mut acknowledge = vec![acknowledge];
        let (told, after) = oneshot::channel();
        if settles {
            acknowledge.push(told);
        }
        fail_point!("before-flush");
        // On its way before users are asked what they owe, which takes its time where they are many.
        self.writer.send_running(RunningFlush { rows, acknowledge })?;
        self.running = Some(running);
        if settles {
            self.settle(after, with_capture)?;
        }
        Ok(())
    }

    /// Flushes what users owe, behind a flush of all else.
    fn settle(&mut self, after: oneshot::Receiver<()>, with_capture: bool) -> Result<()> {
        self.settled_at = self.flushed_at;
        self.settles_since = None;
        self.let_in_due()?;
        let rows = self.partition.settle().context("the flush failed")?;
        self.settled = Settled::of(&self.partition);
        let position = self.settled.position;
        // What is counted beside is found by its snapshot alone, even where there was nothing to count.
        let is_first = self.is_beside() && self.snapshots.newest().is_none();
        let is_new = self.captured < position || is_first || self.is_time_to_purge();
        let with_snapshot = with_capture && is_new && self.snapshot.is_none() && self.has_snapshots()?;
        if with_snapshot {
            if let Some(users) = self
                .to_purge
                .take_if(|users| self.partition.setup().has_forgotten(users))
            {
                self.snapshots.purge(&users);
            }
            self.begin_capture()?;
        }
        let (acknowledge, settling) = UnderWay::new(Settling {
            position,
            with_snapshot,
        });
        let progress = self.progress();
        self.writer.send_settled(SettledFlush {
            rows,
            after,
            progress,
            acknowledge,
        })?;
        self.settling = Some(settling);
        Ok(())
    }

    fn begin_capture(&mut self) -> Result<()> {
        fail_point!("before-capture");
        let begun = Instant::now();
        self.partition.begin_capture().context("the snapshot failed")?;
        self.captured_at = begun;
        self.captured = self.partition.position();
        self.snapshot = Some(Snapshot {
            begun,
            capture: None,
            is_acknowledged: false,
        });
        self.meters.pause.record(begun.elapsed());
        Ok(())
    }

    /// Captures for so long at most, and publishes what is complete.
    fn go_on_capturing(&mut self, at_most: Duration) -> Result<()> {
        let Some(snapshot) = self.snapshot.as_mut().filter(|one| one.capture.is_none()) else {
            return Ok(());
        };
        let begun = Instant::now();
        loop {
            let more = self.partition.capture_more(self.rhythm.users_at_a_time);
            snapshot.capture = more.context("the snapshot failed")?;
            if snapshot.capture.is_some() || begun.elapsed() >= at_most {
                break;
            }
        }
        self.meters.pause.record(begun.elapsed());
        if let Some(capture) = &snapshot.capture {
            let (users, took) = (capture.users.len(), snapshot.begun.elapsed());
            tracing::debug!(topic = %self.partition.topic(), users, ?took, "snapshot captured");
            self.publish_if_ready();
        }
        Ok(())
    }

    /// Brings the metrics up to date.
    fn tell(&mut self) {
        let position = self.partition.position();
        self.meters.count(&self.partition);
        self.meters.offset.set(position as f64);
        self.meters.end.set(self.end_offset as f64);
        self.meters.lag.set((self.end_offset - position).max(0) as f64);
        self.meters.users.set(self.partition.users() as f64);
        self.meters.snapshot.set(self.covered as f64);
        if position > self.covered {
            self.uncovered_since.get_or_insert_with(Instant::now);
        } else {
            self.uncovered_since = None;
        }
        let uncovered = self
            .uncovered_since
            .map_or(Duration::ZERO, |since| since.elapsed());
        self.meters.uncovered.set(uncovered.as_secs_f64());
        self.meters.waiting.set(self.partition.waiting_bytes() as f64);
        if let Some(watermark) = self.partition.watermark() {
            self.meters.watermark.set(watermark as f64 / 1000.0);
        }
    }

    /// All records before it are in all of the numbers.
    fn progress(&self) -> Rows {
        let now = now_ms();
        let topic = self.partition.topic();
        let mut rows = Rows::default();
        if self.is_beside() {
            return rows;
        }
        rows.row(&PROGRESS)
            .text(&topic.name)
            .i32(topic.partition)
            .u64(self.settled.version)
            .i64(self.settled.position)
            .i64(self.end_offset)
            .i64(self.settled.watermark)
            .i64(now)
            .u64(self.settled.last_record);
        rows
    }

    /// Whether this counts a past, beside the partition's owner.
    fn is_beside(&self) -> bool {
        self.partition.setup().only.is_some()
    }

    fn look_after_flushes(&mut self) -> Result<()> {
        if let Some(running) = take_acknowledged(&mut self.running)? {
            self.meters.flush.record(running.begun.elapsed());
        }
        if let Some(settling) = take_acknowledged(&mut self.settling)? {
            self.meters.settle.record(settling.begun.elapsed());
            self.acknowledged = settling.what.position;
            self.meters.acknowledged.set(self.acknowledged as f64);
            if let Some(snapshot) = self.snapshot.as_mut().filter(|_| settling.what.with_snapshot) {
                snapshot.is_acknowledged = true;
                self.publish_if_ready();
            }
        }
        Ok(())
    }

    /// Publishes the snapshot whose flush is acknowledged and whose capture is complete, whichever came last.
    fn publish_if_ready(&mut self) {
        let ready = self.snapshot.take_if(|one| {
            (one.is_acknowledged || bug(Bug::SnapshotBeforeAcknowledgement)) && one.capture.is_some()
        });
        let Some(capture) = ready.and_then(|one| one.capture) else {
            return;
        };
        fail_point!("before-publishing");
        let (done, publishing) = oneshot::channel();
        let placeholder = self.snapshots.placeholder();
        let mut snapshots = std::mem::replace(&mut self.snapshots, placeholder);
        self.publishing = Some(publishing);
        let publish = self.meters.publish.clone();
        self.runtime.spawn(async move {
            let begun = Instant::now();
            let published = publish_until_done(&mut snapshots, capture, &done).await;
            publish.record(begun.elapsed());
            let _ = done.send(published.map(|()| snapshots));
        });
    }

    /// Whether a snapshot may be taken: none is on its way.
    fn has_snapshots(&mut self) -> Result<bool> {
        let Some(publishing) = &mut self.publishing else {
            return Ok(true);
        };
        match publishing.try_recv() {
            Ok(done) => {
                self.snapshots = done.context("the snapshot could not be published")?;
                self.publishing = None;
                self.covered = self.captured;
                self.uncovered_since = Some(self.captured_at);
                Ok(true)
            }
            Err(oneshot::error::TryRecvError::Empty) => Ok(false),
            Err(oneshot::error::TryRecvError::Closed) => anyhow::bail!("the snapshot task has ended"),
        }
    }

    /// Flushes all, waits until it is acknowledged, and leaves a snapshot.
    pub fn finish(mut self) -> Result<Partition<L>> {
        fail_point!("before-hand-over");
        while !self.go_on_ending()? {
            std::thread::sleep(Duration::from_millis(5));
        }
        fail_point!("after-hand-over");
        Ok(self.partition)
    }

    /// The same for a caller who waits elsewhere: to be called again and again, until all is done.
    pub fn go_on_ending(&mut self) -> Result<bool> {
        self.go_on_capturing(Duration::MAX)?;
        self.look_after_flushes()?;
        let is_waiting = self.running.is_some() || self.settling.is_some() || self.still_publishes();
        if is_waiting || self.ends {
            return Ok(!is_waiting);
        }
        self.ends = true;
        let with_capture = matches!(self.has_snapshots(), Ok(true));
        self.flush(true, with_capture)?;
        Ok(bug(Bug::WorkDroppedAtRevoke))
    }

    /// Whether a snapshot is still waited for. One that cannot be written holds up nobody who hands over: the next owner
    /// reads on from the one before.
    fn still_publishes(&mut self) -> bool {
        let published = self.has_snapshots();
        let topic = self.partition.topic();
        match published {
            Ok(false) if self.snapshots.is_failing() => {
                tracing::warn!(%topic, "the last snapshot cannot be written; the next start reads on from the one before");
                false
            }
            Err(error) => {
                tracing::warn!(%topic, "{error:#}; the next start reads on from an earlier one");
                false
            }
            Ok(is_done) => !is_done,
        }
    }
}

/// The machine's clock; the tests may set it.
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = since.map_or(0, |since| since.as_millis() as i64);
    fail_point!("clock", |ahead| now
        + ahead.and_then(|ms| ms.parse::<i64>().ok()).unwrap_or(0));
    now
}

/// Counting goes on without snapshots, which only bound a replay: one that cannot be written is tried again until it
/// can, or nobody waits for it any more.
async fn publish_until_done(
    snapshots: &mut Snapshots,
    capture: Capture,
    waiting: &oneshot::Sender<Result<Snapshots>>,
) -> Result<()> {
    let publication = snapshots.prepare(capture)?;
    let mut pause = FIRST_PAUSE;
    loop {
        match snapshots.publish(&publication).await {
            Err(error) if !error.is::<Broken>() && !waiting.is_closed() => {
                tracing::warn!("{error:#}; counting goes on, and it is tried again in {pause:?}");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            published => return published,
        }
    }
}

/// What comes with nothing beside.
pub(crate) fn bring_into_force<L: List>(partition: &mut Partition<L>, change: Change) -> Result<()> {
    match change {
        Change::Setup(setup) => change_setup(partition, *setup),
        Change::Schema { id, schema } => {
            partition.learn_schema(id, schema);
            Ok(())
        }
        Change::Past { .. } => anyhow::bail!("{}: what was counted beside is not at hand", partition.topic()),
    }
}

/// A setup comes into force with what was counted beside of its definitions.
pub(crate) fn take_over<L: List>(
    partition: &mut Partition<L>,
    setup: Setup,
    past: Partition<L>,
) -> Result<()> {
    let (topic, offset) = (partition.topic(), partition.position());
    tracing::info!(%topic, offset, "definitions are given their past");
    let taken = partition.take_over(setup, past);
    taken.context("what was counted beside cannot be used")
}

pub(crate) fn change_setup<L: List>(partition: &mut Partition<L>, setup: Setup) -> Result<()> {
    if setup == *partition.setup() {
        return Ok(());
    }
    partition.change_setup(setup).context("the setup cannot be used")
}
