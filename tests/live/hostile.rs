//! Names, ids and values as nobody would choose them: each is one text, and neither SQL nor memory breaks on it.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use super::files::Place;

const TIME: i64 = 1_700_000_000_000;

/// What each field is filled with in turn.
fn texts() -> Vec<String> {
    let mut texts = [
        "it's",
        "\"quoted\"",
        "back\\slash",
        "\\'; DROP TABLE count_rows; --",
        "' OR 1=1",
        "{x:String}",
        "`tick`",
        "%s%n",
        "a\nb",
        "a\r\nb\tc",
        "nul\0l",
        "\u{1b}[31mred\u{7}",
        "\u{202e}txt",
        "é",
        "e\u{301}",
        "😀",
        "\u{feff}bom",
        "\\N",
        "NULL",
        "(other)",
        " ",
        "[]",
        "{}",
        "a,b",
        "0",
        "-1",
        "true",
        "\u{fffd}",
        "\u{10ffff}",
    ]
    .map(str::to_owned)
    .to_vec();
    texts.extend((0..32).map(|code: u8| format!("c{}", char::from(code))));
    // As long as a record may be, nearly: one is looked at as a name and as a value.
    texts.push("long".repeat(250_000));
    texts
}

const CONFIGURATION: &str = r#"
    [app."it's"]
    time_zone = "Asia/Tokyo"
    [events_table]
    on = true
    [keep]
    events = "forever"
    [counts]
    by = ["platform", "properties.plan"]
    [[unique]]
    name = "who's \"in\""
    by = ["campaign", "properties.plan"]
    [[funnel]]
    name = "a\\b'c"
    steps = ["a\nb", "it's"]
    within = "1 day"
    by = ["properties.plan"]
"#;

#[test]
fn any_text_is_one_name() {
    let place = Place::new(CONFIGURATION);
    let mut lines = String::new();
    let mut expected: BTreeMap<(String, String, String), u64> = BTreeMap::new();
    let mut put = |app: &str, event: &str, other: &str, at: i64| {
        let line = json!({
            "app": app, "event": event, "user_id": other, "timestamp": TIME + at, "session_id": other, "platform": other,
            "campaign": other, "message_id": format!("{}{}", lines.len(), other.get(..9).unwrap_or(other)),
            "properties": {"plan": other, (other): other}
        });
        let line = line.to_string();
        if line.len() <= 1 << 20 {
            *expected
                .entry((app.to_owned(), event.to_owned(), other.to_owned()))
                .or_default() += 1;
        }
        lines += &(line + "\n");
    };
    for (number, text) in texts().iter().enumerate() {
        put("it's", text, "x", number as i64);
        if text.len() < 1000 {
            put(text, "view", "y", 0);
            put("values", "view", text, 0);
        }
    }
    // A value alone may be as long as that, too; beside itself in other fields it is too large.
    let long = json!({"app": "values", "event": "view", "user_id": "u", "timestamp": TIME, "platform": "long".repeat(250_000)});
    lines += &(long.to_string() + "\n");
    *expected
        .entry(("values".to_owned(), "view".to_owned(), "long".repeat(250_000)))
        .or_default() += 1;
    place.write("e.jsonl", lines.as_bytes());
    let (said, warned) = place.replay(&["e.jsonl"]);
    let sent: u64 = expected.values().sum();
    assert_eq!(
        said.lines().next(),
        Some(
            format!("read {sent} = accepted {sent} + duplicate 0 + late 0 + rejected 0 + dropped 0").as_str()
        ),
        "{warned}"
    );

    let rows = place.query(
        "SELECT app, event, platform, sum(events) AS n FROM event_counts GROUP BY ALL FORMAT JSONEachRow",
    );
    let counted: BTreeMap<(String, String, String), u64> = rows
        .lines()
        .map(|row| serde_json::from_str::<Json>(row).unwrap())
        .map(|row| {
            let text = |name: &str| row[name].as_str().unwrap().to_owned();
            (
                (text("app"), text("event"), text("platform")),
                row["n"].as_u64().unwrap(),
            )
        })
        .collect();
    assert!(
        counted == expected,
        "{} names are counted, {} were sent",
        counted.len(),
        expected.len()
    );

    let asked = [
        // The day in Tokyo; 'x' did the second step before the first, and 'y' none.
        (
            "SELECT day, users FROM active_users WHERE app = 'it\\'s' AND metric = 'active' AND grain = 'day'",
            "2023-11-15\t2\n",
        ),
        (
            "SELECT step, step_name, users FROM funnels WHERE funnel = 'a\\\\b\\'c' AND app = 'it\\'s' AND grain = 'day'",
            "1\ta\\nb\t1\n2\tit\\'s\t0\n",
        ),
        (
            "SELECT uniqExact(properties['plan']) - uniqExact(platform) FROM event_counts WHERE app = 'values' AND length(platform) < 1000",
            "0\n",
        ),
        (
            "SELECT count(DISTINCT user) FROM sessions WHERE app = 'values'",
            "62\n",
        ),
        (
            "SELECT count() FROM unique_users WHERE metric = 'who\\'s \"in\"' AND app = 'it\\'s' AND grain = 'day'",
            "2\n",
        ),
        (
            "SELECT count() FROM events WHERE properties[platform] = platform AND app = 'values'",
            "61\n",
        ),
    ];
    for (query, expected) in asked {
        assert_eq!(place.query(query), expected, "{query}");
    }
}

/// Ten thousand are kept, of each field and partition; the others are counted as one, and totals are whole.
#[test]
fn too_many_names_are_one() {
    let place = Place::new("max_values = 10000\n[counts]\nby = [\"channel\"]\n");
    let lines: String = (0..10_500)
        .map(|number| {
            format!(
                "{{\"app\":\"a\",\"event\":\"e{number}\",\"user_id\":\"u{number}\",\"timestamp\":{},\"channel\":\"c{number}\"}}\n",
                TIME + number
            )
        })
        .collect();
    place.write("e.jsonl", lines.as_bytes());
    place.replay(&["e.jsonl"]);
    let query = "SELECT sum(events), uniqExact(event), uniqExact(channel), sumIf(events, event = '(other)'), \
                 sumIf(events, channel = '(other)'), uniqCombined64Merge(users) BETWEEN 10395 AND 10605 FROM event_counts";
    assert_eq!(place.query(query), "10500\t10001\t10001\t500\t500\t1\n");
}
