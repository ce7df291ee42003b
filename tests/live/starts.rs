//! The table of starts (ARCHITECTURE.md), each row with a real log and the real engine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use cambium_clickhouse::Client;
use cambium_clickhouse::embedded::Child as Engine;
use cambium_kafka::{InProcess, LocalKafka, Producer, create_topic};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

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
    send_to(&broker.brokers(), count);
}

fn send_to(brokers: &str, count: usize) {
    send_events(brokers, "view", count);
}

fn send_events(brokers: &str, event: &str, count: usize) {
    let producer = Producer::new(brokers, &BTreeMap::new()).unwrap();
    for number in 0..count {
        let line = format!(
            r#"{{"app":"shop","event":"{event}","user_id":"u{number}","timestamp":{}}}"#,
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
    refused(&world, &second.brokers(), "created again");
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

/// As retention does: the log begins at `offset` from now on.
async fn forget_records_before(brokers: &str, offset: i64) {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .create()
        .unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset("events", 0, Offset::Offset(offset))
        .unwrap();
    admin.delete_records(&list, &AdminOptions::new()).await.unwrap();
}

/// Refused, soon, with a message that names what would be lost and what to do.
fn refused(world: &World, brokers: &str, says: &str) {
    let begun = Instant::now();
    let refused = world.command(brokers, "").output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains(says) && said.contains("--accept-gap"), "{said}");
    assert!(
        begun.elapsed() < Duration::from_secs(15),
        "refusing took {:?}",
        begun.elapsed()
    );
}

/// Refused; accepted, it is counted on and noted.
async fn refused_then_accepted(world: &World, brokers: &str, says: &str, events: i64) {
    refused(world, brokers, says);
    let process = Process::start(world.command(brokers, "").arg("--accept-gap"));
    let started = Instant::now();
    while world.events().await != events {
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "{} events are counted, not {events}",
            world.events().await
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    process.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_log_no_longer_holds_is_refused_and_accepted_with_a_gap() {
    let (world, kafka) = (World::new(), LocalKafka::start().unwrap());
    let brokers = kafka.brokers();
    create_topic(&brokers, &BTreeMap::new(), "events", 1)
        .await
        .unwrap();
    send_to(&brokers, 100);
    world.run(&brokers, "", 100).await;
    send_to(&brokers, 50);
    forget_records_before(&brokers, 120).await;
    refused_then_accepted(&world, &brokers, "offsets 100 to 120 are lost", 130).await;
    world.forget_snapshots();
    send_to(&brokers, 10);
    refused_then_accepted(&world, &brokers, "there is no readable snapshot", 140).await;
    let gaps = world
        .client
        .fetch(
            "SELECT from_offset, to_offset FROM gaps ORDER BY to_offset",
            "TSV",
        )
        .await
        .unwrap();
    assert_eq!(String::from_utf8(gaps).unwrap(), "100\t120\n0\t150\n");
}

/// A snapshot that cannot be read costs replay, never numbers.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_cannot_be_read_is_passed_over() {
    let (world, broker) = (World::new(), broker());
    send(&broker, 70);
    world.run(&broker.brokers(), "", 70).await;
    let directory = world.path().join("snapshots/events/0");
    let mut broken = 0;
    for file in std::fs::read_dir(&directory)
        .unwrap()
        .map(|file| file.unwrap().path())
    {
        if file
            .extension()
            .is_some_and(|kind| kind == "full" || kind == "delta")
        {
            let bytes = std::fs::read(&file).unwrap();
            std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
            broken += 1;
        }
    }
    assert!(broken > 0);
    send(&broker, 7);
    world.run(&broker.brokers(), "", 77).await;
    assert_eq!(world.events().await, 77);
}

async fn create_again(brokers: &str) {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .create()
        .unwrap();
    admin
        .delete_topics(&["events"], &AdminOptions::new())
        .await
        .unwrap();
    let started = Instant::now();
    // A name is free again a moment after its topic is gone.
    while let Err(error) = create_topic(brokers, &BTreeMap::new(), "events", 1).await {
        assert!(started.elapsed() < Duration::from_secs(30), "{error:#}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// A topic that was created again and is longer than the old one was: with a snapshot, and without.
#[tokio::test(flavor = "multi_thread")]
async fn a_longer_topic_of_that_name_is_told_apart_by_its_records() {
    let (world, kafka) = (World::new(), LocalKafka::start().unwrap());
    let brokers = kafka.brokers();
    create_topic(&brokers, &BTreeMap::new(), "events", 1)
        .await
        .unwrap();
    send_events(&brokers, "first", 80);
    world.run(&brokers, "", 80).await;
    create_again(&brokers).await;
    send_events(&brokers, "second", 100);
    refused_then_accepted(&world, &brokers, "the topic was created again", 180).await;
    send_events(&brokers, "second", 5);
    world.run(&brokers, "", 105).await;
    assert_eq!(world.events().await, 185);

    // What it counted of the first topic it cannot count again.
    world.forget_snapshots();
    send_events(&brokers, "second", 3);
    refused_then_accepted(&world, &brokers, "no readable snapshot", 188).await;
    world.forget_snapshots();
    create_again(&brokers).await;
    send_events(&brokers, "third", 120);
    refused_then_accepted(&world, &brokers, "the topic was created again", 308).await;
    let told = [
        ("SELECT max(bitShiftRight(version, 48)) FROM progress_rows", "2\n"),
        (
            "SELECT from_offset, to_offset FROM gaps ORDER BY at",
            "80\t0\n0\t105\n0\t0\n",
        ),
        (
            "SELECT event, sum(events) FROM event_counts GROUP BY event ORDER BY event",
            "first\t80\nsecond\t108\nthird\t120\n",
        ),
        ("SELECT sum(read) FROM records", "308\n"),
    ];
    for (query, expected) in told {
        let answer = world.client.fetch(query, "TSV").await.unwrap();
        assert_eq!(String::from_utf8(answer).unwrap(), expected, "{query}");
    }
}

/// A process that uses another's embedded engine says so when that ends, and then goes on with its own.
#[tokio::test(flavor = "multi_thread")]
async fn an_engine_of_another_process_that_ends_is_noticed() {
    let (directory, broker) = (tempfile::tempdir().unwrap(), broker());
    send(&broker, 10);
    let config = directory.path().join("cambium.toml");
    let text = format!(
        "[kafka]\nbrokers = \"{}\"\n[[source]]\ntopic = \"events\"\n[http]\nlisten = \"\"\n",
        broker.brokers()
    );
    std::fs::write(&config, text).unwrap();
    let shared = engine(&directory.path().join("clickhouse"));
    let client = client(shared.url());
    let command = || {
        let mut command = Command::new(program());
        command.arg("run").arg("--config").arg(&config);
        command.arg("--data").arg(directory.path());
        command
    };
    let mut process = Process(
        command()
            .env("CAMBIUM_LOG", "error")
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let started = Instant::now();
    while number(&client, "SELECT sum(offset) FROM progress")
        .await
        .unwrap_or(-1)
        < 10
    {
        assert!(started.elapsed() < Duration::from_secs(60), "nothing is read");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    drop(shared);
    let ended = Instant::now();
    while process.0.try_wait().unwrap().is_none() {
        assert!(ended.elapsed() < Duration::from_secs(20), "it goes on waiting");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(process.0.wait().unwrap().code(), Some(1));
    let mut said = String::new();
    std::io::Read::read_to_string(process.0.stderr.as_mut().unwrap(), &mut said).unwrap();
    assert!(
        said.contains("has ended") && said.contains("start again"),
        "{said}"
    );

    let asked = ["SELECT sum(events) FROM event_counts"];
    let arguments = ["query", "--config", "cambium.toml", "--data", "."];
    let answer = super::cambium(directory.path(), &[arguments.as_slice(), &asked].concat());
    assert_eq!(String::from_utf8_lossy(&answer.stdout), "10\n");
}
