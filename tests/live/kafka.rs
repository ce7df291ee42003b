//! Kafka as users have it: record batches in every compression, TLS and passwords, several topics.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use apache_avro::types::Value;
use cambium_kafka::{LocalKafka, Producer, Secure, create_topic};

use super::certificates::Authority;
use super::{Process, client, engine, number, program};

const TIME: i64 = 1_700_000_000_000;

/// Every compression, each by a producer of its own; two topics with fields in different places; read
/// over TLS with a password.
#[tokio::test(flavor = "multi_thread")]
async fn every_compression_is_read_over_tls_from_several_topics() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path().join("ca.pem"));
    let keystore = directory.path().join("broker.pem");
    authority.signs(false).write(&keystore);
    let secure = Secure {
        keystore,
        user: "alice".to_owned(),
        password: "wonderland".to_owned(),
    };
    let kafka = LocalKafka::start_with(Some(&secure)).unwrap();
    let engine = engine(&directory.path().join("clickhouse"));
    let client = client(engine.url());
    for topic in ["plain", "other", "avro"] {
        create_topic(&kafka.brokers(), &BTreeMap::new(), topic, 2)
            .await
            .unwrap();
    }
    let ca = authority.file;
    let settings = |compression: &str| {
        BTreeMap::from(
            [
                ("security.protocol", "SASL_SSL"),
                ("sasl.mechanism", "PLAIN"),
                ("sasl.username", "alice"),
                ("sasl.password", "wonderland"),
                ("ssl.ca.location", ca.to_str().unwrap()),
                ("compression.type", compression),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
        )
    };
    for (number, compression) in ["none", "gzip", "snappy", "lz4", "zstd"].into_iter().enumerate() {
        let producer = Producer::new(&kafka.secure_brokers(), &settings(compression)).unwrap();
        for user in 0..200 {
            let line = format!(
                r#"{{"app":"a","event":"{compression}","user_id":"u{user}","timestamp":{},"session_id":"{}"}}"#,
                TIME + number as i64,
                "x".repeat(200)
            );
            producer.send("plain", line.as_bytes(), Some(TIME)).unwrap();
        }
        let line = format!(
            r#"{{"what":"{compression}","ctx":{{"uid":7}},"ts":{}}}"#,
            TIME / 1000
        );
        let key = b"7".as_slice();
        producer
            .send_record(
                "other",
                Some(key),
                Some(line.as_bytes()),
                Some(TIME),
                &[("id", compression.as_bytes())],
            )
            .unwrap();
        producer
            .send_record(
                "other",
                Some(key),
                Some(line.as_bytes()),
                Some(TIME),
                &[("id", compression.as_bytes())],
            )
            .unwrap();
        producer.flush(Duration::from_secs(30)).unwrap();
    }
    // Avro with a schema of the user's own, in a file.
    let schema = r#"{"type":"record","name":"Hit","fields":[{"name":"uid","type":"long"},{"name":"event","type":"string"},
        {"name":"ts","type":{"type":"long","logicalType":"timestamp-micros"}}]}"#;
    std::fs::write(directory.path().join("hit.avsc"), schema).unwrap();
    let parsed = apache_avro::Schema::parse_str(schema).unwrap();
    let producer = Producer::new(&kafka.secure_brokers(), &settings("zstd")).unwrap();
    for user in 0..30 {
        let record = Value::Record(vec![
            ("uid".into(), Value::Long(user)),
            ("event".into(), Value::String("hit".into())),
            ("ts".into(), Value::TimestampMicros(TIME * 1000)),
        ]);
        let datum = apache_avro::to_avro_datum(&parsed, record).unwrap();
        producer.send_raw("avro", Some(b"k"), &datum, Some(TIME)).unwrap();
    }
    producer.flush(Duration::from_secs(30)).unwrap();
    let text = format!(
        r#"
        [kafka]
        brokers = "{}"
        settings = {{ "security.protocol" = "SASL_SSL", "sasl.mechanism" = "PLAIN", "sasl.username" = "alice", "sasl.password" = "wonderland", "ssl.ca.location" = "{}" }}
        [[source]]
        topic = "plain"
        [[source]]
        topic = "avro"
        format = "avro"
        schema = "hit.avsc"
        fields = {{ app = {{ value = "c" }}, user_id = "uid", timestamp = "ts" }}
        [[source]]
        topic = "other"
        [source.fields]
        app = {{ value = "b" }}
        event = "what"
        user_id = "ctx.uid"
        timestamp = {{ field = "ts", unit = "s" }}
        message_id = {{ header = "id" }}
        [clickhouse]
        url = "{}"
        [http]
        listen = ""
        "#,
        kafka.secure_brokers(),
        ca.display(),
        engine.url()
    );
    let config = directory.path().join("c.toml");
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new(program());
    command
        .args(["run", "--config"])
        .arg(&config)
        .arg("--data")
        .arg(directory.path().join("data"));
    let process = Process::start(command.env("CAMBIUM_LOG", "warn"));
    let started = Instant::now();
    while number(&client, "SELECT sum(offset) FROM progress")
        .await
        .unwrap_or(0)
        < 1040
    {
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "not all is read after a minute"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    process.end();
    let counts = client
        .fetch(
            "SELECT app, event, sum(events) FROM event_counts GROUP BY app, event ORDER BY app, event",
            "TSV",
        )
        .await
        .unwrap();
    let expected: String = [("a", 200), ("b", 1)]
        .into_iter()
        .flat_map(|(app, count)| {
            ["gzip", "lz4", "none", "snappy", "zstd"].map(|one| format!("{app}\t{one}\t{count}\n"))
        })
        .collect();
    assert_eq!(String::from_utf8(counts).unwrap(), expected + "c\thit\t30\n");
    assert_eq!(
        number(&client, "SELECT sum(duplicate) FROM records")
            .await
            .unwrap(),
        5
    );
}
