//! The table of starts (ARCHITECTURE.md), each row with a real log and the real engine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use cambium_clickhouse::Client;
use cambium_clickhouse::embedded::Child as Engine;
use cambium_kafka::{InProcess, Producer};

use super::{Process, client, engine, number, program};

struct World {
    directory: tempfile::TempDir,
    engine: Engine,
    client: Client,
}

impl World {
    fn new() -> World {
        let directory = tempfile::tempdir().unwrap();
        let engine = engine(&directory.path().join("engine"));
        let client = client(engine.url());
        World {
            directory,
            engine,
            client,
        }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn configuration(&self, brokers: &str, more: &str) -> PathBuf {
        let path = self.path().join("cambium.toml");
        let text = format!(
            "[kafka]\nbrokers = \"{brokers}\"\n[[source]]\ntopic = \"events\"\n[clickhouse]\nurl = \"{}\"\n{more}",
            self.engine.url()
        );
        std::fs::write(&path, text).unwrap();
        path
    }

    fn command(&self, brokers: &str, more: &str) -> Command {
        let config = self.configuration(brokers, more);
        let mut command = Command::new(program());
        command
            .arg("run")
            .arg("--config")
            .arg(config)
            .arg("--data")
            .arg(self.path())
            .env("CAMBIUM_LOG", "warn");
        command
    }

    /// Runs until so many records are read, and ends in order.
    async fn run(&self, brokers: &str, more: &str, read: i64) {
        let process = Process::start(&mut self.command(brokers, more));
        let started = Instant::now();
        while number(&self.client, "SELECT sum(offset) FROM progress")
            .await
            .unwrap_or(-1)
            < read
        {
            assert!(
                started.elapsed() < Duration::from_secs(60),
                "{read} records are not read after a minute"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        process.end();
    }

    async fn events(&self) -> i64 {
        number(&self.client, "SELECT sum(events) FROM event_counts")
            .await
            .unwrap()
    }

    fn forget_snapshots(&self) {
        std::fs::remove_dir_all(self.path().join("snapshots")).unwrap();
    }
}

fn broker() -> InProcess {
    let broker = InProcess::start().unwrap();
    broker.create_topic("events", 1).unwrap();
    broker
}

fn send(broker: &InProcess, count: usize) {
    let producer = Producer::new(&broker.brokers(), &BTreeMap::new()).unwrap();
    for number in 0..count {
        let line = format!(
            r#"{{"app":"shop","event":"view","user_id":"u{number}","timestamp":{}}}"#,
            1_700_000_000_000i64
        );
        producer
            .send("events", line.as_bytes(), Some(1_700_000_000_000))
            .unwrap();
    }
    producer.flush(Duration::from_secs(30)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn goes_on_from_its_snapshot_and_begins_again_without_one() {
    let (world, broker) = (World::new(), broker());
    send(&broker, 100);
    world.run(&broker.brokers(), "", 100).await;
    assert_eq!(world.events().await, 100);
    send(&broker, 20);
    world.run(&broker.brokers(), "", 120).await;
    assert_eq!(world.events().await, 120);
    // No snapshot, but the log holds everything: counted again, the same rows come out.
    world.forget_snapshots();
    send(&broker, 5);
    world.run(&broker.brokers(), "", 125).await;
    assert_eq!(world.events().await, 125);
    assert_eq!(
        number(&world.client, "SELECT sum(read) FROM records")
            .await
            .unwrap(),
        125
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_that_is_added_begins_where_it_was_added() {
    let (world, first) = (World::new(), broker());
    send(&first, 50);
    world.run(&first.brokers(), "", 50).await;
    send(&first, 10);
    world
        .run(
            &first.brokers(),
            "[[unique]]\nname = \"viewers\"\nevent = \"view\"\n",
            60,
        )
        .await;
    let users = |metric: &str| {
        format!("SELECT sum(users) FROM active_users WHERE grain = 'day' AND metric = '{metric}'")
    };
    assert_eq!(number(&world.client, &users("active")).await.unwrap(), 50);
    assert_eq!(number(&world.client, &users("viewers")).await.unwrap(), 10);
    let start =
        "SELECT max(start) FROM origins WHERE id IN (SELECT id FROM definitions WHERE name = 'viewers')";
    assert_eq!(number(&world.client, start).await.unwrap(), 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_topic_of_that_name_is_refused_and_accepted_with_a_gap() {
    let (world, first) = (World::new(), broker());
    send(&first, 80);
    world.run(&first.brokers(), "", 80).await;
    drop(first);
    let second = broker();
    send(&second, 30);
    let refused = world.command(&second.brokers(), "").output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        said.contains("created again") && said.contains("--accept-gap"),
        "{said}"
    );
    let mut command = world.command(&second.brokers(), "");
    let process = Process::start(command.arg("--accept-gap"));
    let started = Instant::now();
    while world.events().await < 110 {
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "{} events are counted",
            world.events().await
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    process.end();
    assert_eq!(
        number(&world.client, "SELECT count() FROM gaps").await.unwrap(),
        1
    );
}
