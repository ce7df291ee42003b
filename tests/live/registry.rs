//! Avro through Kafka with a schema registry: a small stand-in that serves the same HTTP.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use apache_avro::types::Value;
use apache_avro::{Schema, to_avro_datum};
use cambium_kafka::{LocalKafka, Producer, create_topic};

use super::{Process, client, engine, get, number, program};

/// Answers by path, and how often each was asked for.
#[derive(Clone, Default)]
pub struct Registry {
    answers: Arc<Mutex<BTreeMap<String, String>>>,
    asked: Arc<Mutex<Vec<String>>>,
    is_down: Arc<AtomicBool>,
}

impl Registry {
    pub fn start() -> (Registry, String) {
        let registry = Registry::default();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serving = registry.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                serving.answer(stream.unwrap());
            }
        });
        (registry, url)
    }

    fn answer(&self, mut stream: std::net::TcpStream) {
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let first = lines.next().unwrap().unwrap();
        for line in lines.by_ref() {
            if line.unwrap().is_empty() {
                break;
            }
        }
        let path = first.split(' ').nth(1).unwrap().to_owned();
        let found = self.answers.lock().unwrap().get(&path).cloned();
        let (status, body) = match (self.is_down.load(Ordering::Relaxed), found) {
            (true, _) => ("503 Service Unavailable", "not now".to_owned()),
            (_, Some(body)) => ("200 OK", body),
            (_, None) => (
                "404 Not Found",
                r#"{"error_code":40403,"message":"Schema not found"}"#.to_owned(),
            ),
        };
        self.asked.lock().unwrap().push(path);
        let length = body.len();
        let _ = write!(
            stream,
            "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
    }

    pub fn is_down(&self, it_is: bool) {
        self.is_down.store(it_is, Ordering::Relaxed);
    }

    /// The schema of [`old`] records as number 7, and what it refers to.
    pub fn put_old(&self) {
        let references = serde_json::json!([{"name": "common.Kind", "subject": "kind/of", "version": 2}]);
        self.put("/schemas/ids/7", OLD, references);
        self.put("/subjects/kind%2Fof/versions/2", KIND, serde_json::json!([]));
    }

    fn put(&self, path: &str, schema: &str, references: serde_json::Value) {
        let body = serde_json::json!({ "schema": schema, "references": references }).to_string();
        self.answers.lock().unwrap().insert(path.to_owned(), body);
    }

    fn times_asked(&self, path: &str) -> usize {
        self.asked
            .lock()
            .unwrap()
            .iter()
            .filter(|asked| *asked == path)
            .count()
    }
}

const KIND: &str = r#"{"type":"enum","name":"Kind","namespace":"common","symbols":["view","buy"]}"#;
const OLD: &str = r#"{"type":"record","name":"E","fields":[{"name":"app","type":"string"},{"name":"event","type":"common.Kind"},
    {"name":"user_id","type":"string"},{"name":"timestamp","type":"long"}]}"#;
const NEW: &str = r#"{"type":"record","name":"E","fields":[{"name":"timestamp","type":"long"},{"name":"app","type":"string"},
    {"name":"event","type":"string"},{"name":"price","type":"double"},{"name":"user_id","type":["null","string"]}]}"#;

pub fn wire(id: u32, datum: Vec<u8>) -> Vec<u8> {
    [vec![0], id.to_be_bytes().to_vec(), datum].concat()
}

pub fn old(user: &str, time: i64) -> Vec<u8> {
    let (schema, references) = Schema::parse_str_with_list(OLD, [KIND]).unwrap();
    let record = Value::Record(vec![
        ("app".into(), Value::String("a".into())),
        ("event".into(), Value::Enum(0, "view".into())),
        ("user_id".into(), Value::String(user.into())),
        ("timestamp".into(), Value::Long(time)),
    ]);
    let all = references.iter().chain([&schema]).collect();
    apache_avro::to_avro_datum_schemata(&schema, all, record).unwrap()
}

fn new(user: &str, time: i64) -> Vec<u8> {
    let schema = Schema::parse_str(NEW).unwrap();
    let record = Value::Record(vec![
        ("timestamp".into(), Value::Long(time)),
        ("app".into(), Value::String("a".into())),
        ("event".into(), Value::String("buy".into())),
        ("price".into(), Value::Double(9.5)),
        (
            "user_id".into(),
            Value::Union(1, Box::new(Value::String(user.into()))),
        ),
    ]);
    to_avro_datum(&schema, record).unwrap()
}

async fn becomes(client: &cambium_clickhouse::Client, query: &str, wanted: i64) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let found = number(client, query).await;
        if found.as_ref().is_ok_and(|found| *found == wanted) {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{query}: {found:?} instead of {wanted}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Older and newer producers at once; ids that nobody knows; a registry that is away, then back; and a
/// start without snapshots after it has forgotten everything: what it answered was written down.
#[tokio::test(flavor = "multi_thread")]
async fn avro_is_read_by_the_registrys_schemas() {
    let kafka = LocalKafka::start().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let engine = engine(&directory.path().join("clickhouse"));
    let client = client(engine.url());
    let (registry, url) = Registry::start();
    registry.put_old();
    create_topic(&kafka.brokers(), &BTreeMap::new(), "events", 1)
        .await
        .unwrap();
    let http = format!("127.0.0.1:{}", cambium_kafka::free_port().unwrap());
    let config = directory.path().join("c.toml");
    let text = format!(
        "[kafka]\nbrokers = \"{}\"\n[[source]]\ntopic = \"events\"\nformat = \"avro-confluent\"\nregistry = \"{url}\"\n\
         [clickhouse]\nurl = \"{}\"\n[snapshots]\nevery = \"1 s\"\n[http]\nlisten = \"{http}\"\n",
        kafka.brokers(),
        engine.url()
    );
    std::fs::write(&config, text).unwrap();
    let data = directory.path().join("data");
    let start = || {
        let mut command = Command::new(program());
        command
            .args(["run", "--config"])
            .arg(&config)
            .arg("--data")
            .arg(&data);
        Process::start(command.env("CAMBIUM_LOG", "warn"))
    };
    let producer = Producer::new(&kafka.brokers(), &BTreeMap::new()).unwrap();
    let now = 1_700_000_000_000;
    let send = |payload: &[u8]| producer.send_raw("events", None, payload, None).unwrap();
    for user in 0..20 {
        send(&wire(7, old(&format!("u{user}"), now)));
    }
    send(&wire(9, vec![1, 2, 3]));
    send(b"no Avro");
    let process = start();
    becomes(&client, "SELECT sum(read) FROM records", 22).await;
    becomes(&client, "SELECT sum(accepted) FROM records", 20).await;
    becomes(
        &client,
        "SELECT count() FROM rejected_events WHERE reason = 'unknown_schema'",
        1,
    )
    .await;

    registry.is_down(true);
    for user in 0..10 {
        send(&wire(8, new(&format!("u{user}"), now)));
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    becomes(&client, "SELECT sum(read) FROM records", 22).await;
    registry.put("/schemas/ids/8", NEW, serde_json::json!([]));
    registry.is_down(false);
    becomes(&client, "SELECT sum(accepted) FROM records", 30).await;
    assert_eq!(registry.times_asked("/schemas/ids/7"), 1);
    let metrics = get(&http, "/metrics").unwrap();
    for line in [
        "cambium_records_total{topic=\"events\",partition=\"0\",outcome=\"accepted\"} 30",
        "cambium_records_total{topic=\"events\",partition=\"0\",outcome=\"rejected\"} 2",
        "cambium_end_offset{topic=\"events\",partition=\"0\"} 32",
        "cambium_users{topic=\"events\",partition=\"0\"} 20",
        "cambium_flush_seconds_count{topic=\"events\",partition=\"0\"}",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    assert!(get(&http, "/healthz").unwrap().ends_with("ok\n"));
    assert!(get(&http, "/readyz").unwrap().ends_with("ready\n"));
    process.end();

    // Everything from the journal alone.
    registry.answers.lock().unwrap().clear();
    for file in std::fs::read_dir(data.join("snapshots/events/0")).unwrap() {
        let path = file.unwrap().path();
        if path
            .extension()
            .is_some_and(|kind| kind == "full" || kind == "delta")
        {
            std::fs::remove_file(path).unwrap();
        }
    }
    let process = start();
    send(&wire(8, new("u99", now)));
    becomes(&client, "SELECT sum(accepted) FROM records", 31).await;
    becomes(
        &client,
        "SELECT sum(events) FROM event_counts WHERE event = 'buy'",
        11,
    )
    .await;
    becomes(&client, "SELECT sum(rejected) FROM records", 2).await;
    process.end();
}
