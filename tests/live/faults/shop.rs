//! A shop whose events are counted into a database of its own, by processes that may be killed, held and cut off.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use cambium_clickhouse::Client;
use cambium_kafka::{Producer, RawRecord, create_topic, read_all};
use cambium_simulate::{Product, Record, Rules, Settings, Truth};
use tempfile::TempDir;

use super::super::{Process, program, records};
use super::proxy::Proxy;
use super::truth::{Difference, difference};

/// Within so long what must happen has happened.
pub const PATIENCE: Duration = Duration::from_secs(90);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What a fault costs.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    pub lost: u64,
    pub twice: u64,
    /// From the end of the fault until all that lies in the log is in ClickHouse, and said to be.
    pub recovery: Duration,
}

pub struct Shop {
    /// Of the topic, of the group and of the database.
    pub name: String,
    pub brokers: String,
    /// In front of ClickHouse, for the processes that count.
    pub clickhouse: Proxy,
    pub client: Client,
    directory: TempDir,
    /// More of the configuration.
    pub settings: String,
    pub source: String,
    /// What was counted of a log that is gone.
    pub before: Vec<Record>,
    pub product: Product,
    processes: usize,
}

impl Shop {
    /// Opens a shop whose topic has so many partitions.
    pub async fn open(brokers: &str, clickhouse: &str, name: &str, partitions: i32) -> Shop {
        let shop = Shop::at(brokers, clickhouse, name);
        create_topic(&shop.brokers, &BTreeMap::new(), name, partitions)
            .await
            .unwrap();
        shop
    }

    /// The same where the topic is another's business.
    pub fn at(brokers: &str, clickhouse: &str, name: &str) -> Shop {
        let settings = Settings {
            users: 300,
            events_per_second: 20.0,
            ..Settings::default()
        };
        Shop {
            name: name.to_owned(),
            brokers: brokers.to_owned(),
            clickhouse: Proxy::start(clickhouse),
            client: Client::new(clickhouse, "default", None, name),
            directory: tempfile::tempdir().unwrap(),
            settings: String::new(),
            source: String::new(),
            before: Vec::new(),
            product: Product::new(settings),
            processes: 0,
        }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn snapshots(&self) -> PathBuf {
        self.path().join("snapshots").join(&self.name)
    }

    /// So many events happen, and are in Kafka.
    pub fn sells(&mut self, events: usize) {
        let producer = self.producer();
        for one in self.product.by_ref().take(events) {
            let sent = producer.send(&self.name, &one.payload, Some(one.timestamp_ms));
            sent.unwrap();
        }
        tokio::task::block_in_place(|| producer.flush(Duration::from_secs(60))).unwrap();
    }

    /// The same beside what else happens.
    pub fn sells_meanwhile(&mut self, events: usize) -> tokio::task::JoinHandle<()> {
        let publications: Vec<_> = self.product.by_ref().take(events).collect();
        let (producer, topic) = (self.producer(), self.name.clone());
        tokio::task::spawn_blocking(move || {
            for (number, one) in publications.iter().enumerate() {
                let sent = producer.send(&topic, &one.payload, Some(one.timestamp_ms));
                sent.unwrap();
                if number % 10_000 == 0 {
                    std::thread::sleep(Duration::from_millis(700));
                }
            }
            producer.flush(Duration::from_secs(120)).unwrap();
        })
    }

    /// Events happen for so many seconds.
    pub async fn sells_for(&mut self, seconds: usize) {
        for _ in 0..seconds {
            self.sells(100);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    pub fn producer(&self) -> Producer {
        Producer::new(&self.brokers, &BTreeMap::new()).unwrap()
    }

    fn configuration(&self, http: &str) -> String {
        let Shop {
            name,
            brokers,
            source,
            settings,
            ..
        } = self;
        format!(
            r#"
            [kafka]
            brokers = "{brokers}"
            group = "{name}"
            settings = {{ "session.timeout.ms" = "6000", "topic.metadata.refresh.interval.ms" = "1000" }}
            [[source]]
            topic = "{name}"
            {source}
            [clickhouse]
            url = "{}"
            database = "{name}"
            [snapshots]
            every = "1 s"
            keep = 1
            [http]
            listen = "{http}"
            [alerts]
            on = false
            [keep]
            rejected = "forever"
            [[funnel]]
            name = "purchase"
            steps = ["view", "cart", "buy"]
            within = "1 day"
            {settings}
            "#,
            self.clickhouse.url
        )
    }

    /// Starts a process that counts.
    pub fn counts(&mut self) -> Counting {
        self.counts_with(&[], "")
    }

    /// The same, with arguments and a failpoint (`name=actions`).
    pub fn counts_with(&mut self, arguments: &[&str], failpoints: &str) -> Counting {
        self.processes += 1;
        let http = format!("127.0.0.1:{}", cambium_kafka::free_port().unwrap());
        let place = |kind: &str| self.path().join(format!("{}.{kind}", self.processes));
        let (config, log) = (place("toml"), place("log"));
        std::fs::write(&config, self.configuration(&http)).unwrap();
        let mut command = Command::new(program());
        command
            .args(["run", "--config"])
            .arg(&config)
            .arg("--data")
            .arg(self.path())
            .args(arguments)
            .env("CAMBIUM_LOG", "info")
            .env("FAILPOINTS", failpoints)
            .stderr(std::fs::File::create(&log).unwrap());
        Counting {
            process: Process::start(&mut command),
            http,
            log,
        }
    }

    /// What lies in the log: read back by another way than the program's.
    pub fn log(&self) -> Vec<Record> {
        records(tokio::task::block_in_place(|| self.records()))
    }

    /// A broker that is away when it is asked comes back.
    fn records(&self) -> Vec<RawRecord> {
        let begun = Instant::now();
        loop {
            match read_all(&self.brokers, &self.name) {
                Ok(records) => return records,
                Err(error) => assert!(begun.elapsed() < PATIENCE, "{error:#}"),
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    pub fn truth(&self) -> Truth {
        let rules = Rules {
            zone: "UTC".to_owned(),
            lateness_ms: 86_400_000,
            lateness_changes: Vec::new(),
            skew_ms: 300_000,
            link_within_ms: None,
            drops: Vec::new(),
        };
        Truth::new(&[self.before.clone(), self.log()].concat(), &rules)
    }

    /// The only number that a query answers; none while it cannot be asked.
    pub async fn number(&self, query: &str) -> Option<i64> {
        super::super::number(&self.client, query).await.ok()
    }

    /// Waits until a query answers a number.
    pub async fn shows(&self, query: &str, wanted: i64) {
        let begun = Instant::now();
        loop {
            let found = self.number(query).await;
            if found == Some(wanted) {
                return;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "{}: {query}: {found:?} instead of {wanted}",
                self.name
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until some records are counted, whichever.
    pub async fn has_begun(&self) {
        self.shows("SELECT sum(offset) > 0 FROM progress", 1).await;
    }

    /// Waits until all that lies in the log is in ClickHouse, and said to be.
    pub async fn is_counted(&self) {
        let published = self.log().len() as i64;
        self.shows("SELECT sum(offset) FROM progress", published).await;
        self.shows("SELECT sum(read) FROM records", published).await;
    }

    /// Waits until each partition has a snapshot.
    pub async fn is_saved(&self, partitions: i32) {
        let begun = Instant::now();
        while !(0..partitions).all(|partition| has_snapshot(&self.snapshots().join(partition.to_string()))) {
            assert!(begun.elapsed() < PATIENCE, "{} has no snapshots", self.name);
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// What the fault that is over cost.
    pub async fn measured(&self, over: Instant) -> Measured {
        self.is_counted().await;
        let recovery = over.elapsed();
        Measured {
            recovery,
            ..self.compared().await
        }
    }

    /// What is shown, against the truth.
    pub async fn compared(&self) -> Measured {
        let Difference { lost, twice } = difference(&self.client, &self.truth()).await;
        Measured {
            lost,
            twice,
            recovery: Duration::ZERO,
        }
    }
}

fn has_snapshot(directory: &Path) -> bool {
    let files = std::fs::read_dir(directory).into_iter().flatten().flatten();
    files
        .into_iter()
        .any(|file| file.path().extension().is_some_and(|kind| kind == "full"))
}

/// A process that counts.
pub struct Counting {
    process: Process,
    http: String,
    pub log: PathBuf,
}

impl Counting {
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    pub fn signal(&self, signal: &str) {
        let id = self.process.0.id().to_string();
        let sent = Command::new("kill").args([signal, &id]).status().unwrap();
        assert!(sent.success());
    }

    pub fn kill(self) {
        self.process.kill();
    }

    /// Asks it to end, and waits until it has, in order.
    pub async fn ends(mut self) {
        self.signal("-TERM");
        let status = self.ended().await;
        assert!(status.success(), "{status}\n{}", self.said());
    }

    async fn ended(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.process.0.try_wait().unwrap() {
                return status;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "it goes on after {PATIENCE:?}\n{}",
                self.said()
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until it dies where it was told to.
    pub async fn dies(mut self) {
        let status = self.ended().await;
        assert!(status.signal().is_some(), "{status}\n{}", self.said());
    }

    /// Waits until it ends by itself: loudly, with all that must be said.
    pub async fn stops(mut self, says: &[&str]) {
        let status = self.ended().await;
        let said = self.said();
        assert_eq!(status.code(), Some(1), "{said}");
        let error = said.lines().rfind(|line| line.starts_with("error: "));
        let error = error.unwrap_or_else(|| panic!("no error is said:\n{said}"));
        for part in says {
            assert!(error.contains(part), "'{part}' is not in: {error}");
        }
    }

    /// Waits until its `/readyz` says so.
    pub async fn answers_ready(&self, wanted: &str) {
        let begun = Instant::now();
        loop {
            let answer = crate::live::get(&self.http, "/readyz");
            if answer.as_ref().is_ok_and(|answer| answer.contains(wanted)) {
                return;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "/readyz: {answer:?} instead of {wanted}\n{}",
                self.said()
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    pub async fn is_ready(&self) {
        self.answers_ready("\nready\n").await;
    }
}
