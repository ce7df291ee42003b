//! The consumer group. Each partition that is assigned gets a thread of its own, which owns everything
//! about it; threads share nothing.
//!
//! Back-pressure is not polling a partition's queue. Offsets are committed for lag tools only: where a
//! partition goes on is in its snapshot.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use cambium_event::Record;
use rdkafka::bindings::rd_kafka_resp_err_t;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};

use crate::PartitionLog;
use crate::batch::{Batch, Queue};
use crate::look::Looker;
use crate::silence::is_silence;
use crate::topics::{TopicNow, topics_now};

/// What the group is joined with.
#[derive(Clone, Debug)]
pub struct Settings {
    pub brokers: String,
    pub group: String,
    pub topics: Vec<String>,
    pub settings: BTreeMap<String, String>,
}

impl Settings {
    /// Whether librdkafka takes them; nothing is connected to.
    pub fn check(&self) -> Result<()> {
        let config = self.config().create_native_config();
        config.map(|_| ()).context(REFUSED)
    }

    pub(crate) fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("group.id", &self.group)
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            // A process that was killed gives its partitions up after 10 s; one that waits for ClickHouse or
            // loads a large snapshot in a rebalance keeps them.
            .set("session.timeout.ms", "10000")
            .set("max.poll.interval.ms", "86400000")
            .set("check.crcs", "true")
            .set("queued.max.messages.kbytes", "4096")
            .set("fetch.queue.backoff.ms", "10")
            .set("fetch.wait.max.ms", "100");
        for (name, value) in &self.settings {
            config.set(name, value);
        }
        // A partition's end, taken with a batch, counts as a record for librdkafka (rd_kafka_q_serve_rkmessages takes
        // the offset behind it for the application's place): when the connection is made anew, it reads on one record
        // too far. So no end is asked for, whatever the settings say.
        config.set("enable.partition.eof", "false");
        config
    }
}

const REFUSED: &str = "[kafka] settings: librdkafka does not take them";

/// Does the work of one partition, on its own thread.
pub trait Worker: Send + 'static {
    /// Where the partition is read from.
    fn position(&self) -> i64;
    /// Whether the next records are wanted with their headers, which librdkafka reads for itself, record by record.
    fn wants_headers(&self) -> bool;
    /// How many of the records were taken, from the first on; the others are offered again, after a tick.
    fn apply(&mut self, records: &[Record<'_>]) -> Result<usize>;
    /// Called many times a second, with the end of the log; gives the offset that is safe.
    fn tick(&mut self, end_offset: i64) -> Result<i64>;
    /// Whether to stop reading for a while.
    fn is_full(&self) -> bool;
    /// Whether it wants to end and to begin again where it is, by [`Worker::start_again`].
    fn wants_to_start_again(&self) -> bool;
    /// It may be at an earlier position then.
    fn start_again(self, end_offset: i64) -> Result<Self>
    where
        Self: Sized;
    /// Leaves everything safe; gives the offset that is.
    fn finish(self) -> Result<i64>;
}

/// Makes the worker of a partition that is assigned. May wait.
pub trait Assigner {
    type Worker: Worker;
    fn start(&mut self, log: &PartitionLog<'_>) -> Result<Self::Worker>;
    /// Told once a second what is heard of the topics that are read.
    fn hears(&self, news: News);
    /// Told once a second where the log of a partition begins, that is read here.
    fn begins_at(&self, topic: &str, partition: i32, earliest: i64);
}

/// What is heard of the topics that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    AllIsWell,
    NoBrokerAnswers,
    /// A topic does not exist any more: nothing is read until it does.
    TopicIsGone,
}

enum Rebalance {
    Assign(TopicPartitionList),
    Revoke(TopicPartitionList),
}

impl Rebalance {
    /// Agrees without doing anything for it. The group waits for an answer, or it cannot be left.
    fn agree(&self, consumer: &BaseConsumer<Group>) {
        let agreed = match self {
            // From the end on: where the group once was need not be asked for, and nothing is read.
            Rebalance::Assign(partitions) => {
                let mut partitions = partitions.clone();
                let set = partitions.set_all_offsets(Offset::End);
                set.and_then(|()| consumer.incremental_assign(&partitions))
            }
            Rebalance::Revoke(partitions) => consumer.incremental_unassign(partitions),
        };
        if let Err(error) = agreed {
            tracing::debug!("leaving the group: {error}");
        }
    }
}

/// Takes notes of rebalances; they are carried out by the loop that polls.
#[derive(Default)]
struct Group {
    rebalances: Mutex<VecDeque<Rebalance>>,
    /// Nobody carries rebalances out any more: what is given or taken is agreed to at once.
    leaving: AtomicBool,
    warned_at: Mutex<Option<Instant>>,
    /// Whether the group has ever given us something: then we were let in.
    has_joined: AtomicBool,
    /// Why a broker does not let us in.
    refused: Mutex<Option<String>>,
}

impl ClientContext for Group {
    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code();
        // The end of a partition is told here too, though it is none.
        if code == Some(RDKafkaErrorCode::PartitionEOF) {
            return;
        }
        let is_refused = match code {
            Some(RDKafkaErrorCode::Authentication) => true,
            // A broker that is ending breaks handshakes off, too; and who was let in may wait for a certificate.
            Some(RDKafkaErrorCode::SSL) => {
                reason.contains("certificate") && !self.has_joined.load(Ordering::Relaxed)
            }
            _ => false,
        };
        if is_refused && let Ok(mut refused) = self.refused.lock() {
            *refused = Some(reason.to_owned());
        }
        self.warn(format!("Kafka: {reason} ({error})"));
    }
}

/// A broker that is away is said by every partition, many times a second: one warning in so long is enough.
const WARN_EVERY: Duration = Duration::from_secs(5);

impl Group {
    fn warn(&self, text: String) {
        let Ok(mut warned_at) = self.warned_at.lock() else {
            return;
        };
        if warned_at.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
            *warned_at = Some(Instant::now());
            tracing::warn!("{text}");
        } else {
            tracing::debug!("{text}");
        }
    }
}

impl ConsumerContext for Group {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        error: rd_kafka_resp_err_t,
        partitions: &mut TopicPartitionList,
    ) {
        let rebalance = if error == rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            Rebalance::Assign(partitions.clone())
        } else {
            Rebalance::Revoke(partitions.clone())
        };
        self.has_joined.store(true, Ordering::Relaxed);
        if self.leaving.load(Ordering::Relaxed) {
            rebalance.agree(consumer);
        } else if let Ok(mut rebalances) = self.rebalances.lock() {
            rebalances.push_back(rebalance);
        }
    }
}

type Key = (String, i32);

fn keys(partitions: &TopicPartitionList) -> Vec<Key> {
    let partitions = partitions.elements();
    let keys = partitions
        .iter()
        .map(|one| (one.topic().to_owned(), one.partition()));
    keys.collect()
}

/// A partition's thread, and what it shares with the loop: numbers only.
struct Thread {
    handle: JoinHandle<Result<i64>>,
    stop: Arc<AtomicBool>,
    end: Arc<AtomicI64>,
    safe: Arc<AtomicI64>,
}

pub struct Source<A: Assigner> {
    config: ClientConfig,
    consumer: Arc<BaseConsumer<Group>>,
    assigner: A,
    threads: BTreeMap<Key, Thread>,
    /// The topics that are read, as they were when the first partition of each was assigned.
    topics: BTreeMap<String, TopicNow>,
    brokers: String,
}

/// A topic is not what it was when reading began: users would be counted on a log that is not theirs.
#[derive(Debug, PartialEq, Eq)]
pub enum TopicChanged {
    CreatedAgain { topic: String },
    HasGrown { topic: String, was: usize, is: usize },
}

impl std::error::Error for TopicChanged {}

impl std::fmt::Display for TopicChanged {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            TopicChanged::CreatedAgain { topic } => write!(
                out,
                "{topic} was created again while it was read. Start with --accept-gap to let counting go on over the \
                 new one from its beginning; `gaps` will say so"
            ),
            TopicChanged::HasGrown { topic, was, is } => write!(
                out,
                "{topic} has {is} partitions and had {was}: users would move between them, and be counted on both. Copy \
                 it to a topic of that size (cambium rekey --from {topic} --to NEW --partitions {is}) and count that into \
                 a database of its own, or count its files again (cambium replay)"
            ),
        }
    }
}

const POLL: Duration = Duration::from_millis(100);
const BROKER_TIMEOUT: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What is only looked at is asked again a second later.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);
/// The group is told that it is left, but a broker that does not listen is not waited for.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(3);

/// Drops a client. librdkafka looks for a broker that is gone for as long as a session lasts, and nobody waits for
/// that.
pub(crate) fn let_go<C: Send + 'static>(client: C) {
    let (done, left) = mpsc::channel();
    std::thread::spawn(move || {
        drop(client);
        let _ = done.send(());
    });
    if left.recv_timeout(LEAVE_TIMEOUT).is_err() {
        tracing::debug!("the group does not answer, and forgets this consumer by itself");
    }
}

impl<A: Assigner> Source<A> {
    pub fn new(settings: &Settings, assigner: A) -> Result<Self> {
        let config = settings.config();
        let consumer: BaseConsumer<Group> = config.create_with_context(Group::default()).context(REFUSED)?;
        let topics: Vec<&str> = settings.topics.iter().map(String::as_str).collect();
        consumer
            .subscribe(&topics)
            .with_context(|| format!("cannot subscribe to {}", topics.join(", ")))?;
        let brokers = settings.brokers.clone();
        Ok(Source {
            config,
            consumer: Arc::new(consumer),
            assigner,
            threads: BTreeMap::new(),
            topics: BTreeMap::new(),
            brokers,
        })
    }

    /// Consumes until `stop` is set; then everything is left safe.
    pub fn run(mut self, stop: &AtomicBool) -> Result<()> {
        let mut ended = self.consume(stop);
        let source = ended.as_ref().err().and_then(|error| error.downcast_ref());
        if source.is_some_and(is_out_of_range) {
            // That a topic is another says more than what came of it.
            ended = self.check_topics(BROKER_TIMEOUT).and(ended);
        }
        // A group that cannot be left in order is left all the same, with its work safe.
        let rest: Vec<Key> = self.threads.keys().cloned().collect();
        let finished = self.finish(&rest).map(|_| ());
        self.leave();
        ended.and(finished)
    }

    /// Agrees to what the group still waits for, and to all that it will want, until it is left.
    fn leave(self) {
        let group = self.consumer.context();
        group.leaving.store(true, Ordering::Relaxed);
        let rest = group.rebalances.lock().map(|mut rest| std::mem::take(&mut *rest));
        for rebalance in rest.unwrap_or_default() {
            rebalance.agree(&self.consumer);
        }
        let_go(self.consumer);
    }

    fn consume(&mut self, stop: &AtomicBool) -> Result<()> {
        let mut looked_at = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            self.poll(POLL)?;
            if looked_at.elapsed() >= LOOK_EVERY {
                looked_at = Instant::now();
                self.look_after_threads()?;
            }
        }
        self.consumer.unsubscribe();
        let deadline = Instant::now() + LEAVE_TIMEOUT;
        while !self.threads.is_empty() && Instant::now() < deadline {
            self.poll(POLL)?;
        }
        Ok(())
    }

    fn poll(&mut self, timeout: Duration) -> Result<()> {
        let consumer = self.consumer.clone();
        let polled = consumer.poll(timeout);
        // Nobody is let in by knocking again.
        if let Ok(mut refused) = consumer.context().refused.lock()
            && let Some(reason) = refused.take()
        {
            bail!(
                "Kafka at {} does not let us in: {reason}; [kafka] settings say who we are and whom we trust",
                self.brokers
            );
        }
        match polled {
            None | Some(Err(KafkaError::PartitionEOF(_))) => {}
            // It came before its queue was split off: read again from there, on the queue.
            Some(Ok(message)) => {
                let seek = consumer.seek(
                    message.topic(),
                    message.partition(),
                    Offset::Offset(message.offset()),
                    BROKER_TIMEOUT,
                );
                seek.with_context(|| format!("cannot go back on {}", message.topic()))?;
            }
            Some(Err(KafkaError::MessageConsumption(RDKafkaErrorCode::UnknownTopicOrPartition))) => {
                let text = format!("a topic does not exist on {} (yet)", self.brokers);
                consumer.context().warn(text);
            }
            Some(Err(error)) if is_fatal(&error) => return Err(error).context("Kafka"),
            Some(Err(error)) => consumer.context().warn(format!("Kafka: {error}")),
        }
        while let Some(rebalance) = self.next_rebalance()? {
            let done = match &rebalance {
                Rebalance::Assign(partitions) => self.assign(partitions.clone()),
                Rebalance::Revoke(partitions) => self.revoke(partitions),
            };
            if let Err(error) = done {
                let is_assigned = matches!(rebalance, Rebalance::Assign(_));
                // What failed half-way is still to be answered: when a broker does, or as we leave.
                self.rebalances()?.push_front(rebalance);
                if is_assigned && is_silence(&error) {
                    consumer.context().warn(format!("{error:#}; trying again"));
                    return Ok(());
                }
                return Err(error);
            }
        }
        Ok(())
    }

    fn rebalances(&self) -> Result<MutexGuard<'_, VecDeque<Rebalance>>> {
        let rebalances = self.consumer.context().rebalances.lock();
        rebalances.map_err(|_| anyhow!("a rebalance was lost"))
    }

    fn next_rebalance(&self) -> Result<Option<Rebalance>> {
        Ok(self.rebalances()?.pop_front())
    }

    fn assign(&mut self, mut partitions: TopicPartitionList) -> Result<()> {
        let keys = keys(&partitions);
        self.check_topics(BROKER_TIMEOUT)?;
        let looker = Looker::new(self.config.clone());
        let mut workers = Vec::new();
        for (topic, partition) in &keys {
            let (worker, end) = self.start_worker(topic, *partition, &looker)?;
            partitions
                .set_partition_offset(topic, *partition, Offset::Offset(worker.position()))
                .context("an offset is not valid")?;
            workers.push((worker, end));
        }
        self.consumer
            .incremental_assign(&partitions)
            .context("the assignment failed")?;
        for ((topic, partition), (worker, end)) in keys.into_iter().zip(workers) {
            let queue = Queue::split(&self.consumer, &topic, partition)
                .ok_or_else(|| anyhow!("{topic}[{partition}] has no queue"))?;
            let thread = spawn(&topic, partition, (self.consumer.clone(), queue), worker, end)?;
            self.threads.insert((topic, partition), thread);
        }
        Ok(())
    }

    fn start_worker(&mut self, topic: &str, partition: i32, looker: &Looker) -> Result<(A::Worker, i64)> {
        let (earliest, end) = self
            .consumer
            .fetch_watermarks(topic, partition, BROKER_TIMEOUT)
            .with_context(|| format!("cannot ask {} what {topic}[{partition}] holds", self.brokers))?;
        let now = self.topic_now(topic)?;
        let log = PartitionLog {
            topic,
            partition,
            earliest,
            end,
            now: &now,
            looker,
        };
        Ok((self.assigner.start(&log)?, end))
    }

    fn topic_now(&mut self, topic: &str) -> Result<TopicNow> {
        if let Some(known) = self.topics.get(topic) {
            return Ok(known.clone());
        }
        let asked = topics_now(self.consumer.client(), &[topic], BROKER_TIMEOUT);
        let found = asked.with_context(|| format!("cannot ask {} for {topic}", self.brokers))?;
        let now = found.get(topic);
        let now = now.with_context(|| format!("{topic} does not exist on {}", self.brokers))?;
        self.topics.insert(topic.to_owned(), now.clone());
        Ok(now.clone())
    }

    /// Whether all topics are still those that they were.
    fn check_topics(&self, patience: Duration) -> Result<News> {
        let names: Vec<&str> = self.topics.keys().map(String::as_str).collect();
        if names.is_empty() {
            return Ok(News::AllIsWell);
        }
        let Ok(found) = topics_now(self.consumer.client(), &names, patience) else {
            return Ok(News::NoBrokerAnswers);
        };
        let is_gone = found.len() < names.len();
        for (topic, is) in found {
            let Some(was) = self.topics.get(&topic) else {
                continue;
            };
            if is.is_another(was) {
                return Err(TopicChanged::CreatedAgain { topic }.into());
            }
            let (was, is) = (was.partitions, is.partitions);
            if was != is {
                return Err(TopicChanged::HasGrown { topic, was, is }.into());
            }
        }
        Ok(if is_gone {
            News::TopicIsGone
        } else {
            News::AllIsWell
        })
    }

    /// Threads are joined before their partitions are given back.
    fn revoke(&mut self, partitions: &TopicPartitionList) -> Result<()> {
        let safe = self.finish(&keys(partitions))?;
        // Nothing is waited for: a broker that is gone would hold the process for as long as it is looked for.
        self.commit(&safe);
        self.consumer
            .incremental_unassign(partitions)
            .context("the partitions could not be given back")
    }

    fn finish(&mut self, keys: &[Key]) -> Result<TopicPartitionList> {
        let threads: Vec<(Key, Thread)> = keys
            .iter()
            .filter_map(|key| Some((key.clone(), self.threads.remove(key)?)))
            .collect();
        for (_, thread) in &threads {
            thread.stop.store(true, Ordering::Relaxed);
        }
        let mut safe = TopicPartitionList::new();
        for ((topic, partition), thread) in threads {
            let offset = thread
                .handle
                .join()
                .map_err(|_| anyhow!("the thread of {topic}[{partition}] panicked"))?;
            let offset = offset.with_context(|| format!("{topic}[{partition}]"))?;
            safe.add_partition_offset(&topic, partition, Offset::Offset(offset))
                .context("an offset is not valid")?;
        }
        Ok(safe)
    }

    /// Tells the threads where the log ends, commits what is safe, and notices a thread that failed.
    fn look_after_threads(&mut self) -> Result<()> {
        let failed: Vec<Key> = self
            .threads
            .iter()
            .filter(|(_, thread)| thread.handle.is_finished())
            .map(|(key, _)| key.clone())
            .collect();
        if !failed.is_empty() {
            self.finish(&failed)?;
            bail!("a partition's thread ended by itself");
        }
        let mut safe = TopicPartitionList::new();
        for ((topic, partition), thread) in &self.threads {
            if let Ok((earliest, end)) = self.consumer.fetch_watermarks(topic, *partition, ANSWER_TIMEOUT) {
                self.assigner.begins_at(topic, *partition, earliest);
                thread.end.fetch_max(end, Ordering::Relaxed);
            }
            let offset = Offset::Offset(thread.safe.load(Ordering::Relaxed));
            safe.add_partition_offset(topic, *partition, offset)
                .context("an offset is not valid")?;
        }
        self.assigner.hears(self.check_topics(ANSWER_TIMEOUT)?);
        self.commit(&safe);
        Ok(())
    }

    /// Leaves offsets for lag tools.
    fn commit(&self, safe: &TopicPartitionList) {
        if safe.count() > 0
            && let Err(error) = self.consumer.commit(safe, CommitMode::Async)
        {
            tracing::debug!("offsets for lag tools were not committed: {error}");
        }
    }
}

pub(crate) fn is_out_of_range(error: &KafkaError) -> bool {
    matches!(
        error,
        KafkaError::MessageConsumption(
            RDKafkaErrorCode::OffsetOutOfRange | RDKafkaErrorCode::AutoOffsetReset
        )
    )
}

pub(crate) fn is_fatal(error: &KafkaError) -> bool {
    let code = match error {
        KafkaError::MessageConsumptionFatal(_) => return true,
        KafkaError::MessageConsumption(code) | KafkaError::Global(code) => *code,
        _ => return false,
    };
    matches!(
        code,
        RDKafkaErrorCode::Authentication
            | RDKafkaErrorCode::SaslAuthenticationFailed
            | RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::GroupAuthorizationFailed
            | RDKafkaErrorCode::OffsetOutOfRange
            | RDKafkaErrorCode::AutoOffsetReset
    )
}

fn spawn<W: Worker>(
    topic: &str,
    partition: i32,
    (consumer, queue): (Arc<BaseConsumer<Group>>, Queue<Group>),
    worker: W,
    end: i64,
) -> Result<Thread> {
    let stop = Arc::new(AtomicBool::new(false));
    let end = Arc::new(AtomicI64::new(end));
    let safe = Arc::new(AtomicI64::new(worker.position()));
    let shared = (stop.clone(), end.clone(), safe.clone());
    let name = topic.to_owned();
    let handle = std::thread::Builder::new()
        .name(format!("{topic}[{partition}]"))
        .spawn(move || {
            let place = Place {
                consumer: &consumer,
                topic: &name,
                partition,
                is_begun: false,
            };
            own(place, &queue, worker, &shared.0, &shared.1, &shared.2)
        })
        .context("cannot start a thread for a partition")?;
    Ok(Thread {
        handle,
        stop,
        end,
        safe,
    })
}

/// Until a record that was not taken is offered again.
const RETRY: Duration = Duration::from_millis(200);
/// Until a partition's thread looks up when no record comes.
const PATIENCE: Duration = Duration::from_millis(20);

/// Where a partition is read from, as against where its state stands.
struct Place<'c> {
    consumer: &'c BaseConsumer<Group>,
    topic: &'c str,
    partition: i32,
    /// The record at the state's position, or one behind a seek to it, has come.
    is_begun: bool,
}

impl Place<'_> {
    /// Keeps what comes next. What was read before does not; nor does anything where records before the first came
    /// while the queue was not split off yet: the partition is read again from where its state stands. What then still
    /// lies between is no record (compaction, transaction markers).
    fn keep_next(&mut self, records: &mut Vec<Record<'_>>, position: i64) {
        records.retain(|record| record.offset >= position);
        let Some(first) = records.first().filter(|_| !self.is_begun) else {
            return;
        };
        if first.offset == position {
            self.is_begun = true;
            return;
        }
        records.clear();
        let back = Offset::Offset(position);
        match self
            .consumer
            .seek(self.topic, self.partition, back, BROKER_TIMEOUT)
        {
            Ok(()) => self.is_begun = true,
            // It is tried again with the next records.
            Err(error) => tracing::debug!("Kafka: cannot go back to {position}: {error}"),
        }
    }
}

fn own<W: Worker>(
    mut place: Place<'_>,
    queue: &Queue<Group>,
    mut worker: W,
    stop: &AtomicBool,
    end: &AtomicI64,
    safe: &AtomicI64,
) -> Result<i64> {
    let mut batch = Batch::new();
    while !stop.load(Ordering::Relaxed) {
        queue.take(&mut batch, PATIENCE);
        let headers = if worker.wants_headers() {
            batch.headers()
        } else {
            Vec::new()
        };
        let mut records = batch.records(&headers);
        if let Some(last) = records.last() {
            end.fetch_max(last.offset + 1, Ordering::Relaxed);
        }
        place.keep_next(&mut records, worker.position());
        let mut taken = 0;
        while taken < records.len() {
            taken += worker.apply(&records[taken..])?;
            if taken < records.len() {
                if stop.load(Ordering::Relaxed) {
                    return worker.finish();
                }
                safe.store(worker.tick(end.load(Ordering::Relaxed))?, Ordering::Relaxed);
                std::thread::sleep(RETRY);
            }
        }
        for (error, reason) in batch.errors() {
            if is_out_of_range(&error) {
                let position = worker.position();
                return Err(error).with_context(|| {
                    format!(
                        "Kafka: {reason}: the log does not hold offset {position} (any more). \
                     Start again: what is lost is said then, and how to go on"
                    )
                });
            }
            if is_fatal(&error) {
                return Err(error).with_context(|| format!("Kafka: {reason}"));
            }
            // The client says what is wrong beside.
            tracing::debug!("Kafka: {error}: {reason}");
        }
        safe.store(worker.tick(end.load(Ordering::Relaxed))?, Ordering::Relaxed);
        if worker.wants_to_start_again() {
            worker = worker.start_again(end.load(Ordering::Relaxed))?;
            place.is_begun = false;
        }
        while worker.is_full() && !stop.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(10));
            worker.tick(end.load(Ordering::Relaxed))?;
        }
    }
    worker.finish()
}
