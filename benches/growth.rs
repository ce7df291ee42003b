//! Memory of a partition while the same users come again and again: what still grows when all of them have come is kept
//! of what they do, and not of who they are.
//!
//!     cargo bench --package cambium-benches --bench growth

use cambium::Processors;
use cambium_benches::traffic::{Encoding, Settings, Traffic, user_id};
use cambium_benches::{SHORT_FUNNEL, SHORT_MEMORY, SHORT_MEMORY_BEHIND_MS, partition};
use cambium_engine::Partition;
use cambium_event::Record;
use clap::Parser;
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

#[derive(Parser)]
struct Cli {
    #[arg(long, value_name = "N", default_value_t = 40_000)]
    users: u32,
    #[arg(long, value_name = "N", default_value_t = 24)]
    minutes: u64,
    /// Events of a user, on average
    #[arg(long, value_name = "N", default_value_t = 8.0)]
    events_a_minute: f64,
    /// As cargo says to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

const FLUSH_EVERY_MS: i64 = 1_000;
const CAPTURE_EVERY_MS: i64 = 10_000;
const TELL_EVERY_MS: i64 = 120_000;
/// 2026-11-01, 12:00.
const BEGIN_MS: i64 = 1_793_534_400_000;

/// Applies the traffic, and tells every two minutes what is allocated a user that has come.
fn tell(what: &str, cli: &Cli, configuration: &str) {
    let before = ALLOCATOR.current_usage();
    let mut partition: Partition<Processors> = partition(configuration).expect("the configuration is right");
    let events_per_second = f64::from(cli.users) * cli.events_a_minute / 60.0;
    let lasts_ms = cli.minutes as i64 * 60_000;
    let traffic = Traffic::new(Settings {
        seed: 1,
        events: (events_per_second * lasts_ms as f64 / 1000.0) as u64,
        users: cli.users,
        events_per_second,
        end_ms: BEGIN_MS + lasts_ms,
    });
    let mut beats = [FLUSH_EVERY_MS, CAPTURE_EVERY_MS, TELL_EVERY_MS].map(|every| (BEGIN_MS + every, every));
    let mut is_due = |beat: usize, now: i64| {
        let (next, every) = &mut beats[beat];
        let is_due = now >= *next;
        if is_due {
            *next += *every;
        }
        is_due
    };
    let (mut payload, mut offset, mut figures) = (Vec::new(), 0, Vec::new());
    for one in traffic.filter(|one| one.arrives_ms - one.time_ms < SHORT_MEMORY_BEHIND_MS) {
        payload.clear();
        Encoding::Json.write(&one, &mut payload);
        let key = user_id(one.user);
        let record = Record {
            offset,
            key: Some(key.as_bytes()),
            payload: Some(&payload),
            ..Record::default()
        };
        partition.apply(&record).expect("the state is whole");
        offset += 1;
        if is_due(0, one.arrives_ms) {
            drop(partition.flush().expect("the state is whole"));
        }
        if is_due(1, one.arrives_ms) {
            drop(partition.capture().expect("the state is whole"));
        }
        if is_due(2, one.arrives_ms) {
            let bytes = ALLOCATOR.current_usage() - before;
            figures.push(format!("{:>5}", bytes / partition.users().max(1)));
        }
    }
    println!("{what:<28} {}", figures.join(" "));
}

fn main() {
    let cli = Cli::parse();
    println!(
        "bytes a user every two minutes, {} users with {} events a minute",
        cli.users, cli.events_a_minute
    );
    tell("the default definitions", &cli, SHORT_MEMORY);
    tell("and a funnel", &cli, &format!("{SHORT_MEMORY}{SHORT_FUNNEL}"));
}
