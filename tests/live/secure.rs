//! No one comes in where they do not belong: passwords and certificates, right and wrong, and secrets that nobody tells.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use cambium_kafka::{LocalKafka, Producer, Secure, create_topic};

use super::certificates::Authority;
use super::{Process, number, program};

const KAFKA_PASSWORD: &str = "wonderland-4711";
const CLICKHOUSE_PASSWORD: &str = "looking-glass-0815";
const EVENTS: i64 = 200;

/// How one tries to come in.
struct Entry<'e> {
    brokers: String,
    kafka_ca: &'e Path,
    /// As it stands in the configuration.
    kafka_password: &'e str,
    clickhouse: String,
    clickhouse_ca: &'e Path,
    clickhouse_password: &'e str,
    http: u16,
}

impl Entry<'_> {
    fn configuration(&self) -> String {
        format!(
            r#"
            [kafka]
            brokers = "{}"
            [kafka.settings]
            "security.protocol" = "SASL_SSL"
            "sasl.mechanism" = "SCRAM-SHA-256"
            "sasl.username" = "alice"
            "sasl.password" = {}
            "ssl.ca.location" = "{}"
            "session.timeout.ms" = 6000
            [[source]]
            topic = "events"
            [clickhouse]
            url = "{}"
            {}
            [http]
            listen = "127.0.0.1:{}"
            "#,
            self.brokers,
            self.kafka_password,
            self.kafka_ca.display(),
            self.clickhouse,
            self.clickhouse_password,
            self.http
        )
    }

    /// Runs a command, as talkative as it can be.
    fn start(&self, directory: &Path, arguments: &[&str]) -> Running {
        std::fs::write(directory.join("c.toml"), self.configuration()).unwrap();
        let said = directory.join("said");
        let file = File::create(&said).unwrap();
        let mut command = Command::new(program());
        command
            .args(arguments)
            .args(["--config", "c.toml", "--data", "data"])
            .current_dir(directory)
            .env("CAMBIUM_LOG", "trace")
            .env("KAFKA_PASSWORD", KAFKA_PASSWORD)
            .env("SSL_CERT_FILE", self.clickhouse_ca)
            .stdout(file.try_clone().unwrap())
            .stderr(file);
        let process = Process::start(&mut command);
        Running { process, said }
    }
}

struct Running {
    process: Process,
    said: PathBuf,
}

impl Running {
    fn said(&self) -> String {
        read(&self.said)
    }

    /// Everything that was said by one that is asked to end, and does so in order.
    fn asked_to_end(self) -> String {
        let Running { process, said } = self;
        process.end();
        read(&said)
    }

    /// The exit code, and everything that was said.
    fn end(mut self) -> (Option<i32>, String) {
        let started = Instant::now();
        while self.process.0.try_wait().unwrap().is_none() {
            let said = self.said();
            assert!(
                started.elapsed() < Duration::from_secs(60),
                "it does not end: {said}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        (self.process.0.wait().unwrap().code(), self.said())
    }
}

fn read(said: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(said).unwrap()).into_owned()
}

fn holds_no_secret(said: &str) {
    for secret in [KAFKA_PASSWORD, CLICKHOUSE_PASSWORD] {
        assert!(!said.contains(secret), "{secret} is told: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_the_password_comes_in_and_who_has_not_is_told_why() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let (authority, foreign) = (
        Authority::new(path("ca.pem")),
        Authority::new(path("foreign.pem")),
    );
    authority.signs(false).write(&path("broker.pem"));
    let secure = Secure {
        keystore: path("broker.pem"),
        user: "alice".to_owned(),
        password: KAFKA_PASSWORD.to_owned(),
    };
    std::fs::write(path("password"), format!("{CLICKHOUSE_PASSWORD}\n")).unwrap();
    std::fs::write(path("wrong"), "jabberwocky\n").unwrap();
    let kafka = tokio::task::block_in_place(|| LocalKafka::start_with(Some(&secure))).unwrap();
    create_topic(&kafka.brokers(), &BTreeMap::new(), "events", 1)
        .await
        .unwrap();
    let producer = Producer::new(&kafka.brokers(), &BTreeMap::new()).unwrap();
    for user in 0..EVENTS {
        let line = format!(r#"{{"app":"a","event":"view","user_id":"u{user}","timestamp":1700000000000}}"#);
        producer.send("events", line.as_bytes(), None).unwrap();
    }
    producer.flush(Duration::from_secs(30)).unwrap();
    let port = cambium_kafka::free_port().unwrap();
    let mut serve = Command::new(program());
    let listen = format!("127.0.0.1:{port}");
    serve
        .args(["clickhouse", "--listen", &listen, "--data"])
        .arg(path("engine"));
    let _engine = Process::start(serve.arg("--password-file").arg(path("password")));
    let https = authority.signs(false).in_front_of(port).await;
    let expired = authority.signs(true);
    let (old_https, old_kafka) = (expired.in_front_of(port).await, expired.in_front_of(port).await);

    let right = || Entry {
        brokers: kafka.secure_brokers(),
        kafka_ca: &authority.file,
        kafka_password: r#"{ env = "KAFKA_PASSWORD" }"#,
        clickhouse: format!("https://127.0.0.1:{https}"),
        clickhouse_ca: &authority.file,
        clickhouse_password: r#"password_file = "password""#,
        http: cambium_kafka::free_port().unwrap(),
    };
    let client = cambium_clickhouse::Client::new(
        &format!("http://127.0.0.1:{port}"),
        "default",
        Some(CLICKHOUSE_PASSWORD),
        "cambium",
    );

    let entry = right();
    let running = entry.start(directory.path(), &["run"]);
    let started = Instant::now();
    while number(&client, "SELECT sum(offset) FROM progress")
        .await
        .unwrap_or(0)
        < EVENTS
    {
        let said = || running.said();
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "nothing is read: {}",
            said()
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let metrics = super::get(&format!("127.0.0.1:{}", entry.http), "/metrics").unwrap();
    assert!(metrics.contains("cambium_records_total"), "{metrics}");
    holds_no_secret(&metrics);
    let said = running.asked_to_end();
    holds_no_secret(&said);
    let (code, said) = entry.start(directory.path(), &["check"]).end();
    assert!(code == Some(0) && said.contains("200 records"), "{said}");
    holds_no_secret(&said);

    let refused = [
        (
            "a wrong password for Kafka",
            Entry {
                kafka_password: r#"{ file = "wrong" }"#,
                ..right()
            },
            (1, "does not let us in"),
        ),
        (
            "a broker that strangers vouch for",
            Entry {
                kafka_ca: &foreign.file,
                ..right()
            },
            (1, "certificate"),
        ),
        (
            "a broker's certificate that has expired",
            Entry {
                brokers: format!("127.0.0.1:{old_kafka}"),
                ..right()
            },
            (1, "certificate verify failed"),
        ),
        (
            "a wrong password for ClickHouse",
            Entry {
                clickhouse_password: r#"password_file = "wrong""#,
                ..right()
            },
            (1, "Authentication failed"),
        ),
        (
            "a ClickHouse that strangers vouch for",
            Entry {
                clickhouse_ca: &foreign.file,
                ..right()
            },
            (1, "certificate"),
        ),
        (
            "a ClickHouse whose certificate has expired",
            Entry {
                clickhouse: format!("https://127.0.0.1:{old_https}"),
                ..right()
            },
            (1, "certificate"),
        ),
        (
            "a password file that is not there",
            Entry {
                clickhouse_password: r#"password_file = "nowhere""#,
                ..right()
            },
            (2, "[clickhouse] password_file: cannot read"),
        ),
        (
            "a variable that is not set",
            Entry {
                kafka_password: r#"{ env = "NOBODY_SETS_THIS" }"#,
                ..right()
            },
            (2, "the variable NOBODY_SETS_THIS"),
        ),
        (
            "a line that is no TOML, with a password on it",
            Entry {
                kafka_password: r#""wonderland-4711" oops"#,
                ..right()
            },
            (2, "line 8"),
        ),
        (
            "a password in a URL",
            Entry {
                clickhouse: format!("http://default:{CLICKHOUSE_PASSWORD}@127.0.0.1:{port}"),
                ..right()
            },
            (2, "names a user"),
        ),
    ];
    let (_, wrong, _) = &refused[0];
    let (code, said) = wrong.start(directory.path(), &["check"]).end();
    let is_told = said.contains("FAIL  topic events") && said.contains("uthentication");
    assert!(code == Some(1) && is_told, "{said}");
    holds_no_secret(&said);
    for (what, entry, (expected, says)) in refused {
        let (code, said) = entry.start(directory.path(), &["run"]).end();
        let error = said
            .lines()
            .find(|line| line.starts_with("error: "))
            .unwrap_or("");
        assert_eq!(code, Some(expected), "{what}: {error}");
        assert!(error.contains(says), "{what}: {error}");
        holds_no_secret(&said);
    }
}

/// Who listens for other machines asks for a password.
#[test]
fn the_engine_listens_on_this_machine_alone() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("empty"), "\n").unwrap();
    let open = ["clickhouse", "--data", "data", "--listen", "0.0.0.0:0"];
    for arguments in [&open[..], &[&open[..], &["--password-file", "empty"]].concat()] {
        let refused = super::cambium(directory.path(), arguments);
        let said = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{said}");
        assert!(said.contains("give a password"), "{said}");
    }
}
