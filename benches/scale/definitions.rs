//! What an event costs by how many definitions of a kind there are.

use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::Result;
use cambium::Processors;
use cambium_benches::packed::{Packed, count};
use cambium_benches::partition_of;
use cambium_benches::traffic::{EVENTS_PER_SECOND, Encoding, Settings, Traffic};
use cambium_engine::List;

const COUNTS: [usize; 8] = [0, 1, 2, 4, 8, 16, 32, 64];
const EVENTS: u64 = 300_000;
const ROUNDS: usize = 2;

/// What stands in definitions of a kind; one takes the next in turn.
const BODIES: [(&str, &[&str]); 2] = [
    (
        "funnel",
        &[
            "steps = ['view', 'cart', 'checkout', 'buy']\nwithin = '1 day'\nby = ['platform']",
            "steps = ['search', 'view', 'cart']\nwithin = '1 h'",
            "steps = ['open', 'view', 'buy']\nwithin = '1 day'",
            "steps = ['view', 'like']\nwithin = 'session'",
        ],
    ),
    (
        "unique",
        &[
            "event = 'buy'\nby = ['platform']",
            "event = ['view', 'search']",
            "by = ['country', 'app_version']",
            "event = 'cart'\nwhere = 'price > 100'",
        ],
    ),
];

pub fn measure(encoding: Encoding) -> Result<()> {
    let settings = Settings {
        seed: 13,
        events: EVENTS,
        users: 50_000,
        events_per_second: EVENTS_PER_SECOND,
        end_ms: 1_700_000_000_000,
    };
    let records = Packed::of(Traffic::new(settings), encoding);
    let mut kinds = Vec::new();
    Processors::kinds(&mut kinds);
    for kind in kinds.iter().filter(|kind| !kind.is_single) {
        let Some((_, bodies)) = BODIES.iter().find(|(name, _)| *name == kind.kind) else {
            println!("definitions of kind {}: this benchmark knows none", kind.kind);
            continue;
        };
        println!(
            "ns an event by definitions of kind {}, {}:",
            kind.kind,
            encoding.name()
        );
        let mut before: Option<(usize, f64)> = None;
        for number in COUNTS {
            let each = ns_an_event(&configuration(kind.kind, bodies, number), &records, encoding)?;
            let more = before.map_or(String::new(), |(fewer, less)| {
                format!(", {:>6.1} ns each more", (each - less) / (number - fewer) as f64)
            });
            println!("  {number:>4} {each:>8.0} ns{more}");
            before = Some((number, each));
        }
    }
    Ok(())
}

fn configuration(kind: &str, bodies: &[&str], number: usize) -> String {
    let mut text = String::new();
    for (place, body) in bodies.iter().cycle().take(number).enumerate() {
        // Writing to a string does not fail.
        let _ = writeln!(text, "[[{kind}]]\nname = '{kind} {place}'\n{body}");
    }
    text
}

fn ns_an_event(configuration: &str, records: &Packed, encoding: Encoding) -> Result<f64> {
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        let mut partition = partition_of(configuration, encoding.format())?;
        let begun = Instant::now();
        count(&mut partition, records)?;
        best = best.min(begun.elapsed());
    }
    Ok(best.as_nanos() as f64 / records.len() as f64)
}
