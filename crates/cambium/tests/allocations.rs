//! In the steady state hardly anything is allocated: users are known, and as much is forgotten as comes. A program of its
//! own, because it counts what is allocated.

use cambium::Processors;
use cambium::config::Config;
use cambium_engine::{HashKey, Partition, Topic};
use cambium_event::{Record, TOGETHER};

/// Every processor with what it counts by default, and a funnel.
const CONFIGURATION: &str = r#"
[time]
lateness = "1 min"

[[funnel]]
name = "purchase"
steps = ["view", "cart", "buy"]
within = "10 min"
"#;
const USERS: usize = 500;
const START_MS: usize = 1_700_000_000_000;

/// An event each ten milliseconds, of all users in turn.
fn events(numbers: std::ops::Range<usize>) -> Vec<String> {
    let event = |number: usize| {
        let (name, user) = (
            ["open", "view", "cart", "buy"][number / USERS % 4],
            number % USERS,
        );
        let time = START_MS + number * 10;
        format!(
            r#"{{"message_id":"m{number}","app":"shop","event":"{name}","user_id":"u{user}","timestamp":{time},"platform":"ios"}}"#
        )
    };
    numbers.map(event).collect()
}

fn apply(partition: &mut Partition<Processors>, events: &[String]) {
    let first = partition.position();
    let records: Vec<Record<'_>> = (first..)
        .zip(events)
        .map(|(offset, event)| Record {
            offset,
            payload: Some(event.as_bytes()),
            ..Record::default()
        })
        .collect();
    for together in records.chunks(TOGETHER) {
        partition.apply_together(together).unwrap();
    }
}

#[test]
fn hardly_anything_is_allocated() {
    let setup = Config::parse(CONFIGURATION, ".".into()).unwrap().setup;
    let topic = Topic {
        name: "events".to_owned(),
        partition: 0,
    };
    let mut partition = Partition::<Processors>::new(topic, 0, 0, setup, HashKey::default()).unwrap();
    // Until what comes first is forgotten.
    for hundred in 0..200 {
        apply(&mut partition, &events(hundred * 100..(hundred + 1) * 100));
        drop(partition.flush_running());
    }
    partition.flush().unwrap();
    let mut allocated = 0;
    for hundred in 200..300 {
        let events = events(hundred * 100..(hundred + 1) * 100);
        allocated += allocation_counter::measure(|| apply(&mut partition, &events)).count_total;
        drop(partition.flush_running());
    }
    let each = allocated as f64 / 10_000.0;
    println!("{each} allocations an event");
    assert!(each < 0.5);
}
