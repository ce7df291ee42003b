//! `cambium replay --topic`: definitions are given their past, while `cambium run` goes on.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use cambium_clickhouse::delete_past;
use cambium_engine::{Identity, Processor, Setup, Spec, Topic};
use cambium_kafka::LogReader;
use cambium_pipeline::{
    BeginsLater, Counting, Generations, Held, InFront, Start, counted_elsewhere, counted_generations,
    hide_generations, highest_generations, show_definitions, show_generations, show_names, taken_over,
};
use cambium_snapshots::Plan;
use futures::future::try_join_all;
use indicatif::ProgressBar;

use super::called;
use super::front::Front;
use super::replay::bar;
use super::run::{in_generations, kafka};
use crate::Processors;
use crate::config::{Config, ConfigError, Names};
use crate::files::{Entry, FileLog};
use crate::warehouse::Warehouse;
use crate::workers::KafkaLogs;

/// Between two looks at how far `cambium run` is.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Until it is said again what is waited for.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// What is to be counted from the beginning.
pub struct Chosen<'c> {
    pub topic: &'c str,
    /// By name; none: all.
    pub definitions: &'c [String],
    /// What comes in front of the topic.
    pub files: &'c [PathBuf],
    pub as_is: bool,
}

pub async fn run(config: &Config, data: &Path, chosen: Chosen<'_>) -> Result<()> {
    let Chosen {
        topic,
        definitions,
        files,
        as_is,
    } = chosen;
    let source = config.sources.iter().find(|source| source.topic == topic);
    let Some(source) = source else {
        let known = config.sources.iter().map(|source| source.topic.as_str());
        let known = known.collect::<Vec<_>>().join(", ");
        let text = format!("--topic {topic}: no [[source]] has it; there is {known}");
        return Err(ConfigError::new(text).into());
    };
    let setup = config.setup_of(source)?;
    let only = by_name(&setup, &config.names, definitions)?;
    let warehouse = Warehouse::open_for_counting(config, data).await?;
    let logs = Arc::new(KafkaLogs(LogReader::new(&kafka(config)?)));
    let inputs = Front::inputs(files)?;
    let mut past = Past {
        start: warehouse.start(config, data, false)?,
        topic: topic.to_owned(),
        front: Front::default(),
        logs,
    };
    let begun = Instant::now();
    if !inputs.is_empty() {
        let partitions = past.logs.0.partitions(topic)?;
        past.front = Front::new(inputs, &setup, as_is, partitions)?;
        let unread = match past.front.unread {
            0 => String::new(),
            unread => format!("; {unread} are no events"),
        };
        println!(
            "{} records come in front of {topic}{unread}",
            past.front.records()
        );
    }
    let plan = loop {
        let plan = past.plan(&setup, &only, data).await?;
        match past.count(&plan).await {
            Ok(records) => {
                let seconds = begun.elapsed().as_secs_f64();
                println!("read {records} records in {seconds:.1} s");
                break plan;
            }
            // What was begun before can no longer be completed: it stays hidden, and another one is begun.
            Err(error) if error.is::<BeginsLater>() => {
                eprintln!("{error:#}: begun anew");
                past.start.store.write_plan(topic, None).await?;
            }
            Err(error) => return Err(error),
        }
    };
    past.wait_until_taken(&plan.setup).await?;
    delete_past(&warehouse.client, &config.keep()).await?;
    let switched = generations(&plan);
    show_generations(&warehouse.client, &switched).await?;
    show_definitions::<Processors>(&warehouse.client, &plan.setup, config.hash_key()?).await?;
    show_names(&warehouse.client, config.names.renamed()).await?;
    past.start.store.write_plan(topic, None).await?;
    for spec in plan
        .setup
        .definitions
        .iter()
        .filter(|spec| is_among(&plan.only, spec))
    {
        let name = config.names.of_spec(spec);
        let generation = spec.generation;
        println!(
            "{}: generation {generation} is shown now",
            called(&spec.kind, name)
        );
    }
    Ok(())
}

/// The generation of each definition that is counted.
fn generations(plan: &Plan) -> Generations {
    let generation = |(kind, name): &(String, String)| {
        let is_it = |spec: &&Spec| spec.kind == *kind && spec.name == *name;
        let spec = plan.setup.definitions.iter().find(is_it);
        (
            (kind.clone(), name.clone()),
            spec.map_or(0, |spec| spec.generation),
        )
    };
    plan.only.iter().map(generation).collect()
}

fn is_among(only: &[(String, String)], spec: &Spec) -> bool {
    only.iter()
        .any(|(kind, name)| *kind == spec.kind && *name == spec.name)
}

/// The definitions that are named, by kind and the name that they were counted under first; all where none is.
fn by_name(setup: &Setup, names: &Names, given: &[String]) -> Result<Vec<(String, String)>> {
    // Whose an event is has no past of its own: what is counted anew is counted by it.
    let all = setup
        .definitions
        .iter()
        .filter(|spec| spec.kind != Identity::KIND);
    let key = |spec: &Spec| (spec.kind.clone(), spec.name.clone());
    if given.is_empty() {
        return Ok(all.map(key).collect());
    }
    let mut chosen = Vec::new();
    for wanted in given {
        let is_it = |spec: &&Spec| {
            let (kind, name) = (&spec.kind, names.of_spec(spec));
            wanted == name || *wanted == called(kind, name) || *wanted == format!("{kind}:{name}")
        };
        let found: Vec<_> = all.clone().filter(is_it).map(key).collect();
        if found.is_empty() {
            let known: Vec<String> = all.map(|spec| called(&spec.kind, names.of_spec(spec))).collect();
            let text = format!(
                "--definition {wanted}: there is none; there is {}",
                known.join(", ")
            );
            return Err(ConfigError::new(text).into());
        }
        chosen.extend(found);
    }
    chosen.sort();
    chosen.dedup();
    Ok(chosen)
}

struct Past {
    start: Start,
    logs: Arc<KafkaLogs>,
    topic: String,
    front: Front,
}

/// How far the threads are.
struct Work {
    /// Partitions that nobody counts yet.
    waiting: VecDeque<i32>,
    records: u64,
}

fn locked(work: &Mutex<Work>) -> MutexGuard<'_, Work> {
    work.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Past {
    fn topic(&self, partition: i32) -> Topic {
        Topic {
            name: self.topic.clone(),
            partition,
        }
    }

    /// What was begun and cut off, if it was the same; else another generation of each definition.
    async fn plan(&self, setup: &Setup, only: &[(String, String)], data: &Path) -> Result<Plan> {
        let counted = counted_generations(&self.start.held, &self.topic).await?;
        let setup = in_generations(setup, &counted);
        let without_generations = |setup: &Setup| {
            let mut setup = setup.clone();
            setup.definitions.iter_mut().for_each(|spec| spec.generation = 0);
            setup
        };
        if let Some(plan) = self.start.store.plan(&self.topic).await?
            && plan.only == only
            && plan.files == self.front.digests
            && without_generations(&plan.setup) == without_generations(&setup)
        {
            eprintln!("going on with what was begun before");
            hide_generations(&self.start.held, &generations(&plan)).await?;
            return Ok(plan);
        }
        let mut elsewhere = counted_elsewhere(&self.start.held, &self.topic, only).await?;
        if self.has_all_of_files(data)? {
            elsewhere.retain(|(_, log)| !log.starts_with("file-"));
        }
        if let [(app, log), ..] = elsewhere.as_slice() {
            bail!(
                "app {app} is also counted from {log}: its numbers from there would no longer be shown beside those that are \
                 counted anew. Name all files that were replayed in front of the topic (cambium replay FILE… --topic), or bring both \
                 into one topic (cambium send, cambium rekey) and count that"
            );
        }
        let highest = highest_generations(&self.start.held).await?;
        let mut counted = setup.clone();
        for spec in &mut counted.definitions {
            let name = (spec.kind.clone(), spec.name.clone());
            if only.contains(&name) {
                spec.generation = 1 + highest.get(&name).copied().unwrap_or(0).max(spec.generation);
            }
        }
        let partitions = self.logs.0.partitions(&self.topic)?;
        let bounds = (0..partitions).map(|partition| self.logs.0.bounds(&self.topic, partition));
        let begun = bounds.map(|bounds| Ok(bounds?.start)).collect::<Result<_>>()?;
        let plan = Plan {
            setup: counted,
            only: only.to_vec(),
            begun,
            files: self.front.digests.clone(),
        };
        self.start.store.write_plan(&self.topic, Some(&plan)).await?;
        hide_generations(&self.start.held, &generations(&plan)).await?;
        Ok(plan)
    }

    /// Whether all files that were ever replayed by themselves come in front.
    fn has_all_of_files(&self, data: &Path) -> Result<bool> {
        let log = FileLog::open(data, String::new)?;
        let mut files = log.commands().iter().flat_map(|command| &command.files);
        Ok(files.all(|file| self.front.digests.contains(&file.digest)))
    }

    /// Counts all partitions, as many at a time as there are cores; gives the number of records that were read.
    async fn count(&self, plan: &Plan) -> Result<u64> {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        let work = Mutex::new(Work {
            waiting: (0..plan.begun.len() as i32).collect(),
            records: 0,
        });
        let progress = bar(0, "{human_pos} of {human_len} records, {per_sec}, {eta} left");
        let runtime = tokio::runtime::Handle::current();
        let counted = tokio::task::block_in_place(|| {
            std::thread::scope(|scope| {
                let count = || {
                    let _entered = runtime.enter();
                    while let Some(partition) = { locked(&work).waiting.pop_front() } {
                        let read = self.count_partition(plan, partition, &progress);
                        let read = read.with_context(|| format!("{}", self.topic(partition)));
                        match read {
                            Ok(read) => locked(&work).records += read,
                            Err(error) => {
                                locked(&work).waiting.clear();
                                return Err(error);
                            }
                        }
                    }
                    Ok(())
                };
                let threads: Vec<_> = (0..cores).map(|_| scope.spawn(count)).collect();
                let ended = threads.into_iter().map(|thread| match thread.join() {
                    Ok(ended) => ended,
                    Err(panic) => std::panic::resume_unwind(panic),
                });
                ended.collect::<Vec<Result<()>>>()
            })
        });
        progress.finish_and_clear();
        counted.into_iter().collect::<Result<Vec<()>>>()?;
        Ok(locked(&work).records)
    }

    fn count_partition(&self, plan: &Plan, partition: i32, progress: &ProgressBar) -> Result<u64> {
        let start = Start {
            topic: self.topic(partition),
            setup: plan.setup.clone(),
            ..self.start.clone()
        };
        let begun = plan.begun[partition as usize];
        let earliest = self.logs.0.bounds(&self.topic, partition)?.start;
        let (mut first, mut last, mut whole) = (None, 0, 0);
        let mut tell = |position: i64, until: i64| {
            let from = *first.get_or_insert(position);
            let length = (until - from).max(0) as u64;
            progress.inc_length(length.saturating_sub(whole));
            whole = whole.max(length);
            let read = (position - from).max(0) as u64;
            progress.inc(read.saturating_sub(last));
            last = last.max(read);
        };
        let runtime = tokio::runtime::Handle::current();
        let counting = runtime.block_on(Counting::<Processors, _>::begin(
            start,
            &plan.only,
            (begun, earliest),
        ))?;
        let Some(mut counting) = counting else {
            bail!(
                "it was never counted: `cambium run` counts a topic from its beginning when it sees it first, and needs no past"
            );
        };
        let wait = || std::thread::sleep(Duration::from_millis(5));
        if let Some(mut spool) = self.front.partition(partition).filter(|_| counting.is_at_front()) {
            let records = spool.entries()?.map(|entry| {
                entry.map(|Entry { schema, bytes }| InFront {
                    schema,
                    payload: bytes,
                })
            });
            counting.read_front(&self.front.schemas, records)?;
        }
        counting.read(&*self.logs, &wait, &mut tell)?;
        while runtime.block_on(counting.is_far())? {
            counting.read(&*self.logs, &wait, &mut tell)?;
        }
        while !counting.go_on_ending()? {
            wait();
        }
        runtime.block_on(counting.leave())?;
        Ok(last)
    }

    /// Waits until each partition has taken over what was counted, and left its rows.
    async fn wait_until_taken(&self, setup: &Setup) -> Result<()> {
        let partitions = self.logs.0.partitions(&self.topic)?;
        let mut said_at: Option<Instant> = None;
        let mut waiting: Vec<i32> = (0..partitions).collect();
        while !waiting.is_empty() {
            let mut still = Vec::new();
            for partition in waiting {
                let snapshots = self.start.store.partition(&self.topic(partition), 1);
                if taken_over(&snapshots, setup).await?.is_none() {
                    still.push(partition);
                }
            }
            waiting = still;
            if !waiting.is_empty() {
                if said_at.is_none_or(|at| at.elapsed() >= SAY_EVERY) {
                    eprintln!(
                        "waiting for `cambium run` to take over {} of {partitions} partitions",
                        waiting.len()
                    );
                    said_at = Some(Instant::now());
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
        let flushes = (0..partitions).map(|partition| self.wait_for_flush(self.topic(partition)));
        try_join_all(flushes).await?;
        Ok(())
    }

    /// A flush that is seen to come may have been begun before now; the one behind it was not.
    async fn wait_for_flush(&self, topic: Topic) -> Result<()> {
        let mut seen = Vec::new();
        while seen.len() < 3 {
            // Where no record was ever counted, there is nothing to wait for.
            let Some(progress) = self.start.held.progress(&topic).await? else {
                return Ok(());
            };
            if seen.last() != Some(&progress.flushed_at) {
                seen.push(progress.flushed_at);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }
}
