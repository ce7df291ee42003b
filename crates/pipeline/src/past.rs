//! A past for definitions: a state of their own is counted from the log's beginning, beside the one that goes on, and
//! is taken over by it.
//!
//! Two sides share nothing but the place of snapshots. [`Counting`] counts some definitions of a partition up to where the
//! partition's numbers are now, and leaves a state there. Its owner finds it and starts again; the start reads on what lies
//! between that and its own position for these definitions alone, keeps the state apart, and takes it over: at an offset
//! that is journaled then, so that a replay does the same there.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use cambium_engine::{Bug, HashKey, List, Partition, Setup, Topic, bug, of_version};
use cambium_event::{Format, Record, Schemas};
use cambium_snapshots::{Change, Entry, Loaded, Made, Snapshots, Store};

use crate::held::Held;
use crate::owner::{Journal, change_setup};
use crate::{Owner, Start};

/// So many that were taken over are kept.
const TAKEN: usize = 5;
/// For so long ClickHouse is waited for at a start.
const PATIENCE: Duration = Duration::from_secs(30);
/// Nearer than that to where the numbers are, the rest is read on by whoever takes over.
const NEAR: i64 = 20_000;
/// So many records of before the log are counted between two flushes.
const FLUSH_RECORDS: u64 = 50_000;

/// Reads a partition's log again, beside whoever reads it.
pub trait Reader: Send + Sync {
    /// Hands over the records of these offsets, in their order and some at a time.
    fn read(
        &self,
        topic: &Topic,
        offsets: Range<i64>,
        take: &mut dyn FnMut(&[Record<'_>]) -> Result<()>,
    ) -> Result<()>;
}

/// What a partition needs to take over a past.
#[derive(Clone)]
pub struct Pasts {
    pub store: Store,
    pub key: HashKey,
    pub reader: Arc<dyn Reader>,
}

/// The setup under which definitions are counted beside: records are read and judged as in `judging`.
fn beside(judging: &Setup, wanted: &Setup) -> Setup {
    Setup {
        only: wanted.only.clone(),
        ..judging.counting_as(wanted)
    }
}

/// What was found beside the log.
pub(crate) struct News {
    /// A past that waits to be taken over.
    pub made: Option<Made>,
    /// Users are to be forgotten whom the journal does not know yet.
    pub forgets: bool,
}

impl Pasts {
    pub(crate) async fn news(&self, topic: &Topic, epoch: u16, journal: &[Entry]) -> Result<News> {
        let last = journal.iter().rev().find_map(Entry::setup);
        let listed = self.store.forgotten().await?;
        Ok(News {
            made: self.made(topic, epoch, journal).await?,
            forgets: last.is_some_and(|setup| !setup.has_forgotten(&listed)),
        })
    }

    /// Users who are forgotten are part of no file that the journal names: it names files without them then.
    pub(crate) async fn purge(&self, topic: &Topic, journal: &mut [Entry], users: &[u64]) -> Result<()> {
        let taken = self.taken(topic);
        for entry in journal {
            // One that is gone can be of no use any more, nor of harm.
            if let Change::Past { state, .. } = &mut entry.change
                && let Some(name) = taken.without(state, users).await?
            {
                *state = name;
            }
        }
        Ok(())
    }

    /// Deletes what was taken over and is not named by the journal, and what waits for nobody.
    pub(crate) async fn delete_others(&self, topic: &Topic, journal: &[Entry]) -> Result<()> {
        let named = journal.iter().filter_map(|entry| match &entry.change {
            Change::Past { state, .. } => Some(state.clone()),
            _ => None,
        });
        self.taken(topic).retain(&named.collect::<Vec<_>>()).await?;
        let mut beside = self.snapshots(topic);
        if beside.made().await?.is_none() {
            beside.clear().await?;
        }
        Ok(())
    }

    fn snapshots(&self, topic: &Topic) -> Snapshots {
        self.store.beside().partition(topic, 1)
    }

    fn taken(&self, topic: &Topic) -> Snapshots {
        self.store.taken().partition(topic, TAKEN)
    }

    /// What waits to be taken over, if it is of this log and not of the journal already.
    pub(crate) async fn made(&self, topic: &Topic, epoch: u16, journal: &[Entry]) -> Result<Option<Made>> {
        let made = self.snapshots(topic).made().await?;
        Ok(made.filter(|made| {
            let mut setups = journal.iter().filter_map(Entry::setup);
            made.epoch == epoch && !setups.any(|setup| setup.counts_all_of(&made.setup))
        }))
    }

    /// The state that was counted beside, by the name that the journal has.
    pub(crate) async fn state<L: List>(&self, topic: &Topic, name: &str) -> Result<Partition<L>> {
        let loaded = self.taken(topic).load_file(name).await.with_context(|| {
            format!(
                "{topic}: definitions were given their past from ~taken/{}/{}/{name}, which is gone. Restore it beside the \
                 snapshots",
                topic.name, topic.partition
            )
        })?;
        self.restored(loaded)
    }

    fn restored<L: List>(&self, loaded: Loaded) -> Result<Partition<L>> {
        let partition = Partition::restore(&loaded.head, loaded.users, self.key);
        partition.context("what was counted beside cannot be used")
    }

    /// Reads on from where counting beside ended, and leaves the state, by the name that is given, and the rows in
    /// ClickHouse: then the journal may say that it comes into force there.
    pub(crate) async fn bring_to<L: List, H>(
        &self,
        start: &Start<H>,
        (journal, forgotten): (&[Entry], &[u64]),
        made: &Made,
        offset: i64,
    ) -> Result<(Partition<L>, String)> {
        let topic = &start.topic;
        let mut snapshots = self.snapshots(topic);
        let place = (made.epoch, made.counted);
        let loaded = load_at(&mut snapshots, place).await?;
        let mut past = self.restored(loaded.context("it is no longer there")?)?;
        past.leave_out(forgotten);
        self.read_on(&mut past, journal, made.counted..offset)?;
        let rows = past.flush()?;
        if !bug(Bug::PastBeforeRows) {
            let written = tokio::time::timeout(PATIENCE, start.writer.write(rows)).await;
            written.context("ClickHouse does not take the rows in time")??;
        }
        let publication = snapshots.prepare(past.capture()?)?;
        snapshots.publish(&publication).await?;
        // Apart from where counting beside may begin anew.
        let name = self.taken(topic).take_from(&snapshots).await?;
        Ok((past, name))
    }

    fn read_on<L: List>(
        &self,
        past: &mut Partition<L>,
        journal: &[Entry],
        offsets: Range<i64>,
    ) -> Result<()> {
        let (topic, wanted) = (past.topic().clone(), past.setup().clone());
        let epoch = past.epoch();
        let of_log = journal.iter().filter(|entry| entry.epoch == epoch);
        let coming: Vec<&Entry> = of_log
            .clone()
            .filter(|entry| offsets.contains(&entry.offset))
            .collect();
        let mut coming = coming.into_iter().peekable();
        let until = offsets.end;
        self.reader.read(&topic, offsets, &mut |records| {
            for record in records {
                while let Some(entry) = coming.next_if(|entry| entry.offset <= record.offset) {
                    enter(past, &entry.change, &wanted)?;
                }
                past.apply(record)?;
            }
            if let Some(last) = records.last() {
                past.mark(last);
            }
            Ok(())
        })?;
        past.pass_to(until);
        // What enters just there, or had no record behind it yet.
        let last = of_log.filter(|entry| entry.offset <= until && entry.setup().is_some());
        if let Some(last) = last.into_iter().next_back() {
            enter(past, &last.change, &wanted)?;
        }
        Ok(())
    }
}

/// The state of just this place, if it is there and whole.
async fn load_at(snapshots: &mut Snapshots, place: (u16, i64)) -> Result<Option<Loaded>> {
    let is_there = |loaded: &Loaded| {
        ensure!((loaded.epoch, loaded.position) == place, "it is of another place");
        Ok(())
    };
    Ok(snapshots.load(is_there).await?.0)
}

/// What comes into force for the partition's owner does so here, as far as it decides how records are read and judged.
fn enter<L: List>(partition: &mut Partition<L>, change: &Change, wanted: &Setup) -> Result<()> {
    match change {
        Change::Setup(setup) | Change::Past { setup, .. } => change_setup(partition, beside(setup, wanted)),
        Change::Schema { id, schema } => {
            partition.learn_schema(*id, schema.clone());
            Ok(())
        }
    }
}

/// Where a partition took over what was counted beside for these definitions, if it did.
pub async fn taken_over(snapshots: &Snapshots, setup: &Setup) -> Result<Option<i64>> {
    let journal = snapshots.journal().await?;
    let taken = journal.iter().rev().find(|entry| match &entry.change {
        Change::Past { setup: given, .. } => given.counts_all_of(setup),
        _ => false,
    });
    Ok(taken.map(|entry| entry.offset))
}

/// The log no longer holds where counting beside began, and what was counted of it is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the log begins at {earliest}, and counting beside had begun at {begun}")]
pub struct BeginsLater {
    pub begun: i64,
    pub earliest: i64,
}

/// A record of before the log.
pub struct InFront {
    /// The number of its schema; none: it is JSON.
    pub schema: Option<u32>,
    pub payload: Vec<u8>,
}

/// Some definitions of a partition, on the way from its log's beginning to where the partition's numbers are.
pub struct Counting<L: List, H> {
    start: Start<H>,
    wanted: Setup,
    epoch: u16,
    earliest: i64,
    owner: Owner<L>,
    until: i64,
}

impl<L: List, H: Held> Counting<L, H> {
    /// `start.setup` is what is to be counted, `only` those of it that are counted here, by kind and name; `begun` is where
    /// the log began when this was begun: cut off since, it goes on where it was. None: nobody counts the partition.
    ///
    /// # Errors
    /// [`BeginsLater`] where it can neither go on nor begin there.
    pub async fn begin(
        start: Start<H>,
        only: &[(String, String)],
        (begun, earliest): (i64, i64),
    ) -> Result<Option<Self>> {
        let wanted = Setup {
            only: Some(only.to_vec()),
            ..start.setup.clone()
        };
        let entries = start.store.partition(&start.topic, start.keep).journal().await?;
        let Some(epoch) = entries.last().map(|entry| entry.epoch) else {
            return Ok(None);
        };
        let journal = journal_beside(&entries, epoch, &wanted);
        let mut snapshots = start.store.beside().partition(&start.topic, 1);
        let (mut partition, next) = begin(&start, &mut snapshots, &journal, (epoch, begun, earliest)).await?;
        partition.leave_out(&start.store.forgotten().await?);
        let position = partition.position();
        let journal = Journal {
            entries: journal,
            next,
            settled_until: i64::MAX,
        };
        let (writer, rhythm) = (start.writer.clone(), start.rhythm);
        let mut counting = Counting {
            owner: Owner::new(partition, journal, snapshots, writer, rhythm, position),
            start,
            wanted,
            epoch,
            earliest,
            until: position,
        };
        counting.until = counting.where_numbers_are().await?.max(position);
        Ok(Some(counting))
    }

    /// Where nothing was counted yet, nothing is there to be counted beside.
    async fn where_numbers_are(&self) -> Result<i64> {
        let progress = self.start.held.progress(&self.start.topic).await?;
        Ok(
            progress.map_or(self.earliest, |progress| match of_version(progress.version) {
                (epoch, offset) if epoch == self.epoch => offset,
                _ => self.earliest,
            }),
        )
    }

    /// Whether what lies in front of the log is still to be counted.
    pub fn is_at_front(&self) -> bool {
        self.owner.is_unsaved()
    }

    /// Counts records of before the log, in their order, as JSON or in one of these schemas; gives how many. What is cut off
    /// on the way is counted again as a whole.
    pub fn read_front(
        &mut self,
        schemas: &Schemas,
        records: impl Iterator<Item = Result<InFront>>,
    ) -> Result<u64> {
        let runtime = tokio::runtime::Handle::current();
        let partition = self.owner.partition_mut();
        let (setup, position) = (partition.setup().clone(), partition.position());
        let of_files = Setup {
            format: Format::Json,
            ..setup.clone()
        };
        change_setup(partition, of_files)?;
        for (id, schema) in schemas {
            partition.learn_schema(*id, schema.clone());
        }
        let mut count = 0;
        for record in records {
            let InFront { schema, payload } = record?;
            let record = Record {
                offset: position,
                schema,
                payload: Some(&payload),
                ..Record::default()
            };
            partition.apply_in_front(&record)?;
            count += 1;
            // One after the other: of two with one version the later one holds.
            if count % FLUSH_RECORDS == 0 {
                runtime.block_on(self.start.writer.write(partition.flush()?))?;
            }
        }
        change_setup(partition, setup)?;
        runtime.block_on(self.start.writer.write(partition.flush_front()?))?;
        Ok(count)
    }

    /// Reads on to where the numbers were when that was asked last. Calls `wait` while ClickHouse is waited for, and
    /// `tell` with where it is and where it goes.
    pub fn read(
        &mut self,
        reader: &dyn Reader,
        wait: &dyn Fn(),
        tell: &mut dyn FnMut(i64, i64),
    ) -> Result<()> {
        let (owner, until) = (&mut self.owner, self.until);
        let topic = &self.start.topic;
        let position = owner.partition().position();
        tell(position, until);
        reader.read(topic, position..until, &mut |records| {
            if let Some(id) = owner.apply_all(records)?.wants_schema {
                bail!("{topic}: what schema {id} is was not written down; the journal has been changed");
            }
            owner.tick(until)?;
            while owner.is_full() {
                wait();
                owner.tick(until)?;
            }
            tell(owner.partition().position(), until);
            Ok(())
        })?;
        owner.pass_to(until);
        tell(until, until);
        Ok(())
    }

    /// Whether the numbers have gone so much further that it is worth reading on.
    pub async fn is_far(&mut self) -> Result<bool> {
        let now = self.where_numbers_are().await?;
        // What came into force meanwhile lies behind what was read.
        let of_owner = self.start.store.partition(&self.start.topic, self.start.keep);
        let entries = of_owner.journal().await?;
        ensure!(
            entries.last().is_some_and(|entry| entry.epoch == self.epoch),
            "{}: it was created again while its past was counted; start again",
            self.start.topic
        );
        if now - self.until <= NEAR {
            return Ok(false);
        }
        self.owner
            .goes_by(journal_beside(&entries, self.epoch, &self.wanted));
        self.until = now;
        Ok(true)
    }

    /// To be called again and again, until what was counted is safe.
    pub fn go_on_ending(&mut self) -> Result<bool> {
        self.owner.go_on_ending()
    }

    /// Lets the partition's owner take it over, when it is seen to be there.
    pub async fn leave(self) -> Result<()> {
        let mut beside = self.start.store.beside().partition(&self.start.topic, 1);
        let place = (self.epoch, self.owner.partition().position());
        load_at(&mut beside, place).await?.with_context(|| {
            let topic = &self.start.topic;
            format!("{topic}: what was counted cannot be read from where it was written; start again")
        })?;
        let made = Made {
            epoch: self.epoch,
            counted: self.owner.partition().position(),
            setup: self.start.setup,
        };
        beside.write_made(Some(&made)).await
    }
}

/// The owner's journal of this log, as it counts beside.
fn journal_beside(entries: &[Entry], epoch: u16, wanted: &Setup) -> Vec<Entry> {
    let of_entry = |entry: &Entry| match &entry.change {
        Change::Setup(setup) | Change::Past { setup, .. } => Change::Setup(Box::new(beside(setup, wanted))),
        schema => schema.clone(),
    };
    let of_log = entries.iter().filter(|entry| entry.epoch == epoch);
    let entries = of_log.map(|entry| Entry {
        change: of_entry(entry),
        ..entry.clone()
    });
    entries.collect()
}

/// The state that was begun before, if it is of the same definitions; or one that begins where the log does. And how
/// much of the journal is in force there.
async fn begin<L: List, H: Held>(
    start: &Start<H>,
    snapshots: &mut Snapshots,
    journal: &[Entry],
    (epoch, begun, earliest): (u16, i64, i64),
) -> Result<(Partition<L>, usize)> {
    snapshots.write_made(None).await?;
    let (loaded, _) = snapshots.load(|_| Ok(())).await?;
    let restored = loaded.map(|loaded| Partition::restore(&loaded.head, loaded.users, start.key));
    // Before the first setup that is known, records were judged as then.
    let setups = journal.iter().filter_map(Entry::setup);
    let setup_at = |offset: i64| {
        let before = journal.iter().take_while(|entry| entry.offset <= offset);
        let before = before.filter_map(Entry::setup).last();
        before.or_else(|| setups.clone().next()).cloned()
    };
    if let Some(Ok(partition)) = restored {
        let is_same = setup_at(partition.position() - 1).as_ref() == Some(partition.setup());
        if is_same && partition.epoch() == epoch && partition.position() >= earliest {
            let in_force = journal
                .iter()
                .take_while(|entry| entry.offset < partition.position());
            let in_force = in_force.count();
            return Ok((partition, in_force));
        }
    }
    if begun < earliest {
        return Err(BeginsLater { begun, earliest }.into());
    }
    snapshots.clear().await?;
    let setup = setup_at(earliest).with_context(|| format!("{}: its journal is gone", start.topic))?;
    let partition = Partition::new(start.topic.clone(), earliest, epoch, setup, start.key);
    Ok((partition.context("the setup cannot be used")?, 0))
}
