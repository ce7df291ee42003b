//! `cambium forget`: what is held of persons is deleted, and what comes later under their ids is dropped.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use cambium_clickhouse::Client;
use cambium_engine::{Topic, quoted};
use cambium_pipeline::{Start, start};
use cambium_snapshots::{Entry, Store};
use clap::Args;

use super::Where;
use super::export::{keyed_by_user, speaks_of};
use crate::Processors;
use crate::config::{Config, ConfigError};
use crate::files::FileLog;
use crate::warehouse::Warehouse;

/// Delete what is held of persons, and drop what comes later under their ids.
///
/// `cambium run` must be running, as it lets this in: each partition forgets them at an offset that is written down. Sums and
/// sets keep what they were part of, as a number among others.
///
/// Example: cambium forget --config cambium.toml u1 u2
///
/// Example: cambium forget --config cambium.toml --file ids.txt
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    place: Where,
    /// Their ids, as the events have them
    #[arg(value_name = "USER", required_unless_present = "file")]
    ids: Vec<String>,
    /// A file with an id on each line; - is standard input
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// Between two looks at how far `cambium run` is.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Until it is said again what is waited for.
const SAY_EVERY: Duration = Duration::from_secs(10);
/// So many are named in one statement.
const AT_A_TIME: usize = 1000;

pub async fn run(arguments: Arguments) -> Result<()> {
    let config = Config::read(&arguments.place.config)?;
    let data = &arguments.place.data;
    let ids = arguments.all_ids()?;
    let key = config.hash_key()?;
    let mut users: Vec<u64> = ids.iter().map(|id| key.user(id)).collect();
    users.sort_unstable();
    let warehouse = Warehouse::open_for_writing(&config, data).await?;
    let store = Warehouse::store(&config, data)?;
    if let Some(topic) = store.planned().await?.first() {
        bail!(
            "a past is being counted for {topic}, which would hold them: let `cambium replay --topic {topic}` end first, or \
             start it again if it was cut off"
        );
    }
    store.forget(&users).await?;
    let topics = store.topics().await?;
    let (of_files, of_kafka): (Vec<_>, Vec<_>) = topics
        .into_iter()
        .partition(|topic| topic.name.starts_with("file-"));
    for topic in of_files {
        let begin = warehouse.start(&config, data, false)?;
        forget_in_files(begin, topic, data, &users).await?;
    }
    wait_until_purged(&store, of_kafka, &users).await?;
    delete(&warehouse.client, &ids, &users).await?;
    println!(
        "{} forgotten. What sums and sets hold of them stays, as a number among others; their records in Kafka are Kafka's",
        match ids.len() {
            1 => "1 user is".to_owned(),
            count => format!("{count} users are"),
        }
    );
    Ok(())
}

impl Arguments {
    fn all_ids(&self) -> Result<Vec<String>> {
        let mut ids: BTreeSet<String> = self.ids.iter().cloned().collect();
        if let Some(file) = &self.file {
            let mut text = String::new();
            let read = match file.to_str() {
                Some("-") => std::io::stdin().read_to_string(&mut text),
                _ => std::fs::File::open(file).and_then(|mut file| file.read_to_string(&mut text)),
            };
            read.map_err(|error| ConfigError::new(format!("--file {}: {error}", file.display())))?;
            ids.extend(text.lines().map(|line| line.trim_end_matches('\r').to_owned()));
        }
        // Events of nobody in particular have an empty id.
        ids.remove("");
        if ids.is_empty() {
            return Err(ConfigError::new("there is no id to forget".to_owned()).into());
        }
        Ok(ids.into_iter().collect())
    }
}

/// The log of files is nobody's between two commands: it is started as it was left, and ended.
async fn forget_in_files(begin: Start, topic: Topic, data: &Path, users: &[u64]) -> Result<()> {
    let snapshots = begin.store.partition(&topic, begin.keep);
    let journal = snapshots.journal().await?;
    let Some(setup) = journal.iter().rev().find_map(Entry::setup).cloned() else {
        return Ok(());
    };
    let log = FileLog::open(data, String::new)?;
    if log.topic() != topic.name {
        bail!(
            "{} is not the log of files of {}: give the --data with which it was counted",
            topic.name,
            data.display()
        );
    }
    let name = topic.name.clone();
    let begin = Start {
        topic,
        setup,
        ..begin
    };
    let owner = start::<Processors, _>(begin, log.bounds()).await?;
    let is_whole = owner.partition().position() == log.end();
    tokio::task::spawn_blocking(move || owner.finish()).await??;
    if !is_whole || !snapshots.has_purged(users).await? {
        bail!(
            "{name} is not counted to its end: give its files to `cambium replay` again, and then forget again"
        );
    }
    Ok(())
}

/// Waits until those who count have let it in, and left snapshots without them.
async fn wait_until_purged(store: &Store, mut waiting: Vec<Topic>, users: &[u64]) -> Result<()> {
    let partitions = waiting.len();
    let mut said_at: Option<Instant> = None;
    loop {
        let mut still = Vec::new();
        for topic in waiting {
            if !store.partition(&topic, 1).has_purged(users).await? {
                still.push(topic);
            }
        }
        let Some(first) = still.first() else {
            return Ok(());
        };
        if said_at.is_none_or(|at| at.elapsed() >= SAY_EVERY) {
            eprintln!(
                "waiting for `cambium run` to forget them on {} of {partitions} partitions, {first} among them",
                still.len()
            );
            said_at = Some(Instant::now());
        }
        waiting = still;
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Rewrites what ClickHouse holds without them.
async fn delete(client: &Client, ids: &[String], users: &[u64]) -> Result<()> {
    let everywhere = client.everywhere();
    for table in keyed_by_user() {
        let stored = client.stored(table);
        let mut rows = 0;
        for users in users.chunks(AT_A_TIME) {
            let users: Vec<String> = users.iter().map(u64::to_string).collect();
            let theirs = format!("user IN ({})", users.join(", "));
            let found = client.count(table, &theirs).await?;
            if found == 0 {
                continue;
            }
            rows += found;
            let delete =
                format!("ALTER TABLE {stored}{everywhere} DELETE WHERE {theirs} SETTINGS mutations_sync = 2");
            client.execute_at_length(&delete).await?;
        }
        if rows > 0 {
            println!("{table}: {rows} rows deleted");
        }
    }
    let (stored, mut rows) = (client.stored("rejected_rows"), 0);
    for ids in ids.chunks(AT_A_TIME) {
        let ids: Vec<String> = ids.iter().map(|id| speaks_of(id)).collect();
        let theirs = format!("payload != '' AND ({})", ids.join(" OR "));
        rows += client.count("rejected_rows", &theirs).await?;
        let empty = format!(
            "ALTER TABLE {stored}{everywhere} UPDATE payload = '', detail = {} WHERE {theirs} SETTINGS mutations_sync = 2",
            quoted("forgotten")
        );
        client.execute_at_length(&empty).await?;
    }
    println!("rejected_rows: the bytes of {rows} records deleted");
    Ok(())
}
