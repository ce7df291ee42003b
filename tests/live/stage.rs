//! A shop with steady traffic, counted into a database of its own, and a receiver of its alerts.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, Ordering};
use std::time::{Duration, Instant};

use cambium_clickhouse::Client;
use cambium_kafka::{LocalKafka, Producer, create_topic, free_port};
use tempfile::TempDir;

use super::hook::{Hook, now_ms};
use super::{Process, program};

/// Kafka and ClickHouse, for one stage or for several: a few of each are as much as two cores bear.
pub struct Ground {
    pub kafka: LocalKafka,
    pub clickhouse: Option<Process>,
    directory: TempDir,
    port: u16,
}

impl Ground {
    pub async fn start() -> Ground {
        let _turn = STARTING.lock().await;
        let kafka = tokio::task::block_in_place(LocalKafka::start).unwrap();
        let mut ground = Ground {
            kafka,
            clickhouse: None,
            directory: tempfile::tempdir().unwrap(),
            port: free_port().unwrap(),
        };
        ground.serve();
        ground
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Starts ClickHouse, again on the same data.
    pub fn serve(&mut self) {
        let mut command = Command::new(program());
        let listen = format!("127.0.0.1:{}", self.port);
        command
            .args(["clickhouse", "--listen", &listen, "--data"])
            .arg(self.directory.path());
        self.clickhouse = Some(Process::start(&mut command));
    }
}

pub struct Stage {
    /// Of the topic, of the group and of the database.
    name: String,
    directory: TempDir,
    brokers: String,
    clickhouse: String,
    /// Where the processes that evaluate serve their metrics: the first of them does.
    http: String,
    pub counting: Option<Process>,
    pub hook: Hook,
    traffic: Arc<Traffic>,
}

#[derive(Default)]
struct Traffic {
    ended: AtomicBool,
    /// Nobody does anything.
    silent: AtomicBool,
    /// The platforms on which nobody can pay, a bit each.
    broken: AtomicU8,
    /// When the last event happened.
    last_ms: AtomicI64,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.traffic.ended.store(true, Ordering::Relaxed);
    }
}

/// Twenty views and ten payments a second.
const PAUSE: Duration = Duration::from_millis(50);
/// Half of all pay on the first, a quarter on each of the others.
pub const PLATFORMS: [&str; 3] = ["ios", "android", "web"];

fn platform(number: u64) -> usize {
    match (number / 2) % 4 {
        0 | 1 => 0,
        2 => 1,
        _ => 2,
    }
}

fn publish(brokers: &str, topic: &str, traffic: &Traffic) {
    let settings = [("message.timeout.ms".to_owned(), "300000".to_owned())].into();
    let producer = Producer::new(brokers, &settings).unwrap();
    for number in 0u64.. {
        std::thread::sleep(PAUSE);
        if traffic.ended.load(Ordering::Relaxed) {
            return;
        }
        if traffic.silent.load(Ordering::Relaxed) {
            continue;
        }
        let platform = platform(number);
        let is_broken = traffic.broken.load(Ordering::Relaxed) & (1 << platform) != 0;
        let pays = number.is_multiple_of(2) && !is_broken;
        for event in ["view", "pay"].into_iter().take(if pays { 2 } else { 1 }) {
            let (now, user) = (now_ms(), number % 977);
            let line = line(event, &format!("u{user}"), PLATFORMS[platform], now);
            let _ = producer.send(topic, line.as_bytes(), None);
            traffic.last_ms.store(now, Ordering::Relaxed);
        }
    }
}

fn line(event: &str, user: &str, platform: &str, at_ms: i64) -> String {
    format!(
        r#"{{"app":"shop","event":"{event}","user_id":"{user}","timestamp":{at_ms},"platform":"{platform}"}}"#
    )
}

/// They start one after the other: a broker's start takes a machine for itself.
static STARTING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

impl Stage {
    pub async fn start(ground: &Ground, name: &str, rules: &str) -> Stage {
        let directory = tempfile::tempdir().unwrap();
        let (brokers, clickhouse) = (ground.kafka.brokers(), ground.url());
        let http = format!("127.0.0.1:{}", free_port().unwrap());
        let hook = Hook::start();
        let text = format!(
            r#"
            [kafka]
            brokers = "{brokers}"
            group = "{name}"
            [[source]]
            topic = "{name}"
            [clickhouse]
            url = "{clickhouse}"
            database = "{name}"
            [snapshots]
            every = "5 s"
            [http]
            listen = "{http}"
            [[channel]]
            name = "ops"
            kind = "webhook"
            url = "{}"
            {rules}
            "#,
            hook.url
        );
        std::fs::write(directory.path().join("watching.toml"), &text).unwrap();
        let counting = text.replace(&http, "") + "\n[alerts]\non = false\n";
        std::fs::write(directory.path().join("counting.toml"), counting).unwrap();
        create_topic(&brokers, &Default::default(), name, 2)
            .await
            .unwrap();
        let traffic = Arc::new(Traffic::default());
        std::thread::spawn({
            let (brokers, topic, traffic) = (brokers.clone(), name.to_owned(), traffic.clone());
            move || publish(&brokers, &topic, &traffic)
        });
        let mut stage = Stage {
            name: name.to_owned(),
            directory,
            brokers,
            clickhouse,
            http,
            counting: None,
            hook,
            traffic,
        };
        stage.counting = Some(stage.command("run", "counting.toml"));
        stage
    }

    pub fn data(&self) -> &Path {
        self.directory.path()
    }

    pub fn client(&self) -> Client {
        Client::new(&self.clickhouse, "default", None, &self.name)
    }

    /// What a process that evaluates answers over HTTP: the head and the body.
    pub fn asked(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.http).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn command(&self, what: &str, config: &str) -> Process {
        let mut command = Command::new(program());
        command
            .args(what.split(' '))
            .arg("--config")
            .arg(self.data().join(config))
            .arg("--data")
            .arg(self.data())
            .env("CAMBIUM_LOG", "info")
            .stderr(std::fs::File::create(self.log(what)).unwrap());
        Process::start(&mut command)
    }

    /// Each process of a kind writes its own log.
    fn log(&self, what: &str) -> PathBuf {
        let mut numbers = (0..).map(|number| self.data().join(format!("{what}-{number}.log")));
        numbers.find(|path| !path.exists()).unwrap()
    }

    /// A process that evaluates the rules, and its log.
    pub fn watcher(&self) -> (Process, PathBuf) {
        let log = self.log("alerts run");
        (self.command("alerts run", "watching.toml"), log)
    }

    /// On these platforms, and on no others, nobody can pay from now on.
    pub fn breaks_payments(&self, platforms: &[&str]) {
        let bits = PLATFORMS.iter().enumerate().map(|(place, name)| {
            let is_broken = platforms.contains(name);
            u8::from(is_broken) << place
        });
        self.traffic.broken.store(bits.sum(), Ordering::Relaxed);
    }

    /// Nobody does anything from now on.
    pub fn falls_silent(&self, is_silent: bool) {
        self.traffic.silent.store(is_silent, Ordering::Relaxed);
    }

    /// When the last event happened, in milliseconds since 1970.
    pub fn last_ms(&self) -> i64 {
        self.traffic.last_ms.load(Ordering::Relaxed)
    }

    /// So many who were never there before look around, all at once.
    pub fn is_visited_by(&self, newcomers: usize) {
        let producer = Producer::new(&self.brokers, &Default::default()).unwrap();
        for number in 0..newcomers {
            let line = line("view", &format!("newcomer{number}"), "web", now_ms());
            producer.send(&self.name, line.as_bytes(), None).unwrap();
        }
        producer.flush(Duration::from_secs(30)).unwrap();
    }

    /// Rules and states of all alerts, by their beginnings.
    pub async fn states(&self) -> String {
        let query = "SELECT rule, state FROM alerts ORDER BY started_at";
        String::from_utf8(self.client().fetch(query, "CSV").await.unwrap()).unwrap()
    }
}

/// Waits until a process says in its log that it evaluates.
pub async fn leads(log: &Path, within: Duration) {
    let begun = Instant::now();
    while !std::fs::read_to_string(log)
        .unwrap()
        .contains("this process evaluates")
    {
        assert!(
            begun.elapsed() < within,
            "nobody evaluates the rules after {within:?}"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
