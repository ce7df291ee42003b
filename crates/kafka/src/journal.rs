//! A topic of one partition as a journal with one writer: who is assigned the partition reads what is there and
//! may write on. Appending and reading back shows whether somebody else has taken over meanwhile.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use rdkafka::util::Timeout;
use rdkafka::{ClientConfig, ClientContext, TopicPartitionList};

use crate::producer::create_compacted_topic;
use crate::source::let_go;

/// Where a journal is.
#[derive(Clone, Debug)]
pub struct Place {
    pub brokers: String,
    pub settings: BTreeMap<String, String>,
    pub topic: String,
    /// Whose members take turns at owning it.
    pub group: String,
}

/// One entry. The newest of a key is the one that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalEntry {
    pub offset: i64,
    pub key: String,
    pub payload: Vec<u8>,
}

/// Whether the partition is ours, and the how-many-th time.
#[derive(Default)]
struct Standing {
    is_owner: AtomicBool,
    turns: AtomicU64,
    /// What was last said of a broker that cannot be reached.
    reason: Mutex<String>,
}

impl ClientContext for Standing {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!("journal: {reason} ({error})");
        // That all brokers are down is no reason for it.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown)
            && let Ok(mut last) = self.reason.lock()
        {
            reason.clone_into(&mut last);
        }
    }
}

impl ConsumerContext for Standing {
    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        // A topic that the broker made by itself may have more partitions; the first is the journal.
        let has_journal = |partitions: &TopicPartitionList| {
            partitions
                .elements()
                .iter()
                .any(|one| one.partition() == PARTITION)
        };
        // Who joins is told of nothing, and who owns it keeps it.
        match rebalance {
            Rebalance::Assign(partitions) if has_journal(partitions) => {
                self.turns.fetch_add(1, Ordering::Relaxed);
                self.is_owner.store(true, Ordering::Relaxed);
            }
            Rebalance::Revoke(partitions) if has_journal(partitions) => {
                self.is_owner.store(false, Ordering::Relaxed);
            }
            _ => {}
        }
    }
}

/// A member of the journal's group.
pub struct Journal {
    /// None: it has been left.
    consumer: Option<Arc<BaseConsumer<Standing>>>,
    writer: JournalWriter,
    place: Place,
}

/// Writes entries, whoever owns the journal.
#[derive(Clone)]
pub struct JournalWriter {
    producer: FutureProducer,
    topic: String,
}

const PARTITION: i32 = 0;
/// An owner that is gone is replaced after so long.
const SESSION_MS: &str = "8000";
const APPEND_TIMEOUT: Duration = Duration::from_secs(10);

fn client(place: &Place) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &place.brokers);
    for (name, value) in &place.settings {
        config.set(name, value);
    }
    config
}

impl JournalWriter {
    pub fn open(place: &Place) -> Result<JournalWriter> {
        let producer = client(place)
            .set("enable.idempotence", "true")
            .set("message.timeout.ms", "8000")
            .set_log_level(RDKafkaLogLevel::Emerg)
            .create()
            .context("[kafka] settings: librdkafka does not take them")?;
        Ok(JournalWriter {
            producer,
            topic: place.topic.clone(),
        })
    }

    /// A broker may create a topic that a producer asks for.
    async fn ask_for_topic(&self) {
        let (producer, topic) = (self.producer.clone(), self.topic.clone());
        let asking = tokio::task::spawn_blocking(move || {
            let asked = producer
                .client()
                .fetch_metadata(Some(&topic), Duration::from_secs(2));
            asked.map(|_| ())
        });
        if let Ok(Err(error)) = asking.await {
            tracing::debug!("journal: {error}");
        }
    }

    /// Appends an entry, and waits until the broker has it; gives its offset.
    pub async fn append(&self, key: &str, payload: &[u8]) -> Result<i64> {
        let record = FutureRecord::to(&self.topic)
            .partition(PARTITION)
            .key(key)
            .payload(payload);
        let delivered = self.producer.send(record, Timeout::After(APPEND_TIMEOUT)).await;
        let delivery = delivered
            .map_err(|(error, _)| error)
            .with_context(|| format!("cannot write to the journal, topic {}", self.topic))?;
        Ok(delivery.offset)
    }
}

impl Journal {
    /// A member that has not joined the group yet; no broker is asked.
    ///
    /// # Errors
    /// Where librdkafka does not take the settings.
    pub fn new(place: Place) -> Result<Journal> {
        let mut config = client(&place);
        config
            .set("group.id", &place.group)
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest")
            .set("session.timeout.ms", SESSION_MS)
            .set("heartbeat.interval.ms", "2000")
            .set("max.poll.interval.ms", "86400000")
            .set("fetch.wait.max.ms", "100");
        // Whoever owns the partition keeps it when another joins.
        config.set("partition.assignment.strategy", "cooperative-sticky");
        let consumer: BaseConsumer<Standing> = config
            .set_log_level(RDKafkaLogLevel::Emerg)
            .create_with_context(Standing::default())
            .context("[kafka] settings: librdkafka does not take them")?;
        Ok(Journal {
            consumer: Some(Arc::new(consumer)),
            writer: JournalWriter::open(&place)?,
            place,
        })
    }

    /// Joins the group. The topic is created where it is not there.
    ///
    /// # Errors
    /// Where the broker cannot be reached, or does not let the topic be created.
    pub async fn join(&self) -> Result<()> {
        let place = &self.place;
        if !self.topics().await?.contains(&place.topic) {
            let created = create_compacted_topic(&place.brokers, &place.settings, &place.topic).await;
            if let Err(error) = created {
                // The in-process broker creates no topic on demand, but makes one that is asked for.
                self.writer.ask_for_topic().await;
                if !self.topics().await?.contains(&place.topic) {
                    return Err(error);
                }
            }
        }
        self.consumer()?
            .subscribe(&[&place.topic])
            .with_context(|| format!("cannot subscribe to {}", place.topic))
    }

    fn consumer(&self) -> Result<&Arc<BaseConsumer<Standing>>> {
        self.consumer.as_ref().context("the journal has been left")
    }

    pub fn writer(&self) -> &JournalWriter {
        &self.writer
    }

    /// What topics the broker has; an error where it cannot be reached.
    pub async fn topics(&self) -> Result<Vec<String>> {
        let consumer = self.consumer()?.clone();
        let asking = consumer.clone();
        let asked = tokio::task::spawn_blocking(move || asking.fetch_metadata(None, Duration::from_secs(2)));
        let metadata = asked.await.context("asking the broker ended")?.with_context(|| {
            let reason = consumer.context().reason.lock();
            let reason = reason.map(|reason| reason.clone()).unwrap_or_default();
            format!("Kafka at {} cannot be reached: {reason}", self.place.brokers)
        })?;
        Ok(metadata
            .topics()
            .iter()
            .map(|topic| topic.name().to_owned())
            .collect())
    }

    /// Which turn at owning the journal this is; none: another owns it, or nobody.
    pub fn turn(&self) -> Option<u64> {
        let standing = self.consumer.as_ref()?.context();
        let is_owner = standing.is_owner.load(Ordering::Relaxed);
        is_owner.then(|| standing.turns.load(Ordering::Relaxed))
    }

    /// The entries that have come since the last call; with a new turn they begin at the beginning. To be called
    /// at least once a second.
    pub fn poll(&self) -> Result<Vec<JournalEntry>> {
        let mut entries = Vec::new();
        while let Some(polled) = self.consumer()?.poll(Duration::ZERO) {
            match polled {
                Ok(message) if message.partition() != PARTITION => {}
                Ok(message) => entries.push(JournalEntry {
                    offset: message.offset(),
                    key: String::from_utf8_lossy(message.key().unwrap_or_default()).into_owned(),
                    payload: message.payload().unwrap_or_default().to_vec(),
                }),
                Err(KafkaError::MessageConsumption(RDKafkaErrorCode::TopicAuthorizationFailed)) => {
                    return Err(anyhow!("the topic {} may not be read", self.place.topic));
                }
                Err(error) => tracing::debug!("journal: {error}"),
            }
        }
        Ok(entries)
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        let_go(self.consumer.take());
    }
}
