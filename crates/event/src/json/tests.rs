//! The library is the truth: what is scanned must be read by it too, and mean the same.

use bumpalo::Bump;
use fastrand::Rng;

use super::*;
use crate::{Field, Fields, Plan, Unit};

fn plans() -> Vec<Plan> {
    let fields = |text: &str| serde_json::from_str::<Fields>(text).unwrap();
    let paths = |paths: &[&str]| -> Vec<Vec<String>> {
        let steps = |path: &&str| path.split('.').map(str::to_owned).collect();
        paths.iter().map(steps).collect()
    };
    let some = paths(&[
        "price",
        "a",
        "a.b",
        "a.b.c",
        "key that is longer than sixteen bytes",
    ]);
    let elsewhere = fields(r#"{"user_id":"a.b","anonymous_id":"a.b","timestamp":"a","properties":"."}"#);
    vec![
        Plan::new(&Fields::default(), &[]),
        Plan::new(&Fields::default(), &some),
        Plan::new(&Fields::default(), &[]).with_all_properties(),
        Plan::new(&Fields::default(), &some).with_all_properties(),
        Plan::new(&elsewhere, &some).with_all_properties(),
    ]
}

/// What a value says, whatever its form.
fn said(value: &Value<'_>) -> String {
    match value {
        Value::Number(number) => {
            let times = [Unit::S, Unit::Ms, Unit::Us, Unit::Ns].map(|unit| number.to_ms(unit.digits()));
            format!("{} {} {times:?}", number.decimal(), number.as_f64())
        }
        other => format!("{other:?}"),
    }
}

fn all_said(slots: &Slots<'_>) -> String {
    let properties: Vec<_> = slots.properties.iter().map(said).collect();
    let time = match &slots.time {
        // Of a time the float is not asked for, but what it is in milliseconds.
        Value::Number(number) => format!("{:?}", [0, 3, 6, 9].map(|digits| number.to_ms(digits))),
        other => said(other),
    };
    format!("{:?} {time} {properties:?} {}", slots.names, slots.all_properties)
}

/// Whether a text was scanned; if so, the library must say the same.
#[track_caller]
fn is_scanned(text: &str, plan: &Plan) -> bool {
    let made = Bump::new();
    let [mut scanned, mut by_library] = [(); 2].map(|()| {
        let mut slots = Slots::new(&made);
        slots.expect_properties(plan.properties);
        slots
    });
    if scan::read(text.as_bytes(), &plan.root, &mut scanned).is_none() {
        return false;
    }
    read_by_library(text, &plan.root, &mut by_library).unwrap_or_else(|why| panic!("{text}: {why:?}"));
    assert_eq!(all_said(&scanned), all_said(&by_library), "{text}");
    // What gives up half-way leaves nothing behind.
    read_by_library(text, &plan.root, &mut scanned).unwrap();
    assert_eq!(all_said(&scanned), all_said(&by_library), "{text}");
    true
}

const VALUES: &[&str] = &[
    "1",
    "-1",
    "0",
    "-0",
    "0.1",
    "-0.0",
    "12.50",
    "1e2",
    "1E-2",
    "1e400",
    "1.",
    ".5",
    "+1",
    "01",
    "-",
    "1e",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775809",
    "999999999999999999",
    "123456789012345678901234567890",
    "1511539200123",
    "1511539200123.9",
    "9007199254740993",
    "9007199254740993.0",
    "0.30000000000000004",
    "5e-324",
    "true",
    "tru",
    "false",
    "null",
    "\"\"",
    "\"t\"",
    "\"eight by\"",
    "\"a text of some length, with é and 日本\"",
    "\"a\u{1}b\"",
    "\"a\nb\"",
    "\"\\u00e9\\n\"",
    "\"quite a bit before \\\"\"",
    "\"\\ud800\"",
    "\"\\ud83d\\ude00\"",
    "\"\\x\"",
    "\"\\",
    "\"open",
    "[]",
    "[ ]",
    "[1,{\"a\":2},[\"]\"]]",
    "[1,]",
    "[,1]",
    "{}",
    "{ }",
    "{\"b\":\"c\"}",
    "{\"b\": {\"c\": 1} , \"x\":[]}",
    "{\"b\"}",
    "{\"b\":1,}",
    "{\"\\u0062\":1}",
    "{\"\\ud800\":1}",
    "{b:1}",
    "nonsense",
    "",
];

#[test]
fn each_value_is_scanned_as_the_library_reads_it() {
    let mut scanned = 0;
    for plan in plans() {
        for value in VALUES {
            for text in [
                format!(r#"{{"user_id":{value},"app":"a"}}"#),
                format!(r#"{{"timestamp":{value},"other":[{value}]}}"#),
                format!(
                    r#" {{ "properties" : {{"price": {value} ,"a":{{"b":{value}}}}} }}{}"#,
                    "\n\t\r "
                ),
                format!(r#"{{"properties":{value},"properties":{{"price":1}},"event":"x","event":{value}}}"#),
                format!(
                    r#"{{"a":{{"b":{value}}},"a":{value},"key that is longer than sixteen bytes":{value}}}"#
                ),
                format!(r#"{{"properties":{{"a":{{"b":{{"c":{value}}}}}}},"properties":{{"a":{value}}}}}"#),
                format!(r#"{{"app":1}}{value}"#),
                value.to_string(),
            ] {
                scanned += u32::from(is_scanned(&text, &plan));
            }
        }
    }
    assert!(scanned > 1000, "{scanned}");
}

#[test]
fn what_is_deep_is_left_to_the_library() {
    let plan = &plans()[1];
    for (depth, is_near) in [(5, true), (100, false), (10_000, false)] {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let value = [&open.repeat(depth), "1", &close.repeat(depth)].concat();
            assert_eq!(is_scanned(&format!(r#"{{"other":{value}}}"#), plan), is_near);
            assert_eq!(is_scanned(&format!(r#"{{"app":{value}}}"#), plan), is_near);
        }
    }
}

/// An object of wanted and other keys, repeated ones, and now and then something broken.
fn some_object(random: &mut Rng, depth: usize) -> String {
    const KEYS: &[&str] = &[
        "message_id",
        "app",
        "event",
        "user_id",
        "timestamp",
        "country",
        "properties",
        "properties",
        "price",
        "a",
        "b",
        "c",
        "other",
        "key that is longer than sixteen bytes",
        "key that is longer than sixteen bytez",
        "",
        "é",
    ];
    const SPACES: &[&str] = &["", "", "", "", " ", "\n  ", "\t", "\r"];
    let mut object = String::from("{");
    for member in 0..random.usize(..6) {
        let mut space = || *random.choice(SPACES).unwrap();
        let [before, after, around] = [space(), space(), space()];
        let key = random.choice(KEYS).unwrap();
        let value = match random.u8(..3) {
            0 if depth < 4 => some_object(random, depth + 1),
            _ => random.choice(VALUES).unwrap().to_string(),
        };
        let comma = if member == 0 { "" } else { "," };
        object += &format!("{comma}{before}\"{key}\"{after}:{around}{value}{after}");
    }
    object + "}"
}

fn some_text(random: &mut Rng) -> String {
    let mut text = some_object(random, 0);
    if random.u8(..4) == 0 {
        let at = random.usize(..=text.len());
        let broken: &[char] = &[
            '{', '}', '[', ']', '"', ',', ':', '\\', ' ', '0', 'e', '-', '.', '\u{0}', 'é',
        ];
        if text.is_char_boundary(at) {
            match random.bool() {
                true => text.truncate(at),
                false => text.insert(at, *random.choice(broken).unwrap()),
            }
        }
    }
    text
}

#[test]
fn any_text_is_scanned_as_the_library_reads_it() {
    let plans = plans();
    let mut scanned = 0;
    for seed in 0..200_000 {
        let mut random = Rng::with_seed(seed);
        let text = some_text(&mut random);
        scanned += u32::from(is_scanned(&text, random.choice(&plans).unwrap()));
    }
    assert!(scanned > 20_000, "{scanned}");
}

/// A scan that gives up half-way has filled slots by then.
#[test]
fn the_library_begins_anew() {
    let plan = Plan::new(&Fields::default(), &[vec!["price".to_owned()]]);
    let text =
        r#"{"app":"a","event":"e","properties":{"price":1},"timestamp":5,"\u0061pp":"b","properties":{}}"#;
    let made = Bump::new();
    let mut slots = Slots::new(&made);
    slots.expect_properties(1);
    read(text.as_bytes(), &plan.root, &mut slots).unwrap();
    assert_eq!(slots.names[Field::App as usize], "b");
    assert_eq!(slots.names[Field::Event as usize], "e");
    assert_eq!(slots.properties[0], Value::Missing);
}
