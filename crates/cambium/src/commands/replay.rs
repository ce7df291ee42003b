//! `cambium replay`: files through the same code as Kafka's records.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use cambium_clickhouse::delete_past;
use cambium_engine::{Account, Setup, Topic};
use cambium_event::{Decoders, Fields, Format, Plan, Record, Schemas};
use cambium_pipeline::{Owner, Start, count_anew, show_definitions, show_names, start};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::{Where, past};
use crate::Processors;
use crate::config::Config;
use crate::files::{Command, FileLog, Input, KnownFile, Sorter, open};
use crate::warehouse::Warehouse;

/// Count the events of files (JSON lines or Avro containers; plain, gzip or zstd), then exit.
///
/// With --topic: gives definitions that are new, or changed, their past, counted from the topic's beginning while
/// `cambium run` goes on; nobody sees it before it is complete. Files that are named with it hold what was before the topic, and
/// come in front of it.
///
/// Example: cambium replay --config cambium.toml events-2026-11.jsonl.gz
///
/// Example: cambium replay --config cambium.toml --topic events --definition purchase
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    place: Where,
    /// Keep the order of the files, instead of the order of event time
    #[arg(long)]
    as_is: bool,
    /// The topic whose log is counted again
    #[arg(long, value_name = "TOPIC")]
    topic: Option<String>,
    /// Which definitions are given their past; left out, all
    #[arg(long = "definition", value_name = "NAME", requires = "topic")]
    definitions: Vec<String>,
    /// The files; - is standard input
    #[arg(required_unless_present = "topic", value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// Records between two looks at the clock.
const TICK_RECORDS: i64 = 1000;

pub async fn run(arguments: Arguments) -> Result<()> {
    let config = Config::read(&arguments.place.config)?;
    if let Some(topic) = &arguments.topic {
        let chosen = past::Chosen {
            topic,
            definitions: &arguments.definitions,
            files: &arguments.files,
            as_is: arguments.as_is,
        };
        return past::run(&config, &arguments.place.data, chosen).await;
    }
    let setup = setup(&config)?;
    let mut log = FileLog::open(&arguments.place.data, || format!("{:x}", now().as_nanos()))?;
    let given = Given::open(&arguments.files, &log)?;
    let warehouse = Warehouse::open_for_counting(&config, &arguments.place.data).await?;
    let start_with = Start {
        topic: Topic {
            name: log.topic(),
            partition: 0,
        },
        setup: setup.clone(),
        ..warehouse.start(&config, &arguments.place.data, false)?
    };
    let mut owner = begin(&start_with, &mut log, &given).await?;
    show_definitions::<Processors>(&warehouse.client, &setup, config.hash_key()?).await?;
    show_names(&warehouse.client, config.names.renamed()).await?;
    let Given { mut known, fresh } = given;
    let before = owner.partition().account();
    let had_events = before.read > 0;
    for command in log.commands().to_vec() {
        if command.end <= owner.partition().position() {
            continue;
        }
        let inputs = take(&mut known, &command)?;
        let sorted = sort(inputs, &command.fields, command.as_is)?;
        if sorted.sorter.records as i64 != command.end - command.start {
            bail!("the files of offset {} do not hold what they held", command.start);
        }
        owner = apply(owner, sorted, command).await?;
    }
    if !fresh.is_empty() {
        let files = fresh.iter().map(Input::known).collect();
        let sorted = sort(fresh, &setup.fields, arguments.as_is)?;
        let command = Command {
            files,
            as_is: arguments.as_is,
            fields: setup.fields.clone(),
            taken_in_at: now().as_millis() as i64,
            start: log.end(),
            end: log.end() + sorted.sorter.records as i64,
        };
        log.add(command.clone())?;
        owner = apply(owner, sorted, command).await?;
    }
    let partition = tokio::task::spawn_blocking(move || owner.finish()).await??;
    delete_past(&warehouse.client, &config.keep()).await?;
    report(&before, &partition.account(), had_events);
    Ok(())
}

fn now() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
}

/// Files say themselves whether they are JSON or Avro; their fields lie where the first source has them.
fn setup(config: &Config) -> Result<Setup> {
    let setup = match config.sources.first() {
        Some(source) => config.setup_of(source)?,
        None => config.whole_setup()?,
    };
    Ok(Setup {
        format: Format::Json,
        ..setup
    })
}

/// The files that a command names: those that are part of the log, and those that are not yet.
struct Given {
    known: Vec<Input>,
    fresh: Vec<Input>,
}

impl Given {
    fn open(paths: &[PathBuf], log: &FileLog) -> Result<Given> {
        let mut given = Given {
            known: Vec::new(),
            fresh: Vec::new(),
        };
        for input in open(paths)? {
            let list = if log.has(&input.digest) {
                &mut given.known
            } else {
                &mut given.fresh
            };
            if list.iter().any(|known| known.digest == input.digest) {
                eprintln!("{} is given twice: read once", input.name);
            } else {
                list.push(input);
            }
        }
        Ok(given)
    }

    /// The files of the log that are not given, by the names they had.
    fn missing(&self, log: &FileLog) -> Vec<String> {
        let files = log.commands().iter().flat_map(|command| &command.files);
        let is_given = |file: &&KnownFile| self.known.iter().any(|input| input.digest == file.digest);
        files
            .filter(|file| !is_given(file))
            .map(|file| file.name.clone())
            .collect()
    }
}

/// Starts where the log was left; or at its beginning, where definitions are new and all of its files are
/// given again.
async fn begin(start_with: &Start, log: &mut FileLog, given: &Given) -> Result<Owner<Processors>> {
    let missing = given.missing(log);
    let bounds = log.bounds();
    if !log.is_counted_anew() {
        let owner: Owner<Processors> = start(start_with.clone(), bounds).await?;
        let mut later: Vec<String> = owner
            .partition()
            .begun_later()
            .into_iter()
            .map(|(definition, at)| {
                format!(
                    "{} {} of {} (from offset {at} on)",
                    definition.kind, definition.name, definition.app
                )
            })
            .collect();
        if later.is_empty() {
            return Ok(owner);
        }
        if !missing.is_empty() {
            later.truncate(10);
            eprintln!(
                "not counted from the beginning: {}\nTo count them from there, give all files of the log again; missing: {}",
                later.join(", "),
                missing.join(", ")
            );
            return Ok(owner);
        }
    } else if !missing.is_empty() {
        bail!(
            "counting anew was begun and cut off: give all files of the log again; missing: {}",
            missing.join(", ")
        );
    }
    // Written down first: what is cut off from here on is begun again, not gone on with.
    log.set_counted_anew(true)?;
    count_anew(start_with).await?;
    log.set_counted_anew(false)?;
    start(start_with.clone(), bounds).await
}

/// Takes the files of a command that is to be read again.
fn take(known: &mut Vec<Input>, command: &Command) -> Result<Vec<Input>> {
    let mut taken = Vec::new();
    for file in &command.files {
        let Some(at) = known.iter().position(|input| input.digest == file.digest) else {
            bail!(
                "{} is part of the log and was not counted to its end: give it again",
                file.name
            )
        };
        taken.push(known.swap_remove(at));
    }
    Ok(taken)
}

/// The records of a command, and the schemas that they are written in.
pub(super) struct Sorted {
    pub sorter: Sorter,
    pub schemas: Schemas,
}

pub(super) fn sort(inputs: Vec<Input>, fields: &Fields, as_is: bool) -> Result<Sorted> {
    let bytes = inputs.iter().map(|input| input.bytes).sum();
    let progress = bar(bytes, "reading {bytes} of {total_bytes}");
    let mut sorter = Sorter::default();
    let mut schemas = Schemas::new();
    let mut time = i64::MIN;
    for input in inputs {
        let packed = input.bytes;
        let mut decoders: Option<Decoders> = None;
        input.each(&mut schemas, |schemas, entry| {
            if !as_is {
                let decoders = match &mut decoders {
                    Some(decoders) => decoders,
                    none => none.insert(Decoders::new(Plan::new(fields, &[]), Format::Json, schemas)?),
                };
                // What is no event keeps its place behind the record before it.
                let record = Record {
                    schema: entry.schema,
                    payload: Some(&entry.bytes),
                    ..Record::default()
                };
                time = decoders.read(&record, |event| event.time).unwrap_or(time);
            }
            sorter.push(time, entry)
        })?;
        progress.inc(packed);
    }
    progress.finish_and_clear();
    Ok(Sorted { sorter, schemas })
}

/// Applies the records of a command from the owner's position on; those before it are in the numbers
/// already.
async fn apply(mut owner: Owner<Processors>, sorted: Sorted, command: Command) -> Result<Owner<Processors>> {
    tokio::task::spawn_blocking(move || {
        let progress = bar(
            sorted.sorter.records,
            "{human_pos} of {human_len} records, {per_sec}",
        );
        for (entry, offset) in sorted.sorter.sorted()?.zip(command.start..command.end) {
            let entry = entry?;
            if offset < owner.partition().position() {
                continue;
            }
            let record = Record {
                offset,
                taken_in_at: Some(command.taken_in_at),
                schema: entry.schema,
                payload: Some(&entry.bytes),
                ..Record::default()
            };
            while let Some(id) = owner.apply_all(&[record])?.wants_schema {
                owner.answer(id, sorted.schemas.get(&id).cloned().flatten())?;
            }
            if offset % TICK_RECORDS == 0 {
                progress.set_position((offset - command.start) as u64);
                owner.tick(command.end)?;
                while owner.is_full() {
                    std::thread::sleep(Duration::from_millis(5));
                    owner.tick(command.end)?;
                }
            }
        }
        progress.finish_and_clear();
        Ok(owner)
    })
    .await
    .context("replaying ended")?
}

pub(super) fn bar(length: u64, template: &str) -> ProgressBar {
    let progress = ProgressBar::new(length);
    if let Ok(style) = ProgressStyle::with_template(&format!("{{bar:40}} {template}")) {
        progress.set_style(style);
    }
    progress
}

fn report(before: &Account, account: &Account, had_events: bool) {
    println!(
        "read {} = accepted {} + duplicate {} + late {} + rejected {} + dropped {}",
        account.read - before.read,
        account.accepted - before.accepted,
        account.duplicate - before.duplicate,
        account.late - before.late,
        account.rejected - before.rejected,
        account.dropped - before.dropped
    );
    if account.late > before.late && had_events {
        println!(
            "events came late behind those of earlier files: to count them, replay all files together into a new --data"
        );
    }
}
