//! `cambium replay`: files through the same code as Kafka's records.

use std::io::BufRead;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use cambium_engine::{Account, Partition, Topic};
use cambium_event::{Plan, Record, read};
use cambium_pipeline::{Log, Owner, Start, start};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::Where;
use crate::Processors;
use crate::config::Config;
use crate::files::{FileLog, Sorter, open};
use crate::warehouse::Warehouse;

/// Count the events of files (JSON lines; plain, gzip or zstd), then exit.
///
/// Example: cambium replay --config cambium.toml events-2026-11.jsonl.gz
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    place: Where,
    /// Keep the order of the files, instead of the order of event time
    #[arg(long)]
    as_is: bool,
    /// The files; - is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// Records between two looks at the clock.
const TICK_RECORDS: i64 = 1000;

pub async fn run(arguments: Arguments) -> Result<()> {
    let config = Config::read(&arguments.place.config)?;
    let data = arguments.place.data.clone();
    let mut log = FileLog::open(&data, new_id)?;
    let inputs = open(&arguments.files)?;
    let all: Vec<String> = inputs.iter().map(|input| input.digest.clone()).collect();
    let known = log.command(&all, arguments.as_is).cloned();
    let mut fresh = Vec::new();
    for input in inputs {
        if known.is_none() && log.has(&input.digest) {
            eprintln!("{} is part of the log already: passed over", input.name);
        } else {
            fresh.push(input);
        }
    }
    let digests: Vec<String> = fresh.iter().map(|input| input.digest.clone()).collect();
    let sorter = sort(fresh, &config, arguments.as_is)?;
    let command = match known {
        Some(command) => command,
        None => log.add(digests, arguments.as_is, sorter.records as i64)?,
    };
    let warehouse = Warehouse::open_for_writing(&config, &data).await?;
    let topic = Topic {
        name: log.topic(),
        partition: 0,
    };
    let bounds = Log {
        earliest: 0,
        end: log.end(),
        first: 0,
    };
    let start_with = Start {
        topic,
        ..warehouse.start(&config, &data, false)?
    };
    let owner: Owner<Processors> = start(start_with, bounds).await?;
    if owner.partition().position() < command.start {
        bail!(
            "the log's earlier files were not counted to their end: give them again first (offset {} of {})",
            owner.partition().position(),
            command.start
        );
    }
    let before = owner.partition().account();
    let partition =
        tokio::task::spawn_blocking(move || apply_all(owner, sorter, command.start, command.end)).await??;
    report(&before, &partition);
    Ok(())
}

/// An id for a new log: the time of its making is enough to tell it from others.
fn new_id() -> String {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    format!("{:x}", since.as_nanos())
}

fn sort(inputs: Vec<crate::files::Input>, config: &Config, as_is: bool) -> Result<Sorter> {
    let bytes = inputs.iter().map(|input| input.bytes).sum();
    let progress = bar(bytes, "reading {bytes} of {total_bytes}");
    let plan = Plan::new(&config.setup.fields, &[]);
    let mut sorter = Sorter::default();
    let mut time = i64::MIN;
    for input in inputs {
        let (name, packed) = (input.name.clone(), input.bytes);
        let mut lines = input.lines().with_context(|| format!("cannot read {name}"))?;
        loop {
            let mut line = Vec::new();
            if lines
                .read_until(b'\n', &mut line)
                .with_context(|| format!("cannot read {name}"))?
                == 0
            {
                break;
            }
            while matches!(line.last(), Some(b'\n' | b'\r')) {
                line.pop();
            }
            if line.is_empty() {
                continue;
            }
            if !as_is {
                // What is no event keeps its place behind the line before it.
                let record = Record {
                    payload: Some(&line),
                    ..Record::default()
                };
                time = read(&record, &plan, |event| event.time).unwrap_or(time);
            }
            sorter.push(time, line)?;
        }
        progress.inc(packed);
    }
    progress.finish_and_clear();
    Ok(sorter)
}

/// Applies the records from the owner's position on; those before it are in the numbers already.
fn apply_all(
    mut owner: Owner<Processors>,
    sorter: Sorter,
    start: i64,
    end: i64,
) -> Result<Partition<Processors>> {
    let progress = bar(sorter.records, "{human_pos} of {human_len} records, {per_sec}");
    for (line, offset) in sorter.sorted()?.zip(start..end) {
        let line = line?;
        if offset < owner.partition().position() {
            continue;
        }
        owner.apply(&Record {
            offset,
            payload: Some(&line),
            ..Record::default()
        })?;
        if offset % TICK_RECORDS == 0 {
            progress.set_position((offset - start) as u64);
            owner.tick(end)?;
            while owner.is_full() {
                std::thread::sleep(Duration::from_millis(5));
                owner.tick(end)?;
            }
        }
    }
    progress.finish_and_clear();
    owner.finish()
}

fn bar(length: u64, template: &str) -> ProgressBar {
    let progress = ProgressBar::new(length);
    if let Ok(style) = ProgressStyle::with_template(&format!("{{bar:40}} {template}")) {
        progress.set_style(style);
    }
    progress
}

fn report(before: &Account, partition: &Partition<Processors>) {
    let account = partition.account();
    println!(
        "read {} = accepted {} + duplicate {} + late {} + rejected {} + dropped {}",
        account.read - before.read,
        account.accepted - before.accepted,
        account.duplicate - before.duplicate,
        account.late - before.late,
        account.rejected - before.rejected,
        account.dropped - before.dropped
    );
    if account.late > before.late && before.read > 0 {
        println!(
            "events came late behind those of earlier files: to count them, replay all files together into a new --data"
        );
    }
}
