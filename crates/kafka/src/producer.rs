//! Producing events keyed by user, so that one partition sees all of a user.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use cambium_event::{Fields, Plan, Record, read};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};

/// A producer of JSON lines. The partitioner is Java's default, so that a user stays on their
/// partition whoever sends.
pub struct Producer {
    producer: ThreadedProducer<Deliveries>,
    plan: Plan,
}

/// Counts what the broker did not take.
#[derive(Default)]
struct Deliveries {
    failed: std::sync::Mutex<Option<String>>,
}

impl rdkafka::ClientContext for Deliveries {}

impl rdkafka::producer::ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &rdkafka::message::DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result
            && let Ok(mut failed) = self.failed.lock()
        {
            failed.get_or_insert_with(|| error.to_string());
        }
    }
}

impl Producer {
    pub fn new(brokers: &str, settings: &BTreeMap<String, String>) -> Result<Producer> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", brokers)
            .set("partitioner", "murmur2_random")
            .set("enable.idempotence", "true")
            .set("compression.type", "lz4")
            .set("linger.ms", "20")
            .set("message.max.bytes", "8000000");
        for (name, value) in settings {
            config.set(name, value);
        }
        let producer = config.create_with_context(Deliveries::default());
        let producer = producer.with_context(|| format!("cannot make a producer for {brokers}"))?;
        Ok(Producer {
            producer,
            plan: Plan::new(&Fields::default(), &[]),
        })
    }

    /// Sends a line under the key of its user; what is no event goes without a key.
    pub fn send(&self, topic: &str, line: &[u8], timestamp_ms: Option<i64>) -> Result<()> {
        let record = Record {
            payload: Some(line),
            ..Record::default()
        };
        let user = read(&record, &self.plan, |event| event.user().to_owned()).unwrap_or_default();
        let key = (!user.is_empty()).then_some(user.as_bytes());
        self.send_raw(topic, key, line, timestamp_ms)
    }

    /// Sends bytes as they are; waits while the queue is full.
    pub fn send_raw(
        &self,
        topic: &str,
        key: Option<&[u8]>,
        payload: &[u8],
        timestamp_ms: Option<i64>,
    ) -> Result<()> {
        self.send_record(topic, key, Some(payload), timestamp_ms, &[])
    }

    /// Sends a record of whatever form: without a value it is a tombstone.
    pub fn send_record(
        &self,
        topic: &str,
        key: Option<&[u8]>,
        payload: Option<&[u8]>,
        timestamp_ms: Option<i64>,
        headers: &[(&str, &[u8])],
    ) -> Result<()> {
        loop {
            let mut message: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic);
            if let Some(payload) = payload {
                message = message.payload(payload);
            }
            if let Some(key) = key {
                message = message.key(key);
            }
            if !headers.is_empty() {
                let all = OwnedHeaders::new_with_capacity(headers.len());
                message = message.headers(headers.iter().fold(all, |all, (key, value)| {
                    all.insert(Header {
                        key,
                        value: Some(*value),
                    })
                }));
            }
            if let Some(timestamp) = timestamp_ms {
                message = message.timestamp(timestamp);
            }
            match self.producer.send(message) {
                Ok(()) => return Ok(()),
                // The queue is full: the broker is slower than we are.
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err((error, _)) => {
                    return Err(error).with_context(|| format!("cannot send to topic {topic}"));
                }
            }
        }
    }

    /// Waits until the broker has taken all.
    pub fn flush(&self, timeout: Duration) -> Result<()> {
        self.producer
            .flush(timeout)
            .context("the broker did not take all records in time")?;
        let failed = self
            .producer
            .context()
            .failed
            .lock()
            .ok()
            .and_then(|failed| failed.clone());
        match failed {
            Some(error) => anyhow::bail!("the broker did not take a record: {error}"),
            None => Ok(()),
        }
    }
}

/// As many replicas as the broker gives by default.
const AS_THE_BROKER_DOES: TopicReplication<'static> = TopicReplication::Fixed(-1);

/// Creates a topic; one that is there already is left as it is.
pub async fn create_topic(
    brokers: &str,
    settings: &BTreeMap<String, String>,
    topic: &str,
    partitions: i32,
) -> Result<()> {
    let new = NewTopic::new(topic, partitions, AS_THE_BROKER_DOES);
    create(brokers, settings, new).await
}

/// Creates a topic of one partition that keeps the newest record of each key.
pub(crate) async fn create_compacted_topic(
    brokers: &str,
    settings: &BTreeMap<String, String>,
    topic: &str,
) -> Result<()> {
    let new = NewTopic::new(topic, 1, AS_THE_BROKER_DOES).set("cleanup.policy", "compact");
    create(brokers, settings, new).await
}

async fn create(brokers: &str, settings: &BTreeMap<String, String>, new: NewTopic<'_>) -> Result<()> {
    let topic = new.name;
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers);
    for (name, value) in settings {
        config.set(name, value);
    }
    let admin: AdminClient<DefaultClientContext> = config.create().context("cannot make a Kafka client")?;
    let options = AdminOptions::new()
        .request_timeout(Some(Duration::from_secs(30)))
        .operation_timeout(Some(Duration::from_secs(20)));
    let results = admin.create_topics([&new], &options).await;
    for result in results.with_context(|| format!("cannot create topic {topic} on {brokers}"))? {
        match result {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((name, error)) => anyhow::bail!("cannot create topic {name} on {brokers}: {error}"),
        }
    }
    Ok(())
}
