//! `cambium replay --topic`: a definition that is new is given its past while `cambium run` goes on, and nobody sees half
//! of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cambium_clickhouse::Client;
use cambium_clickhouse::embedded::Child as Engine;
use cambium_kafka::{LocalKafka, Producer, create_topic};

use super::{Process, cambium, client, engine, number, program};

const ADDED: &str = r#"
[[funnel]]
name = "purchase"
steps = ["view", "cart", "buy"]
within = "1 day"
"#;
const BEFORE: u64 = 60_000;

struct World {
    directory: tempfile::TempDir,
    engine: Engine,
    client: Client,
    brokers: String,
}

impl World {
    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn configuration(&self, name: &str, more: &str) -> PathBuf {
        let path = self.path().join(name);
        let text = format!(
            "[kafka]\nbrokers = \"{}\"\n[[source]]\ntopic = \"events\"\n[clickhouse]\nurl = \"{}\"\n[http]\nlisten = \"\"\n{more}",
            self.brokers,
            self.engine.url()
        );
        std::fs::write(&path, text).unwrap();
        path
    }

    fn command(&self, command: &str, config: &Path) -> Command {
        let mut program = Command::new(program());
        program
            .arg(command)
            .arg("--config")
            .arg(config)
            .arg("--data")
            .arg(self.path())
            .env("CAMBIUM_LOG", "warn");
        program
    }

    fn replay(&self, config: &Path) -> Command {
        let mut replay = self.command("replay", config);
        replay.args(["--topic", "events", "--definition", "purchase"]);
        replay
    }

    async fn number(&self, query: &str) -> i64 {
        number(&self.client, query).await.unwrap()
    }

    async fn wait_for(&self, query: &str, least: i64) {
        let begun = Instant::now();
        while number(&self.client, query).await.unwrap_or(-1) < least {
            assert!(
                begun.elapsed() < Duration::from_secs(90),
                "{query}: not {least} in time"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The users of each step, and of the first step those that every event was counted of by then.
    async fn steps(&self) -> Vec<i64> {
        let query = "SELECT step, uniqCombined64Merge(users) AS users FROM funnel_users WHERE grain = 'day' GROUP BY step ORDER BY step";
        let rows = self.client.rows(query).await.unwrap();
        rows.iter().map(|row| row["users"].as_i64().unwrap()).collect()
    }
}

/// One event of a shop: every user looks, every second fills a cart, every fourth buys.
fn send(producer: &Producer, number: u64) {
    let user = number / 3;
    let event = match number % 3 {
        0 => "view",
        1 if user.is_multiple_of(2) => "cart",
        2 if user.is_multiple_of(4) => "buy",
        _ => "look",
    };
    let time = 1_700_000_000_000 + number as i64;
    let line = format!(
        r#"{{"message_id":"{number}","app":"shop","event":"{event}","user_id":"u{user}","timestamp":{time},"platform":"p{}"}}"#,
        user % 7
    );
    producer.send("events", line.as_bytes(), Some(time)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_is_given_its_past_while_the_others_go_on() {
    let kafka = LocalKafka::start().unwrap();
    create_topic(&kafka.brokers(), &BTreeMap::new(), "events", 3)
        .await
        .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let engine = engine(&directory.path().join("engine"));
    let world = World {
        client: client(engine.url()),
        brokers: kafka.brokers(),
        directory,
        engine,
    };
    let producer = Producer::new(&world.brokers, &BTreeMap::new()).unwrap();
    (0..BEFORE).for_each(|number| send(&producer, number));
    producer.flush(Duration::from_secs(30)).unwrap();
    let before = world.configuration("before.toml", "");
    let after = world.configuration("after.toml", ADDED);
    let running = Process::start(&mut world.command("run", &before));
    world
        .wait_for("SELECT sum(offset) FROM progress", BEFORE as i64)
        .await;

    // Events go on meanwhile.
    let stop = Arc::new(AtomicBool::new(false));
    let sent = Arc::new(AtomicU64::new(BEFORE));
    let sending = std::thread::spawn({
        let (stop, sent) = (stop.clone(), sent.clone());
        move || {
            while !stop.load(Ordering::Relaxed) {
                let next = sent.load(Ordering::Relaxed);
                (next..next + 30).for_each(|number| send(&producer, number));
                producer.flush(Duration::from_secs(30)).unwrap();
                sent.store(next + 30, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(20));
            }
            producer
        }
    });
    // Cut off twice on the way: at once, and when rows are there.
    for rows in [0, 1] {
        let replaying = Process::start(&mut world.replay(&after));
        let of_it = "SELECT count() FROM definition_rows WHERE name = 'purchase'";
        world.wait_for(of_it, rows).await;
        drop(replaying);
        assert_eq!(world.steps().await, [0; 0], "half of it is shown");
    }
    let mut replaying = Process::start(&mut world.replay(&after));
    let begun = Instant::now();
    let status = loop {
        let least = world.number("SELECT sum(offset) FROM progress").await;
        let steps = world.steps().await;
        // Everything that was counted before it was asked, or nothing.
        assert!(
            steps.is_empty() || steps[0] * 101 / 100 >= least / 3,
            "half of it is shown: {steps:?} of {least} events"
        );
        if let Some(status) = replaying.0.try_wait().unwrap() {
            break status;
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "it takes too long");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert!(status.success(), "{status}");
    stop.store(true, Ordering::Relaxed);
    let producer = sending.join().unwrap();
    let sent = sent.load(Ordering::Relaxed) as i64;
    world.wait_for("SELECT sum(offset) FROM progress", sent).await;
    check(&world, sent).await;

    // Told to, the process takes the configuration again, without an end: one with a mistake is not taken.
    let hang_up = || {
        let id = running.0.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-HUP", &id])
                .status()
                .unwrap()
                .success()
        );
    };
    world.configuration("before.toml", "[[unique]]\nname = \"lookers\"\nevnt = \"look\"\n");
    hang_up();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let lookers = format!("{ADDED}[[unique]]\nname = \"lookers\"\nevent = \"look\"\n");
    world.configuration("before.toml", &lookers);
    hang_up();
    let of_it = "SELECT count() FROM origins WHERE id IN (SELECT id FROM definitions WHERE name = 'lookers' AND shown)";
    world.wait_for(of_it, 3).await;
    (sent as u64..sent as u64 + 300).for_each(|number| send(&producer, number));
    producer.flush(Duration::from_secs(30)).unwrap();
    let sent = sent + 300;
    world.wait_for("SELECT sum(offset) FROM progress", sent).await;
    check(&world, sent).await;
    // Of a hundred users, every second looks once, and every other twice.
    let lookers = "SELECT sum(users) FROM active_users WHERE metric = 'lookers' AND grain = 'day'";
    assert_eq!(world.number(lookers).await, 75);
    running.end();

    // With the new configuration it is the same, and nothing is counted twice.
    let running = Process::start(&mut world.command("run", &after));
    world
        .wait_for(
            "SELECT toInt64(now() - max(flushed_at) < 3 AND min(flushed_at) > now() - 5) FROM progress",
            1,
        )
        .await;
    check(&world, sent).await;
    running.end();
}

/// The numbers are those of the events that were sent.
async fn check(world: &World, sent: i64) {
    let users = sent / 3;
    let expected = [users, (users + 1) / 2, (users + 3) / 4];
    let steps = world.steps().await;
    for (found, expected) in steps.iter().zip(expected) {
        assert!(
            (found - expected).abs() * 100 <= expected,
            "{steps:?}, not {expected}"
        );
    }
    assert_eq!(steps.len(), 3);
    let exact = "SELECT uniqExact(user) FROM sessions";
    assert_eq!(world.number(exact).await, users);
    assert_eq!(world.number("SELECT sum(events) FROM event_counts").await, sent);
    assert_eq!(world.number("SELECT sum(read) FROM records").await, sent);
    let origins = "SELECT max(start) FROM origins WHERE id IN (SELECT id FROM definitions WHERE name = 'purchase' AND shown)";
    assert_eq!(world.number(origins).await, 0);
}

/// Files of before the topic come in front of it, also where they had been counted by themselves.
#[tokio::test(flavor = "multi_thread")]
async fn files_come_in_front_of_a_topic() {
    let kafka = LocalKafka::start().unwrap();
    create_topic(&kafka.brokers(), &BTreeMap::new(), "events", 3)
        .await
        .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let engine = engine(&directory.path().join("engine"));
    let world = World {
        client: client(engine.url()),
        brokers: kafka.brokers(),
        directory,
        engine,
    };
    let config = world.configuration("front.toml", ADDED);
    // Three minutes before the topic begins: sessions go on over its beginning, and conversions end behind it.
    let early = |number: u64| {
        let (user, event) = (number / 2, ["view", "cart"][number as usize % 2]);
        let time = 1_700_000_000_000 - 180_000 + number as i64;
        format!(
            r#"{{"message_id":"early{number}","app":"shop","event":"{event}","user_id":"u{user}","timestamp":{time}}}"#
        ) + "\n"
    };
    let files = [("a.jsonl", 0..300), ("b.jsonl", 300..900)];
    for (name, numbers) in files {
        std::fs::write(world.path().join(name), numbers.map(early).collect::<String>()).unwrap();
    }
    let asked = |command: &str, more: &[&str]| {
        let mut asked = world.command(command, &config);
        asked.args(more).current_dir(world.path()).output().unwrap()
    };
    let said = |output: std::process::Output| {
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    };
    said(asked("replay", &["a.jsonl"]));
    let producer = Producer::new(&world.brokers, &BTreeMap::new()).unwrap();
    (0..6000).for_each(|number| send(&producer, number));
    producer.flush(Duration::from_secs(30)).unwrap();
    let running = Process::start(&mut world.command("run", &config));
    world.wait_for("SELECT sum(offset) FROM progress", 6000).await;
    // What was replayed by itself would be seen no more.
    let refused = asked("replay", &["--topic", "events", "b.jsonl"]);
    assert_eq!(refused.status.code(), Some(1));
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(text.contains("app shop is also counted from file-"), "{text}");
    let told = said(asked("replay", &["--topic", "events", "a.jsonl", "b.jsonl"]));
    assert!(
        told.starts_with("900 records come in front of events\n"),
        "{told}"
    );
    assert_eq!(world.number("SELECT sum(events) FROM event_counts").await, 6900);
    // Users of the files are users of the topic.
    let users = "SELECT sum(users) FROM active_users WHERE grain = 'day' AND metric = 'active'";
    assert_eq!(world.number(users).await, 2000);
    assert_eq!(world.number("SELECT count() FROM sessions").await, 2000);
    // In the files 450 look and fill a cart; of those a fourth buys later, and of the others as ever.
    let topic_alone = (2000 - 450) / 2;
    assert_eq!(world.steps().await, [2000, 450 + topic_alone, 500]);
    drop(running);
}

/// Under another key users are others: what is counted begins anew at an offset, and is given its past.
#[tokio::test(flavor = "multi_thread")]
async fn a_hash_key_is_changed() {
    let kafka = LocalKafka::start().unwrap();
    create_topic(&kafka.brokers(), &BTreeMap::new(), "events", 2)
        .await
        .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let engine = engine(&directory.path().join("engine"));
    let world = World {
        client: client(engine.url()),
        brokers: kafka.brokers(),
        directory,
        engine,
    };
    let keys = [
        "000102030405060708090a0b0c0d0e0f",
        "f0e0d0c0b0a090807060504030201000",
    ];
    let key = world.path().join("key");
    std::fs::write(&key, keys[0]).unwrap();
    let config = world.configuration(
        "keyed.toml",
        "[users]\nhash_key_file = \"key\"\n[snapshots]\nevery = \"1 s\"\n",
    );
    let producer = Producer::new(&world.brokers, &BTreeMap::new()).unwrap();
    let send_all = |numbers: std::ops::Range<u64>| {
        numbers.for_each(|number| send(&producer, number));
        producer.flush(Duration::from_secs(30)).unwrap();
    };
    let asked = |command: &str, more: &[&str]| {
        let output = world.command(command, &config).args(more).output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    };
    send_all(0..3000);
    let running = Process::start(&mut world.command("run", &config));
    world.wait_for("SELECT sum(offset) FROM progress", 3000).await;
    drop(running);
    std::fs::write(&key, keys[1]).unwrap();
    let said = asked("plan", &[]);
    let begin_anew = said
        .lines()
        .filter(|line| line.ends_with(": [users] hash_key_file is another"));
    assert_eq!(begin_anew.count(), 3, "{said}");

    let running = Process::start(&mut world.command("run", &config));
    let users = "SELECT sum(users) FROM active_users WHERE grain = 'day'";
    let events = "SELECT sum(events) FROM event_counts";
    send_all(3000..3300);
    world.wait_for("SELECT sum(offset) FROM progress", 3300).await;
    world.wait_for(users, 100).await;
    assert_eq!(
        (world.number(users).await, world.number(events).await),
        (100, 300)
    );
    asked("replay", &["--topic", "events"]);
    assert_eq!(
        (world.number(users).await, world.number(events).await),
        (1100, 3300)
    );
    assert_eq!(world.number("SELECT uniqExact(user) FROM sessions").await, 1100);
    let mut user = Command::new(program());
    let number = user
        .arg("user")
        .arg("--config")
        .arg(&config)
        .arg("u1")
        .output()
        .unwrap();
    let number = String::from_utf8(number.stdout).unwrap();
    let of_user = format!("SELECT count() FROM sessions WHERE user = {number}");
    assert_eq!(world.number(&of_user).await, 1);
    drop(running);
}

/// What changes is said before, and what is hidden afterwards can be deleted.
#[tokio::test(flavor = "multi_thread")]
async fn a_plan_says_what_a_configuration_would_change() {
    let directory = tempfile::tempdir().unwrap();
    let engine = engine(&directory.path().join("engine"));
    let client = client(engine.url());
    let configure = |more: &str| {
        let text = format!("[clickhouse]\nurl = \"{}\"\n{more}", engine.url());
        std::fs::write(directory.path().join("cambium.toml"), text).unwrap();
    };
    let say = |arguments: &[&str]| {
        let arguments = [&arguments[..1], &["--config", "cambium.toml"], &arguments[1..]].concat();
        let output = cambium(directory.path(), &arguments);
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success(),
            "{said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        said
    };
    configure(
        "[[unique]]\nname = \"buyers\"\nevent = \"buy\"\n[[unique]]\nname = \"lookers\"\nevent = \"look\"\n",
    );
    assert_eq!(
        say(&["plan"]),
        "nothing is counted yet: all 5 definitions begin\n"
    );
    let event = |event| {
        format!(r#"{{"app":"shop","event":"{event}","user_id":"u","timestamp":1700000000000}}"#) + "\n"
    };
    std::fs::write(directory.path().join("a.jsonl"), event("buy") + &event("look")).unwrap();
    say(&["replay", "a.jsonl"]);
    assert!(
        say(&["plan"]).lines().all(|line| line.starts_with("stays ")),
        "{}",
        say(&["plan"])
    );
    assert_eq!(say(&["prune"]), "nothing is hidden: there is nothing to delete\n");

    configure(
        "[[unique]]\nname = \"buyers\"\nevent = [\"buy\", \"pay\"]\n[[unique]]\nname = \"trials\"\nevent = \"try\"\n",
    );
    let expected = "\
begins anew        unique buyers (shop): event was \"buy\", is [\"buy\",\"pay\"]
is new             unique trials (shop)
no longer counted  unique lookers (shop): its rows stay, hidden, until `cambium prune`
stays              counts (shop)
stays              session (shop)
stays              unique active (shop)
";
    assert_eq!(say(&["plan"]), expected);
    std::fs::write(directory.path().join("b.jsonl"), event("pay")).unwrap();
    say(&["replay", "b.jsonl"]);
    let users = "SELECT count() FROM unique_sets";
    let before = number(&client, users).await.unwrap();
    let hidden = "unique buyers (shop), generation 0\nunique lookers (shop), generation 0\n";
    assert_eq!(say(&["prune", "--dry-run"]), hidden);
    assert_eq!(say(&["prune"]), format!("{hidden}deleted\n"));
    let after = number(&client, users).await.unwrap();
    assert!(after > 0 && after < before, "{before} rows, then {after}");
    let metrics = "SELECT count() FROM definitions WHERE name IN ('buyers', 'lookers')";
    assert_eq!(number(&client, metrics).await.unwrap(), 1);
    let shown = |metric: &str| {
        format!("SELECT sum(users) FROM active_users WHERE grain = 'day' AND metric = '{metric}'")
    };
    assert_eq!(number(&client, &shown("buyers")).await.unwrap(), 1);

    // A name is not what is counted: what was counted under the old one stays.
    let payers = "[[unique]]\nname = \"payers\"\nwas = \"buyers\"\nevent = [\"buy\", \"pay\"]\n";
    configure(payers);
    let expected = "\
is renamed         unique payers (shop): it was called buyers
no longer counted  unique trials (shop): its rows stay, hidden, until `cambium prune`
stays              counts (shop)
stays              session (shop)
stays              unique active (shop)
";
    assert_eq!(say(&["plan"]), expected);
    let another = event("pay").replace("\"u\"", "\"v\"");
    std::fs::write(directory.path().join("c.jsonl"), another).unwrap();
    say(&["replay", "c.jsonl"]);
    assert_eq!(number(&client, &shown("payers")).await.unwrap(), 2);
    assert_eq!(number(&client, &shown("buyers")).await.unwrap(), 0);
    let stays = |said: &str| said.lines().filter(|line| line.starts_with("stays ")).count();
    assert_eq!(stays(&say(&["plan"])), 4, "{}", say(&["plan"]));

    // Two cannot go on with the same past.
    configure(&format!(
        "{payers}[[unique]]\nname = \"buyers\"\nevent = \"buy\"\n"
    ));
    let output = cambium(directory.path(), &["plan", "--config", "cambium.toml"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("'payers' and 'buyers' would both go on"), "{said}");
}

/// Two topics that become one with more partitions: the same numbers, in a database of their own.
#[tokio::test(flavor = "multi_thread")]
async fn topics_that_are_merged_and_grow_and_move_keep_their_numbers() {
    let (broker, other) = (LocalKafka::start().unwrap(), LocalKafka::start().unwrap());
    for (topic, partitions) in [("web", 2), ("ios", 1)] {
        create_topic(&broker.brokers(), &BTreeMap::new(), topic, partitions)
            .await
            .unwrap();
    }
    let directory = tempfile::tempdir().unwrap();
    let engine = engine(&directory.path().join("engine"));
    let producer = Producer::new(&broker.brokers(), &BTreeMap::new()).unwrap();
    let events = 3000;
    for number in 0..events {
        // Who is on the one is not on the other.
        let user = number * 7 % 230;
        let topic = if user % 3 == 0 { "ios" } else { "web" };
        let event = ["view", "cart", "buy", "look"][number as usize * 5 / 7 % 4];
        let time = 1_700_000_000_000 + number * 10_000;
        let line = format!(
            r#"{{"message_id":"{number}","app":"shop","event":"{event}","user_id":"u{user}","timestamp":{time},"platform":"{topic}"}}"#
        );
        producer.send(topic, line.as_bytes(), Some(time)).unwrap();
    }
    producer.flush(Duration::from_secs(30)).unwrap();
    let configure = |file: &str, brokers: &str, database: &str, topics: &[&str]| {
        let sources = topics
            .iter()
            .map(|topic| format!("[[source]]\ntopic = \"{topic}\"\n"));
        let text = format!(
            "[kafka]\nbrokers = \"{brokers}\"\ngroup = \"{database}\"\n{}[clickhouse]\nurl = \"{}\"\ndatabase = \"{database}\"\n[http]\nlisten = \"\"\n{ADDED}",
            sources.collect::<String>(),
            engine.url()
        );
        std::fs::write(directory.path().join(file), text).unwrap();
    };
    let numbers = async |file: &str, database: &str| {
        let client = Client::new(engine.url(), "default", None, database);
        let mut run = Command::new(program());
        run.args(["run", "--config", file, "--data", database]);
        let running = Process::start(run.current_dir(directory.path()).env("CAMBIUM_LOG", "warn"));
        let begun = Instant::now();
        while number(&client, "SELECT sum(offset) FROM progress")
            .await
            .unwrap_or(-1)
            < events
        {
            assert!(
                begun.elapsed() < Duration::from_secs(90),
                "{database} is not counted in time"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        running.end();
        let queries = [
            "SELECT event, bucket, platform, sum(events) FROM event_counts GROUP BY ALL ORDER BY ALL",
            "SELECT user, session_id, started_at, ended_at, events FROM sessions ORDER BY ALL",
            "SELECT metric, grain, day, users FROM active_users ORDER BY ALL",
            "SELECT funnel, grain, day, step, users, median_seconds FROM funnels ORDER BY ALL",
        ];
        let mut answers = Vec::new();
        for query in queries {
            answers.push(String::from_utf8(client.fetch(query, "TSV").await.unwrap()).unwrap());
        }
        answers
    };
    let (old, new) = ("cambium.toml", "moved.toml");
    configure(old, &broker.brokers(), "before", &["web", "ios"]);
    let before = numbers(old, "before").await;
    assert!(
        before.iter().all(|answer| answer.lines().count() > 2),
        "{before:?}"
    );
    let rekey = |arguments: &str| {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        let output = cambium(directory.path(), &[&["rekey"], arguments.as_slice()].concat());
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    rekey("--config cambium.toml --from web --from ios --to all --partitions 5");
    configure(old, &broker.brokers(), "after", &["all"]);
    assert_eq!(numbers(old, "after").await, before);
    // The other cluster has a topic of the same name.
    configure(new, &other.brokers(), "moved", &["all"]);
    rekey("--config moved.toml --from-config cambium.toml --from all --to all --partitions 4");
    assert_eq!(numbers(new, "moved").await, before);
}
