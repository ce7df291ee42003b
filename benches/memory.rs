//! Memory a user, at a million users.

use cambium_benches::packed::{Packed, count};
use cambium_benches::traffic::{EVENTS_PER_SECOND, Encoding, Settings, Traffic};
use cambium_benches::{CONFIGURATION, partition};
use cambium_event::Record;
use peak_alloc::PeakAlloc;

const USERS: u64 = 1_000_000;
const MINUTE_MS: u64 = 60_000;
const START_MS: u64 = 1_700_000_000_000;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// What is allocated, in bytes.
fn allocated() -> u64 {
    ALLOCATOR.current_usage() as u64
}

/// What each event of a user takes beyond the first few, while it lies within the lateness: its message id, and what
/// funnels may still need of it.
fn further_events() {
    const EVENTS: u64 = 500_000;
    let mut partition = partition(CONFIGURATION).expect("the configuration is right");
    let mut allocated_after = |seed| {
        let settings = Settings {
            seed,
            events: EVENTS,
            users: 10_000,
            events_per_second: EVENTS_PER_SECOND,
            end_ms: (START_MS + seed * 10 * MINUTE_MS) as i64,
        };
        let records = Packed::of(Traffic::new(settings), Encoding::Json);
        count(&mut partition, &records).expect("the state is whole");
        drop(records);
        allocated()
    };
    let (few, many) = (allocated_after(1), allocated_after(2));
    println!(
        "each further event within the lateness: {} bytes",
        many.saturating_sub(few) / EVENTS
    );
}

fn main() {
    further_events();
    let before = allocated();
    let mut partition = partition(CONFIGURATION).expect("the configuration is right");
    let mut offset = 0;
    let mut send = |partition: &mut cambium_engine::Partition<cambium::Processors>,
                    user: u64,
                    event: &str,
                    time: u64| {
        let line = format!(
            r#"{{"message_id":"m{offset}","app":"shop","event":"{event}","user_id":"user-{user}","timestamp":{time},"platform":"ios","channel":"ads"}}"#
        );
        let record = Record {
            offset,
            payload: Some(line.as_bytes()),
            ..Record::default()
        };
        partition.apply(&record).expect("the state is whole");
        offset += 1;
    };
    // Everybody comes within a day, for three events each.
    for (round, event) in ["open", "view", "cart"].into_iter().enumerate() {
        for user in 0..USERS {
            let time = START_MS + user * 1440 * MINUTE_MS / USERS + round as u64 * 10_000;
            send(&mut partition, user, event, time.max(START_MS));
        }
        drop(partition.flush().expect("the state is whole"));
    }
    let hot = allocated() - before;
    println!(
        "{} users a day within the lateness: {} bytes a user",
        partition.users(),
        hot / USERS
    );
    drop(partition.capture().expect("the state is whole"));
    // Two days later all others are cold: kept as the bytes of their snapshot form.
    send(&mut partition, 0, "view", START_MS + 3 * 1440 * MINUTE_MS);
    drop(partition.flush().expect("the state is whole"));
    for hour in 0..3 {
        send(
            &mut partition,
            0,
            "view",
            START_MS + (3 * 1440 + 60 * (hour + 1)) * MINUTE_MS,
        );
        drop(partition.flush().expect("the state is whole"));
        drop(partition.capture().expect("the state is whole"));
    }
    println!(
        "{} users quiet for longer than the lateness: {} bytes a user",
        partition.users(),
        (allocated().saturating_sub(before)) / USERS
    );
}
