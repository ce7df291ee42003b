//! For how long things are held: what Kafka is about to delete is said, and what ClickHouse deleted does not come back.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cambium_kafka::{LocalKafka, Producer, create_topic};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};

use super::{Process, cambium, client, engine, get, number, program};

const DAY_MS: i64 = 86_400_000;

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

fn line(number: i64, time: i64) -> String {
    format!(
        r#"{{"message_id":"{number}","app":"shop","event":"view","user_id":"u{number}","timestamp":{time}}}"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_about_to_be_lost_is_said() {
    let kafka = LocalKafka::start().unwrap();
    create_topic(&kafka.brokers(), &BTreeMap::new(), "events", 1)
        .await
        .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let engine = engine(&directory.path().join("engine"));
    let client = client(engine.url());
    let listen = format!("127.0.0.1:{}", cambium_kafka::free_port().unwrap());
    let text = format!(
        "[kafka]\nbrokers = \"{}\"\n[[source]]\ntopic = \"events\"\n[clickhouse]\nurl = \"{}\"\n[http]\nlisten = \"{listen}\"\n\
         [snapshots]\nevery = \"1 s\"\n",
        kafka.brokers(),
        engine.url()
    );
    std::fs::write(directory.path().join("cambium.toml"), text).unwrap();
    let producer = Producer::new(&kafka.brokers(), &BTreeMap::new()).unwrap();
    let send = |numbers: std::ops::Range<i64>, sent_at: i64| {
        for number in numbers {
            producer
                .send("events", line(number, sent_at).as_bytes(), Some(sent_at))
                .unwrap();
        }
        producer.flush(Duration::from_secs(30)).unwrap();
    };
    let check = || {
        let output = cambium(
            directory.path(),
            &["check", "--config", "cambium.toml", "--data", "."],
        );
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{said}");
        said
    };
    let mut settings = ClientConfig::new();
    settings.set("bootstrap.servers", kafka.brokers());
    let admin: AdminClient<_> = settings.create().unwrap();
    let a_week = (7 * DAY_MS).to_string();
    let week = AlterConfig::new(ResourceSpecifier::Topic("events")).set("retention.ms", &a_week);
    admin.alter_configs(&[week], &AdminOptions::new()).await.unwrap();
    let old = now_ms() - 5 * DAY_MS;
    send(0..10, old);
    assert!(!check().contains("events[0]"), "nothing was counted yet");
    let mut run = Command::new(program());
    run.args(["run", "--config", "cambium.toml", "--data", "."])
        .current_dir(directory.path());
    let running = Process::start(run.env("CAMBIUM_LOG", "warn"));
    let covered = "cambium_snapshot_offset{topic=\"events\",partition=\"0\"} 10";
    let begun = Instant::now();
    loop {
        let metrics = get(&listen, "/metrics").unwrap_or_default();
        if metrics.contains(covered) {
            assert!(
                metrics.contains("cambium_uncovered_seconds{topic=\"events\",partition=\"0\"} 0\n"),
                "{metrics}"
            );
            assert!(
                metrics.contains("cambium_earliest_offset{topic=\"events\",partition=\"0\"} 0\n"),
                "{metrics}"
            );
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{metrics}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(
        number(&client, "SELECT sum(events) FROM event_counts")
            .await
            .unwrap(),
        10
    );
    assert!(
        !check().contains("events[0]"),
        "all is in a snapshot: {}",
        check()
    );
    drop(running);
    send(10..20, old);
    let said = check();
    let expected = "warn  events[0]: from offset 10 on nothing is in a snapshot, and it will be deleted soon: it is older than half of \
                    retention.ms (604800 s).";
    assert!(said.contains(expected), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_past_its_time_does_not_come_back() {
    let directory = tempfile::tempdir().unwrap();
    let engine = engine(&directory.path().join("engine"));
    let text = format!(
        "[clickhouse]\nurl = \"{}\"\n[keep]\nminutes = \"2 days\"\nhours = \"2 days\"\ndays = \"4 days\"\ncounts = \"2 days\"\n\
         sessions = \"2 days\"\n[time]\nlateness = \"20 days\"\n",
        engine.url()
    );
    std::fs::write(directory.path().join("cambium.toml"), text).unwrap();
    let days = [0, 1, 3, 9];
    let lines = days.map(|day| line(day, now_ms() - day * DAY_MS - 60_000) + "\n");
    std::fs::write(directory.path().join("a.jsonl"), lines.concat()).unwrap();
    let client = client(engine.url());
    let replay = || {
        let output = cambium(
            directory.path(),
            &["replay", "--config", "cambium.toml", "--data", ".", "a.jsonl"],
        );
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    let held = [
        ("SELECT count() FROM sessions", 2),
        ("SELECT sum(events) FROM event_counts", 2),
        ("SELECT count() FROM active_users WHERE grain = 'day'", 3),
        ("SELECT sum(read) FROM records", 4),
    ];
    replay();
    for (query, rows) in held {
        assert_eq!(number(&client, query).await.unwrap(), rows, "{query}");
    }
    // Counted again from the beginning.
    let snapshots = std::fs::read_dir(directory.path().join("snapshots")).unwrap();
    let log = snapshots
        .map(|entry| entry.unwrap().path())
        .find(|path| path.is_dir())
        .unwrap();
    for file in std::fs::read_dir(log.join("0")).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|kind| kind == "full") {
            std::fs::remove_file(path).unwrap();
        }
    }
    replay();
    for (query, rows) in held {
        assert_eq!(number(&client, query).await.unwrap(), rows, "{query}, again");
    }
}
