//! `cambium demo`: the main job in one process tree, with a simulated product.

mod screen;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use cambium_kafka::{InProcess, LocalKafka, Producer, create_topic};
use cambium_simulate::{Product, Settings};
use clap::Args;
use tempfile::TempDir;

use crate::config::Config;
use crate::warehouse::Warehouse;

pub use screen::NUMBERS;

/// Run the main job with a simulated product, and watch its numbers.
///
/// Example: cambium demo --kafka local
#[derive(Args, Debug)]
pub struct Arguments {
    /// `local` starts an Apache Kafka here; HOST:PORT uses yours. Left out: a broker inside this process
    #[arg(long, value_name = "local|HOST:PORT")]
    kafka: Option<String>,
    /// Your ClickHouse. Left out: the embedded engine
    #[arg(long, value_name = "URL")]
    clickhouse: Option<String>,
    /// What breaks a minute after the start, for a minute; an alert tells
    #[arg(long, value_name = "WHAT")]
    incident: Option<Incident>,
    /// Where alerts are sent, as JSON
    #[arg(long, value_name = "URL")]
    webhook: Option<String>,
    /// End after so many seconds
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Incident {
    /// Nobody can pay
    Payments,
}

const TOPIC: &str = "cambium-demo";
const GROUP: &str = "cambium-demo";
const PARTITIONS: i32 = 2;
const EVENTS_PER_SECOND: f64 = 200.0;
const HEAD_START_MS: i64 = 60_000;
/// After the start, and for how long.
const INCIDENT_AFTER_MS: i64 = 60_000;
const INCIDENT_LASTS_MS: i64 = 60_000;

/// The broker, for as long as the demo lasts.
enum Broker {
    InProcess(InProcess),
    Local(LocalKafka),
    Yours(String),
}

impl Broker {
    fn start(kafka: Option<&str>) -> Result<Broker> {
        Ok(match kafka {
            None => Broker::InProcess(InProcess::start()?),
            Some("local") => Broker::Local(LocalKafka::start()?),
            Some(brokers) => Broker::Yours(brokers.to_owned()),
        })
    }

    fn brokers(&self) -> String {
        match self {
            Broker::InProcess(mock) => mock.brokers(),
            Broker::Local(kafka) => kafka.brokers(),
            Broker::Yours(brokers) => brokers.clone(),
        }
    }
}

pub async fn run(arguments: Arguments) -> Result<()> {
    let broker = tokio::task::block_in_place(|| Broker::start(arguments.kafka.as_deref()))?;
    let place = Place::new(&broker)?;
    let config = place.config(
        &broker,
        arguments.clickhouse.as_deref(),
        arguments.webhook.as_deref(),
    )?;
    match &broker {
        Broker::InProcess(mock) => {
            mock.create_topic(TOPIC, PARTITIONS)?;
            mock.create_topic(&config.alerts_journal()?.topic, 1)?;
        }
        _ => create_topic(&broker.brokers(), &config.kafka_settings()?, TOPIC, PARTITIONS).await?,
    }
    let warehouse = Warehouse::open_for_writing(&config, &place.data).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let brokers = broker.brokers();
    let broken = arguments.incident.map(|_| {
        let from = now_ms() + INCIDENT_AFTER_MS;
        (from, from + INCIDENT_LASTS_MS)
    });
    let publishing = std::thread::spawn({
        let (stop, brokers) = (stop.clone(), brokers.clone());
        move || publish(&brokers, broken, &stop)
    });
    let watching = tokio::spawn(cambium_notify::run(
        config.watching()?,
        warehouse.client.clone(),
        stop.clone(),
        Arc::default(),
    ));
    let consuming = super::run::consume(
        (&config, None),
        warehouse.start(&config, &place.data, false)?,
        stop.clone(),
        Default::default(),
    );
    let shown = screen::show(&warehouse.client, &brokers, &place.config_path, broken);
    let limit = Duration::from_secs(arguments.seconds.unwrap_or(u64::MAX / 1000));
    let ended = async {
        tokio::select! {
            () = super::interrupted() => Ok(()),
            () = tokio::time::sleep(limit) => Ok(()),
            shown = shown => shown,
        }
    };
    let until_end = async {
        let ended = ended.await;
        stop.store(true, Ordering::Relaxed);
        ended
    };
    let (consumed, ended) = tokio::join!(consuming, until_end);
    stop.store(true, Ordering::Relaxed);
    let published = publishing
        .join()
        .map_err(|_| anyhow::anyhow!("the simulated product stopped"))?;
    let watched = watching.await.context("the alerts ended")?;
    consumed.and(ended).and(published).and(watched)
}

/// Where the demo keeps what it has: with a broker that ends with it, in a directory that does too.
struct Place {
    data: PathBuf,
    config_path: PathBuf,
    database: String,
    _scratch: Option<TempDir>,
}

impl Place {
    fn new(broker: &Broker) -> Result<Place> {
        let (data, scratch, database) = if let Broker::Yours(_) = broker {
            (
                PathBuf::from("./cambium-data/demo"),
                None,
                "cambium_demo".to_owned(),
            )
        } else {
            let scratch = tempfile::tempdir().context("cannot create a directory for the demo")?;
            (
                scratch.path().to_owned(),
                Some(scratch),
                format!("cambium_demo_{}", now_ms()),
            )
        };
        std::fs::create_dir_all(&data).with_context(|| format!("cannot create {}", data.display()))?;
        Ok(Place {
            config_path: data.join("cambium.toml"),
            data,
            database,
            _scratch: scratch,
        })
    }

    fn config(&self, broker: &Broker, clickhouse: Option<&str>, webhook: Option<&str>) -> Result<Config> {
        let channel = webhook.map_or(String::new(), |url| {
            format!("\n[[channel]]\nname = \"demo\"\nkind = \"webhook\"\nurl = \"{url}\"\n")
        });
        let url = clickhouse.map_or(String::new(), |url| format!("url = \"{url}\"\n"));
        let text = format!(
            r#"# The demo's configuration. A funnel of your own: add one, and start a `cambium run` with it.
[kafka]
brokers = "{}"
group = "{GROUP}"

[[source]]
topic = "{TOPIC}"

[clickhouse]
{url}database = "{}"

[snapshots]
every = "10 s"

[[funnel]]
name = "purchase"
steps = ["view", "cart", "checkout", "buy"]
within = "1 day"
by = ["platform"]

[[alert]]
name = "payments"
event = "buy"
{channel}"#,
            broker.brokers(),
            self.database
        );
        std::fs::write(&self.config_path, &text)
            .with_context(|| format!("cannot write {}", self.config_path.display()))?;
        Config::read(&self.config_path)
    }
}

fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as i64)
}

/// The product's events, each at its time.
fn publish(brokers: &str, payments_broken_ms: Option<(i64, i64)>, stop: &AtomicBool) -> Result<()> {
    let producer = Producer::new(brokers, &Default::default())?;
    // The shop opened a while ago, so that there is something to see at once.
    let start_ms = now_ms() - HEAD_START_MS;
    let settings = Settings {
        seed: start_ms as u64,
        start_ms,
        events_per_second: EVENTS_PER_SECOND,
        payments_broken_ms,
        ..Settings::default()
    };
    for publication in Product::new(settings) {
        while now_ms() < publication.timestamp_ms && !stop.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(5));
        }
        if stop.load(Ordering::Relaxed) {
            break;
        }
        producer.send(TOPIC, &publication.payload, Some(publication.timestamp_ms))?;
    }
    Ok(())
}
