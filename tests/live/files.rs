//! `replay`: files as a log, counted once; definitions that change; Avro containers.

use std::path::Path;

use apache_avro::types::Value;
use apache_avro::{Codec, Schema, Writer};
use cambium_event::EVENT_SCHEMA;
use tempfile::TempDir;

use cambium_clickhouse::embedded::Child as Engine;

use super::{cambium, engine};

const HOUR: i64 = 3_600_000;
const START: i64 = 1_700_000_000_000;

/// A directory with a configuration, files and what is counted of them.
pub struct Place(TempDir);

impl Place {
    pub fn new(configuration: &str) -> Place {
        let place = Place(tempfile::tempdir().unwrap());
        place.write("c.toml", configuration.as_bytes());
        place
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn write(&self, name: &str, content: &[u8]) {
        std::fs::write(self.path().join(name), content).unwrap();
    }

    /// The engine of the directory: while it runs, queries ask it, and need not start one each.
    pub fn engine(&self) -> Engine {
        engine(&self.path().join("cambium-data/clickhouse"))
    }

    /// What a replay says: the account, and the notes beside it.
    pub fn replay(&self, files: &[&str]) -> (String, String) {
        let output = cambium(self.path(), &[&["replay", "--config", "c.toml"], files].concat());
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        (String::from_utf8(output.stdout).unwrap(), said)
    }

    pub fn query(&self, sql: &str) -> String {
        let output = cambium(self.path(), &["query", "--config", "c.toml", sql]);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }
}

fn line(user: &str, event: &str, time: i64) -> String {
    format!(r#"{{"app":"a","event":"{event}","user_id":"{user}","timestamp":{time},"platform":"ios"}}"#)
        + "\n"
}

fn account(read: u32, accepted: u32, rejected: u32) -> String {
    format!("read {read} = accepted {accepted} + duplicate 0 + late 0 + rejected {rejected} + dropped 0\n")
}

#[test]
fn files_are_counted_once_and_users_can_be_found() {
    let place = Place::new("");
    // In order of users, not of time: the last lines lie days before the first.
    let first = line("u1", "e", START + 96 * HOUR) + &line("u2", "e", START) + "no event\n";
    place.write("first.jsonl", first.as_bytes());
    place.write("second.jsonl", line("u3", "e", START + 97 * HOUR).as_bytes());
    assert_eq!(place.replay(&["first.jsonl"]).0, account(3, 2, 1));
    assert_eq!(place.replay(&["second.jsonl"]).0, account(1, 1, 0));
    assert_eq!(place.replay(&["first.jsonl"]).0, account(0, 0, 0));
    assert_eq!(
        place.query("SELECT sum(events), uniqCombined64Merge(users) FROM event_counts"),
        "3\t3\n"
    );
    assert_eq!(
        place.query("SELECT reason, payload, at > now() - INTERVAL 1 HOUR FROM rejected_events"),
        "unreadable\tno event\t1\n"
    );
    let user = cambium(place.path(), &["user", "--config", "c.toml", "u2"]);
    let user = String::from_utf8(user.stdout).unwrap();
    assert_eq!(
        place.query(&format!("SELECT count() FROM sessions WHERE user = {user}")),
        "1\n"
    );
    assert_eq!(
        place.query(
            "SELECT user = sipHash64Keyed((toUInt64(0), toUInt64(0)), 'u2') FROM sessions ORDER BY started_at LIMIT 1"
        ),
        "1\n"
    );
}

/// A definition that is new counts from where it began, and from the beginning when all files are given
/// again; one that changes is shown in its new form alone; the others keep what they have.
#[test]
fn definitions_change_and_are_counted_from_the_beginning_when_all_files_are_given() {
    let place = Place::new("");
    let first: String = (0..6)
        .map(|user| line(&format!("u{user}"), "view", START + user * 60_000))
        .chain((0..3).map(|user| line(&format!("u{user}"), "buy", START + HOUR + user * 60_000)))
        .collect();
    // The session of u0 goes on from one file to the next.
    let second = line("u0", "view", START + HOUR + 10 * 60_000) + &line("u1", "buy", START + 48 * HOUR);
    place.write("first.jsonl", first.as_bytes());
    place.write("second.jsonl", second.as_bytes());
    place.replay(&["first.jsonl"]);
    let funnel = |within: &str| {
        format!("[[funnel]]\nname = \"f\"\nsteps = [\"view\", \"buy\"]\nwithin = \"{within}\"\n")
    };
    place.write("c.toml", funnel("2 h").as_bytes());
    let (said, notes) = place.replay(&["second.jsonl"]);
    assert_eq!(said, account(2, 2, 0));
    assert!(
        notes.contains("funnel f of a (from offset 9 on)") && notes.contains("missing: first.jsonl"),
        "{notes}"
    );
    let reached = "SELECT step, sum(users) FROM funnels WHERE grain = 'day' GROUP BY step ORDER BY step";
    assert_eq!(place.query(reached), "1\t1\n2\t0\n");
    let all = "SELECT (SELECT sum(events) FROM event_counts), (SELECT count() FROM sessions), (SELECT sum(read) FROM records)";
    let counted = place.query(all);
    assert_eq!(counted, "11\t10\t11\n");

    let (said, notes) = place.replay(&["second.jsonl", "first.jsonl"]);
    assert_eq!(said, account(11, 11, 0));
    assert!(!notes.contains("missing"), "{notes}");
    assert_eq!(place.query(reached), "1\t6\n2\t3\n");
    assert_eq!(place.query(all), counted);
    assert_eq!(place.query("SELECT count() FROM origins WHERE start > 0"), "0\n");

    // Changed: the new form is shown, and it alone.
    place.write("c.toml", funnel("30 min").as_bytes());
    place.replay(&["first.jsonl", "second.jsonl"]);
    assert_eq!(place.query(reached), "1\t6\n2\t0\n");
    assert_eq!(
        place.query("SELECT countIf(shown), count() FROM definitions WHERE kind = 'funnel'"),
        "1\t2\n"
    );
    // Taken back: what the first form had counted is there.
    place.write("c.toml", funnel("2 h").as_bytes());
    place.write("third.jsonl", line("u9", "view", START + 49 * HOUR).as_bytes());
    place.replay(&["first.jsonl", "second.jsonl", "third.jsonl"]);
    assert_eq!(place.query(reached), "1\t7\n2\t3\n");
    // Gone: not shown.
    place.write("c.toml", b"");
    place.replay(&["third.jsonl"]);
    assert_eq!(place.query(reached), "");
}

#[test]
fn avro_containers_are_read_whatever_their_schema() {
    let place = Place::new("");
    let schema = Schema::parse_str(EVENT_SCHEMA).unwrap();
    let mut own = Writer::with_codec(&schema, Vec::new(), Codec::Snappy);
    for user in 0..5 {
        let text = |text: String| Value::Union(1, Box::new(Value::String(text)));
        let event = Value::Record(vec![
            ("app".into(), Value::String("a".into())),
            ("event".into(), Value::String("view".into())),
            ("user_id".into(), text(format!("u{user}"))),
            (
                "timestamp".into(),
                Value::TimestampMillis(START + 60_000 * (10 - user)),
            ),
            ("platform".into(), text("ios".into())),
        ]);
        own.append(event.resolve(&schema).unwrap()).unwrap();
    }
    place.write("own.avro", &own.into_inner().unwrap());
    let other = r#"{"type":"record","name":"Hit","fields":[{"name":"user_id","type":"long"},{"name":"app","type":"string"},
        {"name":"event","type":"string"},{"name":"timestamp","type":{"type":"long","logicalType":"timestamp-micros"}}]}"#;
    let schema = Schema::parse_str(other).unwrap();
    let mut writer = Writer::new(&schema, Vec::new());
    writer
        .append(Value::Record(vec![
            ("user_id".into(), Value::Long(42)),
            ("app".into(), Value::String("a".into())),
            ("event".into(), Value::String("buy".into())),
            ("timestamp".into(), Value::TimestampMicros(START * 1000 + 999)),
        ]))
        .unwrap();
    place.write("other.avro", &writer.into_inner().unwrap());
    place.write("lines.jsonl", line("u0", "view", START + 1).as_bytes());
    let (said, _) = place.replay(&["own.avro", "other.avro", "lines.jsonl"]);
    assert_eq!(said, account(7, 7, 0));
    assert_eq!(
        place.query("SELECT event, sum(events), uniqCombined64Merge(users) FROM event_counts GROUP BY event ORDER BY event"),
        "buy\t1\t1\nview\t6\t5\n"
    );
    assert_eq!(
        place.query("SELECT toUnixTimestamp64Milli(min(started_at)) FROM sessions"),
        format!("{START}\n")
    );
}

/// Rejected payloads, the events themselves, how long rows are held, and how many values a slice may have.
#[test]
fn what_is_written_beside_the_numbers_is_configured() {
    let place = Place::new(
        "max_values = 2\n[rejected]\npayload = \"redact\"\n[users]\nraw_ids = true\n[events_table]\non = true\n\
         [keep]\nsessions = \"1 day\"\nevents = \"forever\"\nminutes = \"2 h\"\ndays = \"forever\"\n\
         [[unique]]\nname = \"plans\"\nby = [\"plan\"]\n",
    );
    let event = |user: &str, properties: &str| {
        format!(
            r#"{{"app":"a","event":"e","user_id":"{user}","timestamp":{START},"properties":{properties}}}"#
        ) + "\n"
    };
    let bad = r#"{"app":"a","event":"e","user_id":"Bob 7","timestamp":"soon","mail":"b@x.org"}"#;
    let lines = event("u1", r#"{"plan":"a","b":{"c":1.50,"d":[1,2]},"e":null,"f":true}"#)
        + &event("u2", r#"{"plan":"b"}"#)
        + &event("u3", r#"{"plan":"c"}"#)
        + bad
        + "\n";
    place.write("e.jsonl", lines.as_bytes());
    place.replay(&["e.jsonl"]);
    assert_eq!(
        place.query("SELECT reason, detail, payload FROM rejected_events FORMAT TSVRaw"),
        "bad_time\ttimestamp: no time between 1970 and 2100\t\
         {\"app\":\"x\",\"event\":\"x\",\"user_id\":\"xxx 0\",\"timestamp\":\"xxxx\",\"xxxx\":\"x@x.xxx\"}\n"
    );
    assert_eq!(
        place.query(
            "SELECT offset, user_id, user = sipHash64(user_id), properties FROM events ORDER BY offset LIMIT 1 FORMAT TSVRaw"
        ),
        "0\tu1\t1\t{'b.c':'1.5','b.d':'[1,2]','f':'true','plan':'a'}\n"
    );
    assert_eq!(
        place.query(
            "SELECT properties['plan'] AS plan FROM unique_users WHERE metric = 'plans' AND grain = 'day' ORDER BY plan"
        ),
        "(other)\na\nb\n"
    );
    let ttls = "SELECT name FROM system.tables WHERE database = 'cambium' AND create_table_query LIKE '% TTL %' ORDER BY name";
    assert_eq!(
        place.query(ttls),
        "alert_sample_rows\nrejected_rows\nrolling_rows\nsession_rows\nunique_device_rows\nunique_sets\n"
    );
    place.query("OPTIMIZE TABLE session_rows FINAL");
    assert_eq!(place.query("SELECT count() FROM sessions"), "0\n");
    // What is taken back is gone.
    place.write(
        "c.toml",
        b"[keep]\nrejected = \"forever\"\nevents = \"forever\"\n",
    );
    place.replay(&["e.jsonl"]);
    assert_eq!(place.query(ttls), "alert_sample_rows\n");
}

/// What `generate` makes, `replay` counts, and the naive truth says are the same.
#[test]
fn generated_events_are_counted_as_their_truth_says() {
    let place = Place::new(
        "[app.shop]\ntime_zone = \"Asia/Tokyo\"\n[[funnel]]\nname = \"purchase\"\nsteps = [\"view\", \"cart\", \"checkout\", \"buy\"]\nwithin = \"1 day\"\n",
    );
    let options = [
        "--output",
        "e.jsonl",
        "--truth",
        "t.json",
        "--time-zone",
        "Asia/Tokyo",
        "--rate",
        "0.1",
    ];
    let output = cambium(
        place.path(),
        &[&["generate", "--events", "20000"], options.as_slice()].concat(),
    );
    assert!(output.status.success());
    let truth: serde_json::Value =
        serde_json::from_slice(&std::fs::read(place.path().join("t.json")).unwrap()).unwrap();
    place.replay(&["e.jsonl"]);
    let one = |sql: &str| place.query(sql).trim().to_owned();
    let account = &truth["account"];
    for name in ["read", "accepted", "duplicate", "late", "rejected"] {
        assert_eq!(
            one(&format!("SELECT sum({name}) FROM records")),
            account[name].to_string(),
            "{name}"
        );
    }
    assert_eq!(one("SELECT count() FROM sessions"), truth["sessions"].to_string());
    assert_eq!(
        one("SELECT countIf(bounced) FROM sessions"),
        truth["sessions_of_one_event"].to_string()
    );
    let days = one(
        "SELECT concat(app, ' ', toString(day)), users FROM active_users WHERE grain = 'day' ORDER BY day",
    );
    let expected: Vec<String> = truth["daily_users"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(day, users)| format!("{day}\t{users}"))
        .collect();
    assert!(expected.len() > 2);
    assert_eq!(days, expected.join("\n"));
    let reached = one(
        "SELECT arraySort(groupArray((step, n))).2 FROM (SELECT step, uniqCombined64Merge(users) AS n FROM funnel_users WHERE grain = 'day' GROUP BY step)",
    );
    assert_eq!(reached, truth["funnel"]["users"].to_string());
}

/// What a view says of its columns is what its rows are.
#[test]
fn the_columns_of_views_are_what_they_say() {
    let place = Place::new(
        "[keep]\nrejected = \"forever\"\n[[funnel]]\nname = \"f\"\nsteps = [\"e\", \"f\"]\nwithin = \"1 h\"\nby = [\"platform\"]\n\
         [[retention]]\nname = \"r\"\n[[lifecycle]]\nname = \"l\"\n[[stickiness]]\nname = \"k\"\n\
         [[activation]]\nname = \"n\"\nactions = [\"e\"]\nwithin = \"1 h\"\n[[streak]]\nname = \"s\"\nevent = \"e\"\n\
         [[acquisition]]\nname = \"q\"\n[[attribution]]\nname = \"t\"\ngoal = \"f\"\n\
         [[churn]]\nname = \"c\"\nafter = \"1 day\"\n\
         [[points]]\nname = \"p\"\nearn = [{ event = \"e\", points = 2 }]\nexpiry = \"9 days\"\n\
         [[level]]\nname = \"v\"\nof = \"p\"\nlevels = [{ name = \"one\", at = 1 }]\n\
         [[badge]]\nname = \"b\"\nevent = \"e\"\ncount = 1\n[identity]\n",
    );
    let lines = line("u1", "e", START) + &line("u1", "f", START + 1) + "no event\n";
    let both = line("u1", "e", START).replace("\"user_id\"", "\"anonymous_id\":\"d\",\"user_id\"");
    place.write("e.jsonl", (lines + &both).as_bytes());
    place.replay(&["e.jsonl"]);
    let _engine = place.engine();
    for view in [
        "event_counts",
        "unique_users",
        "active_users",
        "rolling_users",
        "rolling_users_now",
        "sessions",
        "funnels",
        "funnel_users",
        "retention",
        "lifecycle",
        "stickiness",
        "active_days",
        "activation",
        "streaks",
        "longest_streaks",
        "new_users",
        "attribution",
        "channel_costs",
        "churn",
        "churn_risk",
        "points",
        "point_balances",
        "levels",
        "level_changes",
        "level_history",
        "user_levels",
        "badges",
        "user_badges",
        "links",
        "progress",
        "records",
        "rejected_events",
        "definitions",
        "origins",
        "gaps",
    ] {
        let described = place.query(&format!("DESCRIBE TABLE {view}"));
        let described: Vec<&str> = described
            .lines()
            .map(|column| column.split('\t').nth(1).unwrap())
            .collect();
        let arguments = ["query", "--config", "c.toml", "--format", "TSVWithNamesAndTypes"];
        let select = format!("SELECT * FROM {view} LIMIT 1");
        let found = cambium(place.path(), &[arguments.as_slice(), &[&select]].concat()).stdout;
        let types = found.split(|byte| *byte == b'\n').nth(1).unwrap().to_owned();
        assert_eq!(String::from_utf8(types).unwrap(), described.join("\t"), "{view}");
    }
    assert_eq!(place.query("SELECT is_open FROM sessions"), "false\n");
}

#[test]
fn a_week_begins_when_each_app_says() {
    let place = Place::new("[time]\nweek_start = \"sunday\"\n[app.b.time]\nweek_start = \"saturday\"\n");
    let lines = line("u1", "e", START) + &line("u1", "e", START).replace(r#""app":"a""#, r#""app":"b""#);
    place.write("e.jsonl", lines.as_bytes());
    place.replay(&["e.jsonl"]);
    // 2023-11-14 was a Tuesday.
    assert_eq!(
        place.query("SELECT app, day FROM active_users WHERE grain = 'week' ORDER BY app"),
        "a\t2023-11-12\nb\t2023-11-11\n"
    );
}
