//! How a partition starts: what is there decides. A start that would lose something refuses, and
//! names the ways.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use cambium_clickhouse::{Client, Writer};
use cambium_engine::{
    Bug, Found, HashKey, List, Mark, Partition, Setup, Topic, bug, of_version, origin_hash, quoted,
    saved_setup, version,
};
use cambium_snapshots::{Change, Creation, Entry, Loaded, Made, Store};
use fail::fail_point;

use crate::held::{Held, versioned_tables};
use crate::owner::{Journal, bring_into_force, take_over};
use crate::past::{Pasts, Reader};
use crate::{Owner, Rhythm};

/// What the log holds.
#[derive(Clone, Copy)]
pub struct Log<'l> {
    pub earliest: i64,
    pub end: i64,
    /// Where the very first start begins.
    pub first: i64,
    /// Tells a topic from one that is created again under its name, where there is such a thing.
    pub id: Option<&'l str>,
    /// How many partitions the topic has.
    pub partitions: usize,
    pub look: &'l dyn Fn(i64) -> Result<Found>,
}

impl Log<'_> {
    /// Whether another record stands where this one stood, or none: it is another log. One that has been
    /// forgotten since says nothing.
    fn contradicts(&self, mark: Option<Mark>) -> Result<bool> {
        let Some(mark) = mark.filter(|mark| (self.earliest..self.end).contains(&mark.offset)) else {
            return Ok(false);
        };
        Ok(match (self.look)(mark.offset)? {
            Found::Record(found) => found != mark,
            Found::Nothing => !bug(Bug::HoleOverlooked),
            Found::Unknown => false,
        })
    }

    /// Whether another topic was counted in an epoch.
    fn is_another(&self, creations: &[Creation], epoch: u16) -> bool {
        let counted = creations.iter().find(|one| one.epoch == epoch);
        counted.is_some_and(|counted| self.is_not(counted))
    }

    /// Whether it is not the topic that was counted. Where an id is lacking, nobody knows.
    fn is_not(&self, counted: &Creation) -> bool {
        let ids = counted.id.as_deref().zip(self.id);
        ids.is_some_and(|(counted, now)| counted != now)
    }
}

/// What ClickHouse holds of a partition.
#[derive(Clone, Copy)]
struct Written {
    epoch: u16,
    /// The highest version that any table holds.
    offset: i64,
    /// The last record that is known to be in all of them.
    last: Option<Mark>,
}

/// What a partition is started with.
#[derive(Clone)]
pub struct Start<H = Client> {
    pub topic: Topic,
    pub setup: Setup,
    pub key: HashKey,
    pub store: Store,
    pub keep: usize,
    /// Where rows are held that were written before.
    pub held: H,
    pub writer: Writer,
    pub rhythm: Rhythm,
    /// Go on where something is lost, and leave a row in `gaps`.
    pub accept_gap: bool,
    /// Reads the log again, where it can be; for definitions that are given a past.
    pub reader: Option<Arc<dyn Reader>>,
}

impl<H> Start<H> {
    fn pasts(&self) -> Option<Pasts> {
        self.reader.clone().map(|reader| Pasts {
            store: self.store.clone(),
            key: self.key,
            reader,
        })
    }
}

/// A configuration's setup as the journal has it: a generation that is counted and not shown yet goes on being counted; and
/// a process that was started before definitions were given their past does not take it from them.
///
/// Who was forgotten once stays so.
fn as_journaled(setup: &Setup, journal: &[Entry]) -> Setup {
    let mut with_setup = journal.iter().rev().filter(|entry| entry.setup().is_some());
    let Some(last) = with_setup.next() else {
        return setup.clone();
    };
    let setup = &setup.forgetting(forgotten_in(journal));
    let before = with_setup.next().and_then(Entry::setup);
    if let Change::Past { setup: given, .. } = &last.change
        && before.is_some_and(|before| setup.with_later_generations(before) == *before)
    {
        return (**given).clone();
    }
    match last.setup() {
        Some(last) => setup.with_later_generations(last),
        None => setup.clone(),
    }
}

/// Who is forgotten behind all that the journal says.
fn forgotten_in(journal: &[Entry]) -> &[u64] {
    let last = journal.iter().rev().find_map(Entry::setup);
    last.map_or(&[], |setup| &setup.forgotten)
}

/// A start that would lose something.
#[derive(Debug, PartialEq, Eq)]
pub enum StartError {
    /// The snapshot's offset lies before what the log still holds.
    LogBeginsLater {
        topic: Topic,
        snapshot: i64,
        earliest: i64,
    },
    /// The log ends before the offset up to which it was counted: it is another log of that name.
    LogIsAnother { topic: Topic, counted: i64, end: i64 },
    /// The topic has another id than the one that was counted.
    TopicIsAnother { topic: Topic },
    /// The topic has another number of partitions than when counting began: users move between them.
    TopicHasGrown { topic: Topic, was: usize, is: usize },
    /// The last record that was counted does not stand where it stood: it is another log of that name.
    RecordIsAnother { topic: Topic, offset: i64 },
    /// No snapshot, and what was counted rests on an earlier log of that name too.
    RestsOnEarlierLog { topic: Topic, written: i64 },
    /// No snapshot, and the log no longer holds everything since the beginning.
    NothingToGoOnFrom {
        topic: Topic,
        begun: i64,
        earliest: i64,
        written: i64,
    },
    /// Counting would begin anew, while another process goes on with the old state.
    CountedElsewhere { topic: Topic },
}

/// The ways that a person has.
const GO_ON_OVER_ANOTHER: &str = "Give the old topic back, or start with --accept-gap to let counting go on over the \
                                  new one from its beginning; `gaps` will say so";
const BEGIN_ANEW: &str = "Restore the snapshots, or end every process that counts this topic (what one goes on to write would \
                          be counted twice) and start with --accept-gap: counting begins anew";

impl std::error::Error for StartError {}

impl StartError {
    /// Whether the topic was created again, so that its offsets began anew.
    fn is_another_log(&self) -> bool {
        matches!(
            self,
            StartError::LogIsAnother { .. }
                | StartError::TopicIsAnother { .. }
                | StartError::RecordIsAnother { .. }
        )
    }
}

impl std::fmt::Display for StartError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StartError::LogBeginsLater {
                topic,
                snapshot,
                earliest,
            } => write!(
                out,
                "{topic}: the snapshot ends at offset {snapshot}, but the log begins at {earliest}: offsets {snapshot} \
                 to {earliest} are lost. Restore them, or start with --accept-gap to go on without them; `gaps` will say so"
            ),
            StartError::LogIsAnother { topic, counted, end } => write!(
                out,
                "{topic}: it was counted up to offset {counted}, but the log ends at {end}: the topic was created \
                 again. {GO_ON_OVER_ANOTHER}"
            ),
            StartError::TopicIsAnother { topic } => {
                write!(out, "{topic}: the topic was created again. {GO_ON_OVER_ANOTHER}")
            }
            StartError::TopicHasGrown { topic, was, is } => {
                let name = &topic.name;
                write!(
                    out,
                    "{topic}: the topic has {is} partitions and had {was} when counting began: users would move between \
                     them, and be counted on both. Copy it to a topic of that size (cambium rekey --from {name} --to NEW \
                     --partitions {is}) and count that into a database of its own, or count its files again (cambium \
                     replay)"
                )
            }
            StartError::RecordIsAnother { topic, offset } => write!(
                out,
                "{topic}: at offset {offset} the record that was counted is not to be found: the topic was created \
                 again. {GO_ON_OVER_ANOTHER}"
            ),
            StartError::RestsOnEarlierLog { topic, written } => write!(
                out,
                "{topic}: there is no readable snapshot, and the topic was created again since counting began: what \
                 was counted of the earlier one cannot be counted again. {BEGIN_ANEW} at {written}, where the rows in \
                 ClickHouse end"
            ),
            StartError::NothingToGoOnFrom {
                topic,
                begun,
                earliest,
                written,
            } => write!(
                out,
                "{topic}: there is no readable snapshot, and the log begins at {earliest}, behind where counting \
                 began ({begun}). {BEGIN_ANEW} at {written}, \
                 where the rows in ClickHouse end"
            ),
            StartError::CountedElsewhere { topic } => write!(
                out,
                "{topic}: another process is counting it: if counting began anew beside that, records would be counted \
                 twice. End every other process, and start with --accept-gap again"
            ),
        }
    }
}

/// Starts a partition as the table of starts says (ARCHITECTURE.md).
pub async fn start<L: List, H: Held>(start: Start<H>, log: Log<'_>) -> Result<Owner<L>> {
    let mut snapshots = start.store.partition(&start.topic, start.keep);
    let mut journal = snapshots.journal().await?;
    let written_journal = journal.clone();
    let (loaded, passed_over) = snapshots.load(|loaded| goes_with(&journal, loaded)).await?;
    for why in passed_over {
        tracing::warn!(topic = %start.topic, "a snapshot is passed over: {why}");
    }
    let mut creations = snapshots.creations().await?;
    refuse_growth(&start, log, &creations).await?;
    let written = written(&start, &journal).await?;
    let begun = begin::<L, H>(&start, log, loaded, (&journal, &creations), written).await?;
    let mut partition = begun.partition;
    let listed = start.store.forgotten().await?;
    partition.leave_out(&listed);
    partition.leave_out(forgotten_in(&journal));
    let (epoch, position) = (partition.epoch(), partition.position());
    let creation = Creation {
        epoch,
        id: log.id.map(str::to_owned),
        partitions: log.partitions,
    };
    if !creations.contains(&creation) {
        creations.retain(|one| one.epoch != epoch);
        creations.push(creation);
        snapshots.write_creations(&creations).await?;
    }
    journal.retain(|entry| match begun.keeps {
        Keeps::All => true,
        Keeps::Before => (entry.epoch, entry.offset) < (epoch, position),
    });
    // Of an earlier log it says nothing of this one.
    let settled = written.filter(|written| written.epoch == epoch);
    let settled_until = settled.map_or(0, |written| written.offset);
    let last = journal.iter().rev().find_map(Entry::setup);
    let mut wanted = as_journaled(&start.setup, &journal);
    let is_first_of_log = journal.iter().all(|entry| entry.epoch != epoch);
    let mut changes = last.unwrap_or(partition.setup()) != &wanted || is_first_of_log;
    let pasts = start.pasts();
    // Behind everything that was written under the old one, so that no row mixes the two.
    let offset = if is_first_of_log {
        position
    } else {
        position.max(settled_until)
    };
    let made = match &pasts {
        Some(pasts) => pasts.made(&start.topic, epoch, &journal).await?,
        None => None,
    };
    let found = made.as_ref().map(|made| made.counted);
    // Unless the configuration says since then that something else is to be counted; or another release made it, or under
    // another key.
    let is_wanted = |made: &Made| {
        let counts_alike = made.setup.semantics == wanted.semantics && made.setup.hash_key == wanted.hash_key;
        made.counted <= offset
            && counts_alike
            && (!changes || wanted.in_first_generations() == made.setup.in_first_generations())
    };
    let mut past = None;
    if let Some((pasts, made)) = pasts.as_ref().zip(made.filter(is_wanted)) {
        let brought = pasts.bring_to(&start, (&journal, &listed), &made, offset).await;
        past = match brought {
            Ok((past, state)) => Some((past, state, made.setup)),
            Err(error) => {
                let topic = &start.topic;
                tracing::warn!(%topic, "what was counted beside cannot be taken over: {error:#}. Start again to try once more, or run `cambium replay --topic` again");
                None
            }
        };
    }
    let enter = |change: Change| Entry {
        offset,
        epoch,
        change,
    };
    let mut taken = None;
    if let Some((past, state, given)) = past {
        wanted = wanted.with_past(&given);
        taken = Some((journal.len(), past));
        let setup = Box::new(wanted.clone());
        journal.push(enter(Change::Past { setup, state }));
        changes = false;
    }
    // Behind what is taken over, in which they are still.
    if !wanted.has_forgotten(&listed) {
        wanted = wanted.forgetting(&listed);
        changes = true;
    }
    let forgotten = wanted.forgotten.clone();
    if changes {
        journal.push(enter(Change::Setup(Box::new(wanted))));
    }
    let is_purged = snapshots.has_purged(&forgotten).await?;
    if let Some(pasts) = pasts.as_ref().filter(|_| !is_purged) {
        pasts.purge(&start.topic, &mut journal, &forgotten).await?;
    }
    if journal != written_journal {
        snapshots.write_journal(&journal).await?;
        fail_point!("after-journaling");
    }
    if let Some(pasts) = pasts.as_ref().filter(|_| !is_purged) {
        pasts.delete_others(&start.topic, &journal).await?;
    }
    let mut journal = Journal {
        next: journal
            .iter()
            .take_while(|entry| (entry.epoch, entry.offset) < begun.counted)
            .count(),
        entries: journal,
        settled_until,
    };
    while let Some(entry) = journal.entries.get(journal.next)
        && (entry.epoch, entry.offset) <= (epoch, position)
    {
        match (&entry.change, &pasts) {
            (Change::Past { setup, state }, Some(pasts)) => {
                let past = match taken.take_if(|(place, _)| *place == journal.next) {
                    Some((_, past)) => past,
                    None => pasts.state(&start.topic, state).await?,
                };
                take_over(&mut partition, (**setup).clone(), past)?;
            }
            _ => bring_into_force(&mut partition, entry.change.clone())?,
        }
        journal.next += 1;
    }
    // Counted again from where they were not forgotten yet, they come into snapshots again.
    let is_in_force = partition.setup().has_forgotten(&forgotten);
    if is_purged && !is_in_force {
        snapshots.is_no_longer_purged().await?;
    }
    let to_purge = (!is_purged || !is_in_force).then_some(forgotten);
    let owner = Owner::new(partition, journal, snapshots, start.writer, start.rhythm, log.end);
    Ok(owner.with_pasts(pasts, found).with_users_to_purge(to_purge))
}

/// Refuses a topic to which partitions were added; a new one has no past of its own to tell by.
async fn refuse_growth<H>(start: &Start<H>, log: Log<'_>, creations: &[Creation]) -> Result<()> {
    let mut counted = creations.last().cloned();
    if counted.is_none() {
        let first = Topic {
            partition: 0,
            ..start.topic.clone()
        };
        let first = start.store.partition(&first, start.keep);
        counted = first.creations().await?.pop();
    }
    match counted {
        Some(counted) if !log.is_not(&counted) && counted.partitions != log.partitions => {
            Err(StartError::TopicHasGrown {
                topic: start.topic.clone(),
                was: counted.partitions,
                is: log.partitions,
            }
            .into())
        }
        _ => Ok(()),
    }
}

/// What was written down beside the snapshots: the journal, and which topics were counted.
type Known<'k> = (&'k [Entry], &'k [Creation]);

/// Whether a snapshot was taken under the setup that the journal says: an owner who did not know of it may have gone on
/// behind the offset at which it entered.
fn goes_with(journal: &[Entry], loaded: &Loaded) -> Result<()> {
    let of_log = |entry: &&Entry| entry.epoch == loaded.epoch && entry.offset <= loaded.position;
    let setups = journal
        .iter()
        .filter(of_log)
        .filter_map(|entry| Some((entry.offset, entry.setup()?)));
    // What enters at its position may or may not be in force in it: a start lets it in again.
    let last_before = setups.clone().rfind(|(offset, _)| *offset < loaded.position);
    let entering = setups.filter(|(offset, _)| *offset == loaded.position);
    let mut in_force = last_before
        .into_iter()
        .chain(entering)
        .map(|(_, setup)| setup)
        .peekable();
    // One that cannot be read is no matter of this; it is said where it is restored.
    let (Some(_), Ok(saved)) = (in_force.peek(), saved_setup(&loaded.head)) else {
        return Ok(());
    };
    ensure!(
        in_force.any(|setup| saved == *setup) || bug(Bug::SnapshotOfAnotherSetup),
        "it was taken under another setup than was in force"
    );
    Ok(())
}

struct Begun<L: List> {
    partition: Partition<L>,
    keeps: Keeps,
    /// Up to here the state was counted: what is journaled before it is in force.
    counted: (u16, i64),
}

/// What of the journal still holds.
enum Keeps {
    /// Also of earlier logs, to tell which of their snapshots hold.
    All,
    /// What came before the state's beginning.
    Before,
}

async fn begin<L: List, H: Held>(
    start: &Start<H>,
    log: Log<'_>,
    loaded: Option<Loaded>,
    known: Known<'_>,
    written: Option<Written>,
) -> Result<Begun<L>> {
    let Some(loaded) = loaded else {
        return begin_without_snapshot(start, log, known, written).await;
    };
    let partition: Partition<L> =
        Partition::restore(&loaded.head, loaded.users, start.key).context("the snapshot cannot be used")?;
    match why_not_here(start, log, &partition, known.1)? {
        None => {
            tracing::info!(topic = %start.topic, offset = loaded.position, "goes on from its snapshot");
            Ok(Begun {
                counted: (partition.epoch(), partition.position()),
                partition,
                keeps: Keeps::All,
            })
        }
        Some(error) => go_on_elsewhere(start, log, partition, error).await,
    }
}

/// Why a state cannot go on where it ended.
fn why_not_here<L: List, H>(
    start: &Start<H>,
    log: Log<'_>,
    partition: &Partition<L>,
    creations: &[Creation],
) -> Result<Option<StartError>> {
    let (topic, snapshot) = (start.topic.clone(), partition.position());
    let (earliest, end) = (log.earliest, log.end);
    Ok(if log.is_another(creations, partition.epoch()) {
        Some(StartError::TopicIsAnother { topic })
    } else if snapshot > end {
        Some(StartError::LogIsAnother {
            topic,
            counted: snapshot,
            end,
        })
    } else if snapshot < earliest {
        Some(StartError::LogBeginsLater {
            topic,
            snapshot,
            earliest,
        })
    } else if log.contradicts(partition.last())? {
        Some(StartError::RecordIsAnother {
            topic,
            offset: snapshot - 1,
        })
    } else {
        None
    })
}

async fn go_on_elsewhere<L: List, H: Held>(
    start: &Start<H>,
    log: Log<'_>,
    mut partition: Partition<L>,
    error: StartError,
) -> Result<Begun<L>> {
    if !start.accept_gap {
        return Err(error.into());
    }
    let (snapshot, is_another) = (partition.position(), error.is_another_log());
    // What was journaled behind it comes into force where it goes on.
    let counted = (partition.epoch(), snapshot);
    partition
        .skip_to(log.earliest, is_another)
        .context("the state cannot go on")?;
    put_gap(start, snapshot, log.earliest, &error.to_string()).await?;
    Ok(Begun {
        partition,
        keeps: Keeps::All,
        counted,
    })
}

async fn begin_without_snapshot<L: List, H: Held>(
    start: &Start<H>,
    log: Log<'_>,
    (journal, creations): Known<'_>,
    written: Option<Written>,
) -> Result<Begun<L>> {
    let first = journal
        .iter()
        .find_map(|entry| Some((entry.offset, entry.setup()?.clone())));
    let recorded = start.held.first_origin(&start.topic).await?;
    let (Some(written), Some(begun)) = (written, recorded.or(first.as_ref().map(|(at, _)| *at))) else {
        tracing::info!(topic = %start.topic, offset = log.first, "starts for the first time");
        return begin_at(start, log.first, 0, None);
    };
    let Some(error) = why_not_again(start, log, begun, (written, creations))? else {
        tracing::warn!(topic = %start.topic, offset = begun, "has no snapshot: counts again from where counting began");
        return begin_at(start, begun, written.epoch, first.map(|(_, setup)| setup));
    };
    if !start.accept_gap {
        return Err(error.into());
    }
    let written = when_nobody_counts(start, journal).await?.unwrap_or(written);
    let (at, epoch) = if error.is_another_log() {
        (log.earliest, written.epoch + 1)
    } else {
        (written.offset.max(log.earliest), written.epoch)
    };
    put_gap(start, begun, at, &error.to_string()).await?;
    begin_at(start, at, epoch, None)
}

/// What is held, when an owner who is still there would have moved `progress`. A state that begins anew has rows of its
/// own, over which those of the old one do not lose: what its owner counted from now on would be counted twice.
async fn when_nobody_counts<H: Held>(start: &Start<H>, journal: &[Entry]) -> Result<Option<Written>> {
    let before = start.held.progress(&start.topic).await?;
    tokio::time::sleep(start.rhythm.settle + 2 * start.rhythm.flush).await;
    let after = start.held.progress(&start.topic).await?;
    if before.map(|progress| progress.flushed_at) != after.map(|progress| progress.flushed_at) {
        let topic = start.topic.clone();
        return Err(StartError::CountedElsewhere { topic }.into());
    }
    written(start, journal).await
}

/// Why a log cannot be counted again from where counting began.
fn why_not_again<H>(
    start: &Start<H>,
    log: Log<'_>,
    begun: i64,
    (written, creations): (Written, &[Creation]),
) -> Result<Option<StartError>> {
    let topic = start.topic.clone();
    if log.is_another(creations, written.epoch) {
        return Ok(Some(StartError::TopicIsAnother { topic }));
    }
    if written.offset > log.end {
        return Ok(Some(StartError::LogIsAnother {
            topic,
            counted: written.offset,
            end: log.end,
        }));
    }
    if let Some(last) = written.last
        && log.contradicts(written.last)?
    {
        return Ok(Some(StartError::RecordIsAnother {
            topic,
            offset: last.offset,
        }));
    }
    let (earliest, epoch, written) = (log.earliest, written.epoch, written.offset);
    Ok(if begun < earliest {
        Some(StartError::NothingToGoOnFrom {
            topic,
            begun,
            earliest,
            written,
        })
    } else if epoch > 0 {
        Some(StartError::RestsOnEarlierLog { topic, written })
    } else {
        None
    })
}

/// A state that begins with nothing; under the setup that was in force there, if it is known.
fn begin_at<L: List, H>(start: &Start<H>, at: i64, epoch: u16, setup: Option<Setup>) -> Result<Begun<L>> {
    let keeps = if setup.is_some() {
        Keeps::All
    } else {
        Keeps::Before
    };
    let setup = setup.unwrap_or_else(|| start.setup.clone());
    let partition = Partition::new(start.topic.clone(), at, epoch, setup, start.key);
    Ok(Begun {
        partition: partition.context("the setup cannot be used")?,
        keeps,
        counted: (epoch, at),
    })
}

/// Makes a log be counted anew from its beginning under the present definitions: its next start finds no
/// snapshot. All else stays as it was at each offset, so that what is counted already comes out the same.
pub async fn count_anew(start: &Start) -> Result<()> {
    let mut snapshots = start.store.partition(&start.topic, start.keep);
    let mut journal = snapshots.journal().await?;
    for entry in &mut journal {
        if let Change::Setup(setup) = &mut entry.change {
            **setup = setup.counting_as(&start.setup);
        }
    }
    // Definitions that began later begin at the beginning now: what they counted would be there twice.
    let later = format!(
        "SELECT DISTINCT origin FROM origin_rows WHERE topic = {} AND partition = {} AND start > {}",
        quoted(&start.topic.name),
        start.topic.partition,
        journal.first().map_or(0, |entry| entry.offset)
    );
    let rows = start.held.rows(&later).await?;
    let origins: Vec<String> = rows.iter().map(|row| row["origin"].to_string()).collect();
    if !origins.is_empty() {
        for table in versioned_tables().iter().chain(&["origin_rows"]) {
            let (stored, everywhere) = (start.held.stored(table), start.held.everywhere());
            let delete = format!(
                "DELETE FROM {stored}{everywhere} WHERE origin IN ({})",
                origins.join(", ")
            );
            start.held.execute_at_length(&delete).await?;
        }
    }
    snapshots.write_journal(&journal).await?;
    snapshots.clear().await
}

/// What all tables together hold of this partition.
async fn written<H: Held>(start: &Start<H>, journal: &[Entry]) -> Result<Option<Written>> {
    // Rows may be there before those that say which origins are of this partition.
    let Topic { name, partition } = &start.topic;
    let begun = journal.iter().map(|entry| version(entry.epoch, entry.offset));
    let origins: Vec<u64> = begun.map(|begun| origin_hash(name, *partition, begun)).collect();
    let highest = start.held.highest_version(&start.topic, &origins).await?;
    if highest == 0 {
        return Ok(None);
    }
    let (epoch, offset) = of_version(highest);
    let progress = start.held.progress(&start.topic).await?;
    let last = progress.map(|progress| (of_version(progress.version), progress.last_record));
    Ok(Some(Written {
        epoch,
        offset,
        last: last
            .filter(|((of_epoch, _), _)| *of_epoch == epoch)
            .map(|((_, offset), hash)| Mark {
                offset: offset - 1,
                hash,
            }),
    }))
}

async fn put_gap<H: Held>(start: &Start<H>, from: i64, to: i64, reason: &str) -> Result<()> {
    let put = start.held.put_gap(&start.topic, from..to, reason).await;
    put.context("the gap cannot be written down")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_another_where_what_was_counted_is_not() {
        let mark = |offset, hash| Mark { offset, hash };
        for (counted, found, is_another) in [
            (Some(mark(7, 1)), Found::Record(mark(7, 1)), false),
            (Some(mark(7, 1)), Found::Record(mark(7, 2)), true),
            (Some(mark(7, 1)), Found::Nothing, true),
            (Some(mark(7, 1)), Found::Unknown, false),
            // Before the beginning and behind the end nothing is looked at.
            (Some(mark(4, 1)), Found::Nothing, false),
            (Some(mark(9, 1)), Found::Nothing, false),
            (None, Found::Nothing, false),
        ] {
            let log = Log {
                earliest: 5,
                end: 9,
                first: 5,
                id: None,
                partitions: 1,
                look: &|_| Ok(found),
            };
            assert_eq!(
                log.contradicts(counted).unwrap(),
                is_another,
                "{counted:?} {found:?}"
            );
        }
    }
}
