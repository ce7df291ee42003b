//! How a partition starts: what is there decides. A start that would lose something refuses, and
//! names the ways.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use cambium_clickhouse::{Client, Writer};
use cambium_engine::{HashKey, List, Partition, Setup, Topic};
use cambium_snapshots::{Change, Entry, Loaded, Store};

use crate::owner::{Journal, bring_into_force};
use crate::{Owner, Rhythm};

/// What the log holds.
#[derive(Clone, Copy, Debug)]
pub struct Log {
    pub earliest: i64,
    pub end: i64,
    /// Where the very first start begins.
    pub first: i64,
}

/// What a partition is started with.
#[derive(Clone)]
pub struct Start {
    pub topic: Topic,
    pub setup: Setup,
    pub key: HashKey,
    pub store: Store,
    pub keep: usize,
    pub client: Client,
    pub writer: Writer,
    pub rhythm: Rhythm,
    /// Go on where something is lost, and leave a row in `gaps`.
    pub accept_gap: bool,
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
    /// The log ends before the snapshot's offset: it is another log of that name.
    LogIsAnother { topic: Topic, snapshot: i64, end: i64 },
    /// No snapshot, and the log no longer holds everything since the beginning.
    NothingToGoOnFrom {
        topic: Topic,
        begun: i64,
        earliest: i64,
        written: i64,
    },
}

impl std::error::Error for StartError {}

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
            StartError::LogIsAnother { topic, snapshot, end } => write!(
                out,
                "{topic}: the snapshot ends at offset {snapshot}, but the log ends at {end}: the topic was created \
                 again. Give the old topic back, or start with --accept-gap to let the state go on over the new log"
            ),
            StartError::NothingToGoOnFrom {
                topic,
                begun,
                earliest,
                written,
            } => write!(
                out,
                "{topic}: there is no readable snapshot, and the log begins at {earliest}, behind where counting \
                 began ({begun}). Restore the snapshots, or start with --accept-gap: counting begins anew at {written}, \
                 where the rows in ClickHouse end"
            ),
        }
    }
}

/// Starts a partition as the table of starts says (ARCHITECTURE.md).
pub async fn start<L: List>(start: Start, log: Log) -> Result<Owner<L>> {
    let mut snapshots = start.store.partition(&start.topic, start.keep);
    let mut journal = snapshots.journal().await?;
    let (loaded, passed_over) = snapshots.load().await?;
    for why in passed_over {
        tracing::warn!(topic = %start.topic, "a snapshot is passed over: {why}");
    }
    let written = written(&start).await?;
    let begun = begin::<L>(&start, log, loaded, &journal, written).await?;
    let mut partition = begun.partition;
    let position = partition.position();
    journal.retain(|entry| begun.keeps_journal || entry.offset < position);
    let settled_until = written.map_or(0, |(_, at)| at);
    let last = journal.iter().rev().find_map(Entry::setup);
    if last.unwrap_or(partition.setup()) != &start.setup || journal.is_empty() {
        // Behind everything that was written under the old one, so that no row mixes the two.
        let offset = if journal.is_empty() {
            position
        } else {
            position.max(settled_until)
        };
        journal.push(Entry {
            offset,
            epoch: partition.epoch(),
            change: Change::Setup(Box::new(start.setup.clone())),
        });
        snapshots.write_journal(&journal).await?;
    }
    let mut journal = Journal {
        next: journal.iter().take_while(|entry| entry.offset < position).count(),
        entries: journal,
        settled_until,
    };
    while let Some(entry) = journal.entries.get(journal.next)
        && entry.offset == position
    {
        bring_into_force(&mut partition, entry.change.clone())?;
        journal.next += 1;
    }
    Ok(Owner::new(
        partition,
        journal,
        snapshots,
        start.writer,
        start.rhythm,
        log.end,
    ))
}

struct Begun<L: List> {
    partition: Partition<L>,
    keeps_journal: bool,
}

async fn begin<L: List>(
    start: &Start,
    log: Log,
    loaded: Option<Loaded>,
    journal: &[Entry],
    written: Option<(u16, i64)>,
) -> Result<Begun<L>> {
    match loaded {
        Some(loaded) if (log.earliest..=log.end).contains(&loaded.position) => {
            tracing::info!(topic = %start.topic, offset = loaded.position, "goes on from its snapshot");
            Ok(Begun {
                partition: restore(loaded, start.key)?,
                keeps_journal: true,
            })
        }
        Some(loaded) => go_on_elsewhere(start, log, loaded).await,
        None => begin_without_snapshot(start, log, journal, written).await,
    }
}

fn restore<L: List>(loaded: Loaded, key: HashKey) -> Result<Partition<L>> {
    Partition::restore(&loaded.head, loaded.users, key).context("the snapshot cannot be used")
}

async fn go_on_elsewhere<L: List>(start: &Start, log: Log, loaded: Loaded) -> Result<Begun<L>> {
    let topic = start.topic.clone();
    let snapshot = loaded.position;
    let is_another = snapshot > log.end;
    let error = if is_another {
        StartError::LogIsAnother {
            topic,
            snapshot,
            end: log.end,
        }
    } else {
        StartError::LogBeginsLater {
            topic,
            snapshot,
            earliest: log.earliest,
        }
    };
    if !start.accept_gap {
        return Err(error.into());
    }
    let mut partition: Partition<L> = restore(loaded, start.key)?;
    partition
        .skip_to(log.earliest, is_another)
        .context("the state cannot go on")?;
    put_gap(start, snapshot, log.earliest, &error.to_string()).await?;
    Ok(Begun {
        partition,
        keeps_journal: false,
    })
}

async fn begin_without_snapshot<L: List>(
    start: &Start,
    log: Log,
    journal: &[Entry],
    written: Option<(u16, i64)>,
) -> Result<Begun<L>> {
    let first = journal
        .iter()
        .find_map(|entry| Some((entry.offset, entry.setup()?.clone())));
    let recorded = first_origin(start).await?;
    let (Some((epoch, written)), Some(begun)) = (written, recorded.or(first.as_ref().map(|(at, _)| *at)))
    else {
        tracing::info!(topic = %start.topic, offset = log.first, "starts for the first time");
        let partition = Partition::new(start.topic.clone(), log.first, 0, start.setup.clone(), start.key);
        return Ok(Begun {
            partition: partition.context("the setup cannot be used")?,
            keeps_journal: false,
        });
    };
    if begun >= log.earliest && written <= log.end {
        tracing::warn!(topic = %start.topic, offset = begun, "has no snapshot: counts again from where counting began");
        let setup = first.map_or(start.setup.clone(), |(_, setup)| setup);
        let partition = Partition::new(start.topic.clone(), begun, epoch, setup, start.key);
        return Ok(Begun {
            partition: partition.context("the setup cannot be used")?,
            keeps_journal: true,
        });
    }
    let error = StartError::NothingToGoOnFrom {
        topic: start.topic.clone(),
        begun,
        earliest: log.earliest,
        written,
    };
    if !start.accept_gap {
        return Err(error.into());
    }
    let (at, epoch) = if written > log.end {
        (log.earliest, epoch + 1)
    } else {
        (written.max(log.earliest), epoch)
    };
    put_gap(start, begun, at, &error.to_string()).await?;
    let partition = Partition::new(start.topic.clone(), at, epoch, start.setup.clone(), start.key);
    Ok(Begun {
        partition: partition.context("the setup cannot be used")?,
        keeps_journal: false,
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
    let rows = start.client.rows(&later).await?;
    let origins: Vec<String> = rows.iter().map(|row| row["origin"].to_string()).collect();
    if !origins.is_empty() {
        for table in VERSIONED.iter().chain(&["origin_rows"]) {
            let (stored, everywhere) = (start.client.stored(table), start.client.everywhere());
            let delete = format!(
                "DELETE FROM {stored}{everywhere} WHERE origin IN ({})",
                origins.join(", ")
            );
            start.client.execute(&delete).await?;
        }
    }
    snapshots.write_journal(&journal).await?;
    snapshots.clear().await
}

/// Lets the views show the definitions that are configured, and no others.
pub async fn show_definitions<L: List>(client: &Client, setup: &Setup, key: HashKey) -> Result<()> {
    let topic = Topic {
        name: String::new(),
        partition: 0,
    };
    let mut partition: Partition<L> = Partition::new(topic, 0, 0, setup.clone(), key)?;
    let mut configured: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let mut changes = Vec::new();
    for row in client.rows("SELECT id, app, shown FROM definitions").await? {
        let app = row["app"].as_str().unwrap_or_default();
        if !configured.contains_key(app) {
            let definitions = partition.definitions_of(app)?;
            let ids = definitions.into_iter().map(|definition| definition.id);
            configured.insert(app.to_owned(), ids.collect());
        }
        let id = row["id"].as_u64().unwrap_or_default();
        let is_configured = configured[app].contains(&id);
        if row["shown"].as_bool() != Some(is_configured) {
            changes.push(format!(
                "({id}, toUnixTimestamp64Milli(now64(3)), {is_configured})"
            ));
        }
    }
    if changes.is_empty() {
        return Ok(());
    }
    let insert = format!("INSERT INTO definition_states VALUES {}", changes.join(", "));
    client
        .execute(&insert)
        .await
        .context("which definitions are shown cannot be written down")
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// The tables whose rows have a definition, an origin and a version.
const VERSIONED: [&str; 5] = [
    "count_rows",
    "rolling_rows",
    "session_rows",
    "funnel_rows",
    "funnel_time_rows",
];

/// The highest version that any table holds of this partition: epoch and offset.
async fn written(start: &Start) -> Result<Option<(u16, i64)>> {
    let (topic, partition) = (quoted(&start.topic.name), start.topic.partition);
    let origins = format!("SELECT origin FROM origin_rows WHERE topic = {topic} AND partition = {partition}");
    let mut parts: Vec<String> = VERSIONED
        .iter()
        .map(|table| format!("SELECT max(version) AS v FROM {table} WHERE origin IN ({origins})"))
        .collect();
    parts.push(format!(
        "SELECT max(version) AS v FROM record_rows WHERE topic = {topic} AND partition = {partition}"
    ));
    let rows = start
        .client
        .rows(&format!(
            "SELECT max(v) AS version FROM ({})",
            parts.join(" UNION ALL ")
        ))
        .await?;
    let version = rows.first().and_then(|row| row["version"].as_u64()).unwrap_or(0);
    Ok((version > 0).then_some(((version >> 48) as u16, (version & ((1 << 48) - 1)) as i64)))
}

/// Where the first of the definitions that are counted began.
async fn first_origin(start: &Start) -> Result<Option<i64>> {
    let (topic, partition) = (quoted(&start.topic.name), start.topic.partition);
    let query = format!(
        "SELECT min(start) AS start FROM origin_rows WHERE topic = {topic} AND partition = {partition} HAVING count() > 0"
    );
    let rows = start.client.rows(&query).await?;
    Ok(rows.first().and_then(|row| row["start"].as_i64()))
}

async fn put_gap(start: &Start, from: i64, to: i64, reason: &str) -> Result<()> {
    let statement = format!(
        "INSERT INTO gap_rows SELECT {}, {}, {from}, {to}, {}, now64(3)",
        quoted(&start.topic.name),
        start.topic.partition,
        quoted(reason)
    );
    start
        .client
        .execute(&statement)
        .await
        .context("the gap cannot be written down")
}
