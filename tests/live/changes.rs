//! What changes about people is told to a topic, once in effect, under the same id whenever it is told again.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cambium_kafka::{LocalKafka, Producer, create_topic};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use serde_json::Value;

use super::{Process, client, engine, program};

const DAY_MS: i64 = 86_400_000;
const PATIENCE: Duration = Duration::from_secs(60);

/// Reads a topic from its beginning, however often it is asked.
struct Heard {
    consumer: BaseConsumer,
    changes: Vec<Value>,
}

impl Heard {
    fn new(brokers: &str) -> Heard {
        let mut settings = ClientConfig::new();
        settings
            .set("bootstrap.servers", brokers)
            .set("group.id", "app")
            .set("allow.auto.create.topics", "true");
        let consumer: BaseConsumer = settings.create().unwrap();
        let mut from = TopicPartitionList::new();
        from.add_partition_offset("changes", 0, Offset::Beginning)
            .unwrap();
        consumer.assign(&from).unwrap();
        Heard {
            consumer,
            changes: Vec::new(),
        }
    }

    /// Waits for so many different ones.
    fn wait(&mut self, count: usize) -> Vec<&Value> {
        let begun = Instant::now();
        while self.ids().len() < count {
            assert!(
                begun.elapsed() < PATIENCE,
                "{count} were not told: {:?}",
                self.changes
            );
            if let Some(Ok(message)) = self.consumer.poll(Duration::from_millis(200)) {
                let change: Value = serde_json::from_slice(message.payload().unwrap()).unwrap();
                assert_eq!(
                    message.key().unwrap(),
                    change["user"].as_str().unwrap().as_bytes()
                );
                self.changes.push(change);
            }
        }
        let mut seen = BTreeSet::new();
        let new = self
            .changes
            .iter()
            .filter(|change| seen.insert(change["id"].to_string()));
        new.collect()
    }

    fn ids(&self) -> BTreeSet<String> {
        self.changes
            .iter()
            .map(|change| change["id"].to_string())
            .collect()
    }
}

fn shown(change: &Value, members: &[&str]) -> String {
    let text = |name: &&str| change[*name].to_string().trim_matches('"').to_owned();
    let all: Vec<String> = members.iter().map(text).collect();
    all.join(" ")
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_people_are_told() {
    let kafka = LocalKafka::start().unwrap();
    create_topic(&kafka.brokers(), &BTreeMap::new(), "events", 2)
        .await
        .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let engine = engine(&directory.path().join("engine"));
    let client = client(engine.url());
    let text = format!(
        "[kafka]\nbrokers = \"{}\"\n[[source]]\ntopic = \"events\"\n[clickhouse]\nurl = \"{}\"\n\
         [http]\nlisten = \"127.0.0.1:{}\"\n[snapshots]\nevery = \"1 s\"\n[changes]\ntopic = \"changes\"\n\
         [[points]]\nname = \"coins\"\nearn = [{{ event = \"buy\", points = \"price\" }}]\n\
         spend = [{{ event = \"return\", points = \"price\" }}]\nexpiry = \"2 days\"\n\
         [[level]]\nname = \"vip\"\nof = \"coins\"\nvalue = \"balance\"\nlevels = [{{ name = \"silver\", at = 10 }}, {{ name = \"gold\", at = 50 }}]\n\
         [[badge]]\nname = \"buyer\"\nevent = \"buy\"\ncount = 2\n\
         [[churn]]\nname = \"gone\"\nafter = \"1 day\"\n",
        kafka.brokers(),
        engine.url(),
        cambium_kafka::free_port().unwrap()
    );
    std::fs::write(directory.path().join("cambium.toml"), text).unwrap();
    let producer = Producer::new(&kafka.brokers(), &BTreeMap::new()).unwrap();
    let today = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64 / DAY_MS * DAY_MS;
    let send = |user: &str, days_ago: i64, event: &str, price: i64| {
        // An hour into the day, or just now.
        let time = match days_ago {
            0 => SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64,
            _ => today - days_ago * DAY_MS + 3_600_000,
        };
        let line = format!(
            r#"{{"app":"shop","event":"{event}","user_id":"{user}","timestamp":{time},"properties":{{"price":{price}}}}}"#
        );
        producer.send("events", line.as_bytes(), Some(time)).unwrap();
        producer.flush(PATIENCE).unwrap();
    };
    let start = || {
        let mut run = Command::new(program());
        run.args(["run", "--config", "cambium.toml", "--data", "."])
            .current_dir(directory.path());
        Process::start(run.env("CAMBIUM_LOG", "warn"))
    };
    let running = start();
    // What is told begins with the first look.
    let begun = Instant::now();
    while super::number(&client, "SELECT count() FROM published_rows")
        .await
        .unwrap_or(0)
        == 0
    {
        assert!(begun.elapsed() < PATIENCE, "nothing is told yet");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let mut heard = Heard::new(&kafka.brokers());
    // Gold five days ago, and nothing left of it; not seen since.
    send("old", 5, "buy", 60);
    send("old", 5, "buy", 1);
    send("new", 0, "buy", 20);
    let first = heard.wait(4);
    let mut told: Vec<String> = first
        .iter()
        .map(|change| shown(change, &["kind", "name", "was", "is", "earned"]))
        .collect();
    told.sort();
    assert_eq!(
        told,
        [
            "badge_granted buyer null null null",
            "churn_risk gone null null {\"coins\":61}",
            // Its way up is no news any more.
            "level_changed vip  silver null",
            "level_changed vip gold  null",
        ]
    );
    let churned = first
        .iter()
        .find(|change| change["kind"] == "churn_risk")
        .unwrap();
    let days_ago = async |name: &str| {
        let query = format!(
            "SELECT intDiv({today} - toUnixTimestamp(toDateTime('{} 00:00:00', 'UTC')) * 1000, {DAY_MS})",
            churned[name].as_str().unwrap()
        );
        super::number(&client, &query).await.unwrap()
    };
    assert_eq!((days_ago("day").await, days_ago("last_day").await), (3, 5));
    // Up, and with what is brought back down again.
    send("new", 0, "buy", 40);
    let up = shown(heard.wait(6).last().unwrap(), &["kind", "was", "is"]);
    assert!(
        ["level_changed silver gold", "level_changed  gold"].contains(&up.as_str())
            || up.starts_with("badge"),
        "{up}"
    );
    send("new", 0, "return", 60);
    let down = heard.wait(7);
    assert_eq!(shown(down.last().unwrap(), &["kind", "is"]), "level_changed ");
    // Who is killed tells some of it again, under the same ids.
    let ids = heard.ids();
    running.kill();
    let running = start();
    send("other", 0, "buy", 11);
    heard.wait(8);
    let after = heard.ids();
    assert_eq!(after.difference(&ids).count(), 1, "{:?}", heard.changes);
    running.end();
}
