//! Alerts as they run: found in seconds, told once, whoever dies; and a lag is no drop.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cambium_kafka::{LocalKafka, Producer, create_topic};
use tempfile::TempDir;

use super::hook::Hook;
use super::{Process, cambium, client, number, program};

/// A shop with steady traffic, counted into a ClickHouse of its own, and a receiver of its alerts.
struct Stage {
    kafka: LocalKafka,
    directory: TempDir,
    port: u16,
    clickhouse: Option<Process>,
    counting: Option<Process>,
    hook: Hook,
    traffic: Arc<Traffic>,
}

#[derive(Default)]
struct Traffic {
    ended: AtomicBool,
    payments_broken: AtomicBool,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.traffic.ended.store(true, Ordering::Relaxed);
    }
}

/// Twenty views and ten payments a second.
const PAUSE: Duration = Duration::from_millis(50);

fn publish(brokers: &str, traffic: &Traffic) {
    let settings = [("message.timeout.ms".to_owned(), "300000".to_owned())].into();
    let producer = Producer::new(brokers, &settings).unwrap();
    for number in 0u64.. {
        if traffic.ended.load(Ordering::Relaxed) {
            return;
        }
        let pays = number.is_multiple_of(2) && !traffic.payments_broken.load(Ordering::Relaxed);
        for event in ["view", "pay"].into_iter().take(if pays { 2 } else { 1 }) {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
            let user = number % 977;
            let line = format!(r#"{{"app":"shop","event":"{event}","user_id":"u{user}","timestamp":{now}}}"#);
            let _ = producer.send("events", line.as_bytes(), None);
        }
        std::thread::sleep(PAUSE);
    }
}

impl Stage {
    async fn start(rules: &str) -> Stage {
        let kafka = LocalKafka::start().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let hook = Hook::start();
        let text = format!(
            r#"
            [kafka]
            brokers = "{}"
            [[source]]
            topic = "events"
            [clickhouse]
            url = "http://127.0.0.1:{port}"
            [snapshots]
            every = "5 s"
            [http]
            listen = ""
            [[channel]]
            name = "ops"
            kind = "webhook"
            url = "{}"
            {rules}
            "#,
            kafka.brokers(),
            hook.url
        );
        std::fs::write(directory.path().join("watching.toml"), &text).unwrap();
        let counting = format!("{text}\n[alerts]\non = false\n");
        std::fs::write(directory.path().join("counting.toml"), counting).unwrap();
        create_topic(&kafka.brokers(), &Default::default(), "events", 2)
            .await
            .unwrap();
        let traffic = Arc::new(Traffic::default());
        let (brokers, publishing) = (kafka.brokers(), traffic.clone());
        std::thread::spawn(move || publish(&brokers, &publishing));
        let mut stage = Stage {
            kafka,
            directory,
            port,
            clickhouse: None,
            counting: None,
            hook,
            traffic,
        };
        stage.serve();
        let counting = stage.command("run", "counting.toml");
        stage.counting = Some(counting);
        stage
    }

    fn data(&self) -> &Path {
        self.directory.path()
    }

    fn serve(&mut self) {
        let mut command = Command::new(program());
        let listen = format!("127.0.0.1:{}", self.port);
        command
            .args(["clickhouse", "--listen", &listen, "--data"])
            .arg(self.data().join("engine"));
        self.clickhouse = Some(Process::start(&mut command));
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
        let numbers = (0..).map(|number| self.data().join(format!("{what}-{number}.log")));
        numbers.into_iter().find(|path| !path.exists()).unwrap()
    }

    fn watcher(&self) -> (Process, PathBuf) {
        let log = self.log("alerts run");
        (self.command("alerts run", "watching.toml"), log)
    }

    fn breaks_payments(&self, broken: bool) {
        self.traffic.payments_broken.store(broken, Ordering::Relaxed);
    }

    async fn states(&self) -> String {
        let client = client(&format!("http://127.0.0.1:{}", self.port));
        let query = "SELECT rule, state FROM alerts ORDER BY started_at";
        String::from_utf8(client.fetch(query, "CSV").await.unwrap()).unwrap()
    }
}

/// Waits until a process says in its log that it evaluates.
async fn leads(log: &Path, within: Duration) {
    let begun = std::time::Instant::now();
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

fn signal(process: &Process, name: &str) {
    let id = process.0.id().to_string();
    assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
}

/// Until a series this young can be judged.
const WARM: Duration = Duration::from_secs(75);
const PAYMENTS: &str = "[[alert]]\nname = \"payments\"\nevent = \"pay\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_is_told_once_whoever_dies() {
    let stage = Stage::start(PAYMENTS).await;
    let (first, log) = stage.watcher();
    leads(&log, Duration::from_secs(60)).await;
    let (second, second_log) = stage.watcher();
    tokio::time::sleep(WARM).await;

    // The channel is unwell at first, and then the process dies while its message is taken.
    let unwell = std::time::Instant::now();
    let id = first.0.id().to_string();
    let mut has_died = false;
    stage.hook.answers(move |message| {
        if unwell.elapsed() < Duration::from_secs(30) {
            return 500;
        }
        if !has_died && message["rule"] == "payments" {
            has_died = true;
            let _ = Command::new("kill").args(["-KILL", &id]).status();
        }
        200
    });
    stage.breaks_payments(true);
    let id = stage
        .hook
        .wait("payments", "firing", Duration::from_secs(120))
        .await;
    // The other takes over, does not know that it was taken, and says so again, with the same id.
    leads(&second_log, Duration::from_secs(30)).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let taken = stage.hook.taken();
    assert!(taken.len() == 2 && taken[0] == taken[1], "{taken:?}");
    first.kill();

    // One that was told of is not told of again after a restart.
    second.kill();
    let (third, third_log) = stage.watcher();
    leads(&third_log, Duration::from_secs(30)).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(stage.hook.taken().len(), 2, "{:?}", stage.hook.taken());

    // Somebody looks after it.
    let config = stage.data().join("watching.toml");
    let said = cambium(
        stage.data(),
        &["alerts", "ack", &id, "--config", config.to_str().unwrap()],
    );
    assert!(said.status.success(), "{said:?}");
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(stage.states().await, "\"payments\",\"acknowledged\"\n");

    stage.breaks_payments(false);
    let resolved = stage
        .hook
        .wait("payments", "resolved", Duration::from_secs(120))
        .await;
    assert_eq!(resolved, id);
    third.end();
    assert_eq!(stage.hook.taken().len(), 3, "{:?}", stage.hook.taken());
    assert_eq!(stage.states().await, "\"payments\",\"resolved\"\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lag_is_no_drop() {
    let mut stage = Stage::start(PAYMENTS).await;
    let (watcher, log) = stage.watcher();
    leads(&log, Duration::from_secs(60)).await;
    tokio::time::sleep(WARM).await;

    let counting = stage.counting.take().unwrap();
    signal(&counting, "-STOP");
    let id = stage
        .hook
        .wait("pipeline: behind", "firing", Duration::from_secs(45))
        .await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    signal(&counting, "-CONT");
    let resolved = stage
        .hook
        .wait("pipeline: behind", "resolved", Duration::from_secs(90))
        .await;
    assert_eq!(resolved, id);
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(stage.hook.taken().len(), 2, "{:?}", stage.hook.taken());

    stage.clickhouse.take().unwrap().kill();
    let id = stage
        .hook
        .wait("pipeline: clickhouse", "firing", Duration::from_secs(30))
        .await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    stage.serve();
    let resolved = stage
        .hook
        .wait("pipeline: clickhouse", "resolved", Duration::from_secs(90))
        .await;
    assert_eq!(resolved, id);
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(stage.hook.taken().len(), 4, "{:?}", stage.hook.taken());
    watcher.end();
    counting.end();
    let client = client(&format!("http://127.0.0.1:{}", stage.port));
    let open = number(&client, "SELECT countIf(state != 'resolved') FROM alerts").await;
    assert_eq!(open.unwrap(), 0, "{}", stage.states().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_away_is_said_without_it() {
    let mut stage = Stage::start("").await;
    let (watcher, log) = stage.watcher();
    leads(&log, Duration::from_secs(60)).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    stage.kafka.kill().unwrap();
    let id = stage
        .hook
        .wait("pipeline: broker", "firing", Duration::from_secs(40))
        .await;
    stage.kafka.restart().unwrap();
    let resolved = stage
        .hook
        .wait("pipeline: broker", "resolved", Duration::from_secs(60))
        .await;
    assert_eq!(resolved, id);
    let taken = stage.hook.taken();
    assert!(
        taken.iter().all(|(rule, ..)| rule == "pipeline: broker"),
        "{taken:?}"
    );
    watcher.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_tells_of_its_incident_once() {
    let directory = tempfile::tempdir().unwrap();
    let hook = Hook::start();
    let mut command = Command::new(program());
    command
        .args(["demo", "--incident", "payments", "--webhook", &hook.url])
        .current_dir(directory.path())
        .stdout(std::fs::File::create(directory.path().join("out")).unwrap());
    let demo = Process::start(&mut command);
    let id = hook.wait("payments", "firing", Duration::from_secs(180)).await;
    let resolved = hook.wait("payments", "resolved", Duration::from_secs(180)).await;
    assert_eq!(resolved, id);
    let messages = hook.messages();
    assert_eq!(messages.len(), 2, "{messages:?}");
    let said = std::fs::read_to_string(directory.path().join("out")).unwrap();
    let broke = said
        .split("Payments break at ")
        .nth(1)
        .unwrap()
        .split(' ')
        .next()
        .unwrap();
    let broke_at: i64 = jiff_ms(broke);
    let detected_at = messages[0]["detected_at"].as_i64().unwrap();
    println!(
        "the first payment was lost at {broke}; the alert fired {} s later",
        (detected_at - broke_at) / 1000
    );
    assert!(
        detected_at > broke_at,
        "fired before anything broke: {messages:?}"
    );
    demo.end();
}

/// Milliseconds of an instant as `date` reads it.
fn jiff_ms(instant: &str) -> i64 {
    let output = Command::new("date")
        .args(["-d", instant, "+%s"])
        .output()
        .unwrap();
    String::from_utf8(output.stdout)
        .unwrap()
        .trim()
        .parse::<i64>()
        .unwrap()
        * 1000
}
