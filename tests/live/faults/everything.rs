//! Kafka to ClickHouse while processes are killed: nothing lost, nothing twice.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use cambium_clickhouse::Client;
use cambium_kafka::{LocalKafka, Producer, create_topic};
use cambium_simulate::sessions::{Rules as SessionRules, sessions};
use cambium_simulate::{Product, Record, Rules, Settings, Truth};

use super::super::{Process, client, number, program};

const PARTITIONS: i32 = 6;
const EVENTS: usize = 300_000;
const DAY_MS: i64 = 86_400_000;

fn configuration(brokers: &str, clickhouse: &str, data: &Path) -> PathBuf {
    let path = data.join("cambium.toml");
    let text = format!(
        r#"
        [kafka]
        brokers = "{brokers}"
        settings = {{ "session.timeout.ms" = "6000" }}
        [[source]]
        topic = "events"
        [clickhouse]
        url = "{clickhouse}"
        [snapshots]
        url = "file://{}"
        every = "2 s"
        [app.shop]
        time_zone = "Asia/Shanghai"
        [keep]
        rejected = "forever"
        [[funnel]]
        name = "purchase"
        steps = ["view", "cart", "buy"]
        within = "1 day"
        "#,
        data.join("snapshots").display()
    );
    std::fs::write(&path, text).unwrap();
    path
}

fn consumer(config: &Path, data: &Path) -> Process {
    let mut command = Command::new(program());
    command
        .arg("run")
        .arg("--config")
        .arg(config)
        .arg("--data")
        .arg(data)
        .env("CAMBIUM_LOG", "warn");
    Process::start(&mut command)
}

/// Waits until every record that was published is in ClickHouse, and said to be.
async fn all_read(client: &Client, published: i64, within: Duration) {
    let started = Instant::now();
    loop {
        let read = number(client, "SELECT sum(read) FROM records")
            .await
            .unwrap_or(-1);
        let shown = number(client, "SELECT sum(offset) FROM progress")
            .await
            .unwrap_or(-1);
        if read == published && shown == published {
            return;
        }
        assert!(
            started.elapsed() < within,
            "of {published} records {read} were read and {shown} are said to be in ClickHouse after {within:?}"
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_counted_twice_when_processes_are_killed() {
    let directory = tempfile::tempdir().unwrap();
    let mut kafka = LocalKafka::start().unwrap();
    let engine_data = directory.path().join("engine");
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let serve = || {
        let mut command = Command::new(program());
        command
            .args(["clickhouse", "--listen", &format!("127.0.0.1:{port}"), "--data"])
            .arg(&engine_data);
        Process::start(&mut command)
    };
    let clickhouse = serve();
    let url = format!("http://127.0.0.1:{port}");
    let config = configuration(&kafka.brokers(), &url, directory.path());
    create_topic(&kafka.brokers(), &BTreeMap::new(), "events", PARTITIONS)
        .await
        .unwrap();

    let settings = Settings {
        start_ms: 1_700_000_000_000,
        events_per_second: 100.0,
        ..Settings::default()
    };
    let publications: Vec<_> = Product::new(settings).take(EVENTS).collect();
    let first = consumer(&config, directory.path());
    let second = consumer(&config, directory.path());
    let brokers = kafka.brokers();
    let sent = publications.clone();
    let sending = tokio::task::spawn_blocking(move || {
        let producer = Producer::new(&brokers, &BTreeMap::new()).unwrap();
        for (number, one) in sent.iter().enumerate() {
            producer
                .send("events", &one.payload, Some(one.timestamp_ms))
                .unwrap();
            if number % 10_000 == 0 {
                std::thread::sleep(Duration::from_millis(700));
            }
        }
        producer.flush(Duration::from_secs(120)).unwrap();
    });
    tokio::time::sleep(Duration::from_secs(6)).await;
    first.kill();
    tokio::time::sleep(Duration::from_secs(4)).await;
    let third = consumer(&config, directory.path());
    clickhouse.kill();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let clickhouse = serve();
    tokio::time::sleep(Duration::from_secs(3)).await;
    kafka.kill().unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    kafka.restart().unwrap();
    sending.await.unwrap();
    let client = client(&url);
    // A producer whose broker was killed may have repeated some: the log is what is counted.
    let log = log_of(&kafka.brokers()).await;
    all_read(&client, log.len() as i64, Duration::from_secs(180)).await;
    second.end();
    third.end();
    check(&client, &log).await;
    clickhouse.end();
}

/// What really lies in the topic: read back by another way than the program's.
async fn log_of(brokers: &str) -> Vec<Record> {
    let brokers = brokers.to_owned();
    tokio::task::spawn_blocking(move || cambium_kafka::read_all(&brokers, "events").unwrap())
        .await
        .unwrap()
        .into_iter()
        .map(|(partition, offset, timestamp, payload)| Record {
            partition,
            offset,
            timestamp,
            payload,
        })
        .collect()
}

async fn check(client: &Client, log: &[Record]) {
    assert!(
        log.len() >= EVENTS,
        "the log lacks {} records",
        EVENTS - log.len()
    );
    let rules = Rules {
        zone: "Asia/Shanghai".to_owned(),
        lateness_ms: DAY_MS,
        skew_ms: 300_000,
        drops: Vec::new(),
    };
    let truth = Truth::new(log, &rules);
    let accepted: u64 = truth.accounts.values().map(|account| account.accepted).sum();
    let duplicate: u64 = truth.accounts.values().map(|account| account.duplicate).sum();
    let found = |query: &'static str| async move { number(client, query).await.unwrap() as u64 };
    assert_eq!(found("SELECT sum(accepted) FROM records").await, accepted);
    assert_eq!(found("SELECT sum(duplicate) FROM records").await, duplicate);
    assert_eq!(
        found("SELECT countIf(read != accepted + duplicate + late + rejected + dropped) FROM records").await,
        0
    );
    assert_eq!(found("SELECT sum(events) FROM event_counts").await, accepted);
    assert_eq!(
        found("SELECT count() FROM rejected_events").await,
        truth.accounts.values().map(|one| one.rejected).sum::<u64>()
    );

    let mut by_event: BTreeMap<String, u64> = BTreeMap::new();
    for event in &truth.events {
        *by_event.entry(event.event.clone()).or_default() += 1;
    }
    let rows = client
        .rows("SELECT event, sum(events) AS n FROM event_counts GROUP BY event ORDER BY event")
        .await
        .unwrap();
    let shown: BTreeMap<String, u64> = rows
        .iter()
        .map(|row| {
            (
                row["event"].as_str().unwrap().to_owned(),
                row["n"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(shown, by_event);

    let days: Vec<u64> = truth
        .daily_users()
        .values()
        .map(|users| users.len() as u64)
        .collect();
    let rows = client
        .rows("SELECT users FROM active_users WHERE grain = 'day' ORDER BY day")
        .await
        .unwrap();
    let shown: Vec<u64> = rows.iter().map(|row| row["users"].as_u64().unwrap()).collect();
    assert_eq!(shown.len(), days.len());
    for (shown, exact) in shown.iter().zip(&days) {
        assert!(
            shown.abs_diff(*exact) * 100 <= *exact,
            "{shown} users are shown, {exact} there were"
        );
    }
    check_per_user(client, &truth).await;
}

async fn check_per_user(client: &Client, truth: &Truth) {
    let mut expected: BTreeSet<(u64, i64, i64, u64)> = BTreeSet::new();
    let mut reached = [0u64; 3];
    for ((_, user), events) in truth.by_user() {
        let found = sessions(&events, &SessionRules::default(), &|time| truth.day(time));
        expected.extend(
            found
                .iter()
                .map(|one| (user, one.start, one.end, one.events.len() as u64)),
        );
        // All lies within a day: a user went as far as the steps come one behind the other.
        let mut since = i64::MIN;
        for (step, name) in ["view", "cart", "buy"].into_iter().enumerate() {
            let Some(next) = events
                .iter()
                .find(|event| event.event == name && event.time >= since)
            else {
                break;
            };
            since = next.time;
            reached[step] += 1;
        }
    }
    let query = "SELECT user, toUnixTimestamp64Milli(started_at) AS s, toUnixTimestamp64Milli(ended_at) AS e, events \
                 FROM sessions";
    let rows = client.rows(query).await.unwrap();
    let shown: BTreeSet<(u64, i64, i64, u64)> = rows
        .iter()
        .map(|row| {
            let time = |name: &str| row[name].as_i64().unwrap();
            (
                row["user"].as_u64().unwrap(),
                time("s"),
                time("e"),
                row["events"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(rows.len(), shown.len());
    assert!(
        shown == expected,
        "{} sessions are shown, {} there were",
        shown.len(),
        expected.len()
    );
    for (step, exact) in reached.into_iter().enumerate() {
        let step = step + 1;
        let query = format!(
            "SELECT uniqCombined64Merge(users) FROM funnel_users WHERE grain = 'day' AND step = {step}"
        );
        let shown = number(client, &query).await.unwrap() as u64;
        assert!(
            shown.abs_diff(exact) * 100 <= exact,
            "step {step}: {shown} users are shown, {exact} there were"
        );
    }
}
