//! `cambium forget` and `export`: a person asks what is held of them, and to be forgotten, while counting goes on.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use cambium_clickhouse::Client;
use cambium_kafka::{LocalKafka, Producer, create_topic};

use super::{Process, cambium, client, engine, number, program};

const DEFINED: &str = r#"
[[funnel]]
name = "bought"
steps = ["view", "buy"]
within = "1 h"
order = "strict"
[events_table]
on = true
[[stickiness]]
name = "all"
[[churn]]
name = "gone"
after = "1 day"
[keep]
events = "forever"
rejected = "forever"
[snapshots]
every = "1 s"
"#;
const USERS: i64 = 20;

async fn wait_for(client: &Client, query: &str, expected: i64) {
    let begun = Instant::now();
    loop {
        let found = number(client, query).await.unwrap_or(-1);
        if found == expected {
            return;
        }
        let is_late = begun.elapsed() > Duration::from_secs(60);
        assert!(!is_late, "{query}: {found}, not {expected} in time");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// How many records speak of a user, as it is asked for by `export`: by where they were found.
fn held(directory: &Path, id: &str) -> BTreeMap<String, usize> {
    let output = cambium(
        directory,
        &["export", "--config", "cambium.toml", "--data", ".", id],
    );
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut held = BTreeMap::new();
    for line in said.lines().skip(1) {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        *held.entry(line["in"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    held
}

fn line(number: i64, user: i64, event: &str, minute: i64) -> String {
    let time = 1_700_000_000_000 + minute * 60_000;
    format!(
        r#"{{"message_id":"{number}","app":"shop","event":"{event}","user_id":"u{user}","timestamp":{time}}}"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_is_forgotten_while_counting_goes_on() {
    let kafka = LocalKafka::start().unwrap();
    create_topic(&kafka.brokers(), &BTreeMap::new(), "events", 2)
        .await
        .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let engine = engine(&directory.path().join("engine"));
    let client = client(engine.url());
    let text = format!(
        "[kafka]\nbrokers = \"{}\"\n[[source]]\ntopic = \"events\"\n[clickhouse]\nurl = \"{}\"\n[http]\nlisten = \"\"\n{DEFINED}",
        kafka.brokers(),
        engine.url()
    );
    std::fs::write(directory.path().join("cambium.toml"), text).unwrap();
    let producer = Producer::new(&kafka.brokers(), &BTreeMap::new()).unwrap();
    let send = |line: &str| {
        let time = Some(1_700_000_000_000);
        producer.send("events", line.as_bytes(), time).unwrap();
    };
    let events = |from: i64| {
        for user in 0..USERS {
            for (place, event) in ["view", "buy", "view"].into_iter().enumerate() {
                let number = from + user * 3 + place as i64;
                send(&line(number, user, event, place as i64 + from / 10));
            }
        }
        producer.flush(Duration::from_secs(30)).unwrap();
    };
    let start = || {
        let mut run = Command::new(program());
        run.args(["run", "--config", "cambium.toml", "--data", "."])
            .current_dir(directory.path());
        Process::start(run.env("CAMBIUM_LOG", "warn"))
    };
    let running = start();
    events(0);
    // Not an event, and of somebody.
    send(r#"{"app":"shop","user_id":"u7","timestamp":1}"#);
    send(r#"{"app":"shop","user_id":"u17","timestamp":1}"#);
    producer.flush(Duration::from_secs(30)).unwrap();
    let counted = 3 * USERS;
    wait_for(&client, "SELECT sum(offset) FROM progress", counted + 2).await;
    wait_for(&client, "SELECT count() FROM sessions", USERS).await;
    let begun = Instant::now();
    while !held(directory.path(), "u7").contains_key("snapshots") {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "no snapshot has them in time"
        );
    }
    let mut theirs = held(directory.path(), "u7");
    assert!(theirs.remove("snapshots").is_some());
    let expected = [
        ("sessions", 1),
        ("funnels", 1),
        ("events", 3),
        ("rejected_events", 1),
        ("active_day_rows", 1),
        ("churn_user_rows", 1),
    ];
    assert_eq!(
        theirs,
        expected.map(|(name, count)| (name.to_owned(), count)).into()
    );

    // A running process lets it in by itself.
    let forget = |ids: &[&str]| {
        let arguments = ["forget", "--config", "cambium.toml", "--data", "."];
        let output = cambium(directory.path(), &[&arguments, ids].concat());
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    };
    let said = forget(&["u7"]);
    let deleted = "event_rows: 3 rows deleted\nsession_rows: 1 rows deleted\nfunnel_rows: 1 rows deleted\n\
                   active_day_rows: 1 rows deleted\nchurn_user_rows: 1 rows deleted\n\
                   rejected_rows: the bytes of 1 records deleted\n1 user is forgotten.";
    assert!(said.starts_with(deleted), "{said}");
    assert_eq!(held(directory.path(), "u7"), BTreeMap::new());
    assert_eq!(held(directory.path(), "u17")["rejected_events"], 1);
    // Sums and sets have what they had; what comes later is dropped.
    let users = "SELECT sum(users) FROM active_users WHERE grain = 'day'";
    let check = |from: i64, dropped: i64| {
        let client = client.clone();
        async move {
            wait_for(&client, "SELECT sum(dropped) FROM records", dropped).await;
            wait_for(
                &client,
                "SELECT sum(events) FROM event_counts",
                from + counted - dropped,
            )
            .await;
            wait_for(&client, "SELECT uniqExact(user) FROM sessions", USERS - 1).await;
            wait_for(&client, users, USERS).await;
        }
    };
    events(counted);
    check(counted, 3).await;
    assert_eq!(held(directory.path(), "u7"), BTreeMap::new());

    // All is counted again from the beginning of the log, and ends in the same.
    drop(running);
    let snapshots = directory.path().join("snapshots/events");
    for partition in ["0", "1"] {
        for file in std::fs::read_dir(snapshots.join(partition)).unwrap() {
            let path = file.unwrap().path();
            if path
                .extension()
                .is_some_and(|kind| kind == "full" || kind == "delta")
            {
                std::fs::remove_file(path).unwrap();
            }
        }
    }
    let before = number(
        &client,
        "SELECT sum(toUnixTimestamp64Milli(flushed_at)) FROM progress",
    )
    .await
    .unwrap();
    let running = start();
    let begun = Instant::now();
    while number(
        &client,
        "SELECT sum(toUnixTimestamp64Milli(flushed_at)) FROM progress",
    )
    .await
    .unwrap()
        == before
    {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "it does not count again"
        );
    }
    events(2 * counted);
    check(2 * counted, 6).await;
    let mut theirs = held(directory.path(), "u7");
    theirs.remove("rejected_events");
    assert_eq!(theirs, BTreeMap::new());
    drop(running);
}

/// Nobody counts files between two commands: who is to be forgotten is so at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_person_is_forgotten_by_the_log_of_files() {
    let directory = tempfile::tempdir().unwrap();
    // Each command has the engine of the directory to itself.
    std::fs::write(directory.path().join("cambium.toml"), DEFINED).unwrap();
    let events = |from: i64| {
        let lines = (0..3).map(|user| line(from + user, user, "view", from + user) + "\n");
        lines.collect::<String>()
    };
    let say = |arguments: &[&str]| {
        let arguments = [
            &arguments[..1],
            &["--config", "cambium.toml", "--data", "."],
            &arguments[1..],
        ]
        .concat();
        let output = cambium(directory.path(), &arguments);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    };
    std::fs::write(directory.path().join("a.jsonl"), events(0)).unwrap();
    std::fs::write(directory.path().join("b.jsonl"), events(3)).unwrap();
    std::fs::write(directory.path().join("ids.txt"), "u1\nu2\r\n\n").unwrap();
    say(&["replay", "a.jsonl"]);
    assert!(held(directory.path(), "u1").contains_key("snapshots"));
    let said = say(&["forget", "--file", "ids.txt"]);
    assert!(
        said.contains("event_rows: 2 rows deleted") && said.contains("2 users are forgotten"),
        "{said}"
    );
    let said = say(&["replay", "b.jsonl"]);
    assert!(said.contains("dropped") && said.contains('2'), "{said}");
    for user in ["u1", "u2"] {
        assert_eq!(held(directory.path(), user), BTreeMap::new());
    }
    let number = |query: &str| say(&["query", query]).trim().parse::<i64>().unwrap();
    assert_eq!(number("SELECT sum(events) FROM event_counts"), 4);
    assert_eq!(number("SELECT sum(dropped) FROM records"), 2);
    assert!(say(&["prune"]).starts_with("nothing is hidden"));
}
