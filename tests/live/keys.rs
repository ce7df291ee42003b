//! `check` finds users on several partitions, and says why; `rekey` mends it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use cambium_kafka::{LocalKafka, Producer, create_topic, read_all};
use cambium_simulate::{Rules, Truth};

use super::cambium;

const START: i64 = 1_700_000_000_000;

fn write_configuration(directory: &Path, brokers: &str, group: &str, topics: &[&str]) {
    let mut text = format!("[kafka]\nbrokers = \"{brokers}\"\ngroup = \"{group}\"\n");
    for topic in topics {
        text += &format!("[[source]]\ntopic = \"{topic}\"\n");
    }
    std::fs::write(directory.join("c.toml"), text).unwrap();
}

/// Exit code, and all that was said.
fn said(directory: &Path, arguments: &[&str]) -> (i32, String) {
    let output = cambium(directory, arguments);
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn users_on_several_partitions_are_found_and_mended() {
    let kafka = LocalKafka::start().unwrap();
    let brokers = kafka.brokers();
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path();
    for topic in ["web", "ios"] {
        create_topic(&brokers, &BTreeMap::new(), topic, 4).await.unwrap();
    }
    let producer = Producer::new(&brokers, &BTreeMap::new()).unwrap();
    for number in 0..400 {
        // The web keys by its sessions, and names its messages; the phones key by user, and do not.
        let (user, time) = (format!("u{}", number % 40), START + number * 1000);
        let web = format!(
            r#"{{"message_id":"m{number}","app":"shop","event":"view","user_id":"{user}","timestamp":{time}}}"#
        );
        let session = format!("s{number}");
        producer
            .send_raw("web", Some(session.as_bytes()), web.as_bytes(), Some(time))
            .unwrap();
        let ios = format!(
            r#"{{"app":"shop","event":"buy","user_id":"{user}","timestamp":{time},"properties":{{}} }}"#
        );
        producer.send("ios", ios.as_bytes(), Some(time)).unwrap();
    }
    producer.send_raw("ios", None, b"no event", Some(START)).unwrap();
    producer.flush(std::time::Duration::from_secs(30)).unwrap();

    write_configuration(place, &brokers, "g", &["web", "ios"]);
    let (code, text) = said(place, &["check", "--config", "c.toml"]);
    assert_eq!(code, 1, "{text}");
    for wanted in [
        "FAIL  topic web: 40 users are on several partitions",
        "keyed by something else than the user",
        "ok    topic ios: each user is on one partition",
        "warn  topic ios: 1 are rejected as unreadable",
        "FAIL  app shop comes through the topics ios and web",
        "ok    ClickHouse ",
        "ok    snapshots",
        "error: 2 found that must be mended",
    ] {
        assert!(text.contains(wanted), "'{wanted}' is not in\n{text}");
    }

    let rekey = [
        "rekey",
        "--config",
        "c.toml",
        "--from",
        "web",
        "--from",
        "ios",
        "--to",
        "events",
        "--partitions",
        "3",
    ];
    let (code, text) = said(place, &rekey);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("copied 801 records to events"), "{text}");
    let (_, text) = said(place, &rekey);
    assert!(text.contains("copied 0 records"), "{text}");
    // Another group does not know how far the first came, and sends everything twice.
    write_configuration(place, &brokers, "another", &["web", "ios"]);
    let (_, text) = said(place, &rekey);
    assert!(text.contains("copied 801 records"), "{text}");
    write_configuration(place, &brokers, "g", &["events"]);
    let (code, text) = said(place, &["check", "--config", "c.toml"]);
    assert_eq!(code, 0, "{text}");

    let records = tokio::task::spawn_blocking(move || read_all(&brokers, "events"))
        .await
        .unwrap()
        .unwrap();
    let partitions: BTreeSet<i32> = records.iter().map(|record| record.0).collect();
    assert_eq!(partitions, BTreeSet::from([0, 1, 2]));
    let records = super::records(records);
    let rules = Rules {
        zone: "UTC".to_owned(),
        lateness_ms: 86_400_000,
        skew_ms: 300_000,
        drops: Vec::new(),
    };
    let truth = Truth::new(&records, &rules);
    let sum = |of: fn(&cambium_simulate::Account) -> u64| truth.accounts.values().map(of).sum::<u64>();
    assert_eq!(
        (
            sum(|one| one.read),
            sum(|one| one.accepted),
            sum(|one| one.duplicate),
            sum(|one| one.rejected)
        ),
        (1602, 800, 800, 2)
    );
}
