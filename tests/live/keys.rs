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
        lateness_changes: Vec::new(),
        skew_ms: 300_000,
        link_within_ms: None,
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

/// A device becomes its user: what it did before too, up to `link_within`; wherever the ids lie in the records.
#[tokio::test(flavor = "multi_thread")]
async fn devices_become_their_users() {
    const HOUR: i64 = 3_600_000;
    let kafka = LocalKafka::start().unwrap();
    let brokers = kafka.brokers();
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path();
    for topic in ["flat", "nested"] {
        create_topic(&brokers, &BTreeMap::new(), topic, 3).await.unwrap();
    }
    let producer = Producer::new(&brokers, &BTreeMap::new()).unwrap();
    // Device, user, hour.
    let events = [
        ("d1", "", 0),
        ("d3", "", 0),
        ("d1", "", 1),
        ("d2", "", 1),
        ("d1", "u1", 2),
        ("d1", "", 3),
        ("", "u1", 3),
        ("d4", "u1", 4),
        ("d4", "", 5),
        // Who comes after.
        ("d1", "u2", 50),
        ("d1", "", 51),
        // Longer after than a link reaches back.
        ("d3", "u3", 3 * 24 + 1),
    ];
    for (place, (device, user, hour)) in events.iter().enumerate() {
        let time = START + hour * HOUR;
        let ids = |names: [&str; 2]| {
            let ids = names.iter().zip([device, user]).filter(|(_, id)| !id.is_empty());
            let ids: Vec<String> = ids.map(|(name, id)| format!("\"{name}\":\"{id}\"")).collect();
            ids.join(",")
        };
        let head = format!("\"message_id\":\"m{place}\",\"event\":\"view\",\"timestamp\":{time}");
        let flat = format!("{{\"app\":\"flat\",{head},{}}}", ids(["anonymous_id", "user_id"]));
        let nested = format!(
            "{{\"app\":\"nested\",{head},\"ctx\":{{{}}}}}",
            ids(["device", "user"])
        );
        // On partitions that have nothing to do with the user.
        let key = format!("k{place}");
        for (topic, line) in [("flat", flat), ("nested", nested)] {
            let sent = producer.send_raw(topic, Some(key.as_bytes()), line.as_bytes(), Some(time));
            sent.unwrap();
        }
    }
    producer.flush(std::time::Duration::from_secs(30)).unwrap();
    let written = format!(
        "[kafka]\nbrokers = \"{brokers}\"\n[identity]\nlink_within = \"3 days\"\n[[source]]\ntopic = \"flat\"\n[[source]]\ntopic = \"nested\"\n\
         [source.fields]\nanonymous_id = \"ctx.device\"\nuser_id = \"ctx.user\"\n"
    );
    std::fs::write(place.join("c.toml"), written).unwrap();
    for (from, to, hint) in [
        ("flat", "of_users", ""),
        (
            "nested",
            "of_users_too",
            "10 got their user's id as a header: set user_id = { header = \"user_id\" } in [source.fields] of of_users_too",
        ),
    ] {
        let arguments = ["rekey", "--config", "c.toml", "--from", from, "--to", to];
        let (code, text) = said(place, &arguments);
        assert_eq!(code, 0, "{text}");
        for wanted in [
            "copied 12 records",
            "5 went to the user whom their device belongs to",
            "1 stayed with their device",
            hint,
        ] {
            assert!(text.contains(wanted), "'{wanted}' is not in\n{text}");
        }
    }
    let engine = super::engine(&place.join("engine"));
    let client = super::client(engine.url());
    let counted = format!(
        "[kafka]\nbrokers = \"{brokers}\"\n[http]\nlisten = \"127.0.0.1:{}\"\n[clickhouse]\nurl = \"{}\"\n\
         [[source]]\ntopic = \"of_users\"\n[[source]]\ntopic = \"of_users_too\"\n\
         [source.fields]\nanonymous_id = \"ctx.device\"\nuser_id = {{ header = \"user_id\" }}\n",
        cambium_kafka::free_port().unwrap(),
        engine.url()
    );
    std::fs::write(place.join("run.toml"), counted).unwrap();
    let mut run = std::process::Command::new(super::program());
    run.args(["run", "--config", "run.toml", "--data", "data"])
        .current_dir(place)
        .env("CAMBIUM_LOG", "warn");
    let running = super::Process::start(&mut run);
    let begun = std::time::Instant::now();
    while super::number(&client, "SELECT sum(read) FROM records")
        .await
        .unwrap_or(0)
        < 24
    {
        if begun.elapsed().as_secs() >= 90 {
            let answer = client.fetch("SELECT * FROM records", "TSV").await.unwrap();
            panic!("not counted in time: {}", String::from_utf8_lossy(&answer));
        }
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    }
    running.end();
    // u1 from d1's first hour on, with what came from d4 and without a device.
    for app in ["flat", "nested"] {
        let sql =
            format!("SELECT sum(events) AS n FROM sessions WHERE app = '{app}' GROUP BY user ORDER BY n");
        let events = client.fetch(&sql, "TSV").await.unwrap();
        // d3 alone, d2 alone, u3, u2 with d1's last, u1.
        assert_eq!(String::from_utf8(events).unwrap(), "1\n1\n1\n2\n7\n", "{app}");
    }
}
