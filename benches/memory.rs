//! Memory a user, in bytes that are asked of the allocator: all that a partition holds, divided by its users.
//!
//!     cargo bench --package cambium-benches --bench memory
//!     cargo bench --package cambium-benches --bench memory -- --users 5000000 --events 3

use cambium::Processors;
use cambium_benches::{CONFIGURATION, partition, with_people};
use cambium_engine::Partition;
use cambium_event::Record;
use clap::Parser;
use peak_alloc::PeakAlloc;

/// So many are awake all at once, if they come at once; of more, some sleep.
const FEW_USERS: u64 = 50_000;
const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
/// The lateness that is configured by default.
const DAY_MS: u64 = 24 * HOUR_MS;
/// A midnight.
const START_MS: u64 = 1_700_006_400_000;
/// Between two events of a visit.
const PAUSE_MS: u64 = 10_000;
/// Events of a visit, at most.
const VISIT: u64 = 5;
/// Events between two flushes.
const FLUSH: u64 = 100_000;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

#[derive(Parser)]
struct Cli {
    #[arg(long, value_name = "N", default_value_t = 500_000)]
    users: u64,
    /// How many events each of them has; may be given several times
    #[arg(long, value_name = "N", default_values_t = [3, 20])]
    events: Vec<u64>,
    /// As cargo says to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

/// A partition, and what was allocated before it was there.
struct Measured {
    partition: Partition<Processors>,
    users: u64,
    before: usize,
    offset: i64,
}

impl Measured {
    fn new(users: u64, configuration: &str) -> Measured {
        Measured {
            users,
            before: ALLOCATOR.current_usage(),
            partition: partition(configuration).expect("the configuration is right"),
            offset: 0,
        }
    }

    /// Every event of the funnel in turn: there is nothing of it that a funnel does not keep.
    fn send(&mut self, user: u64, number: u64, time: u64) {
        let event = ["view", "cart", "checkout", "buy"][number as usize % 4];
        let offset = self.offset;
        let line = format!(
            r#"{{"message_id":"m{offset}","app":"shop","event":"{event}","user_id":"user-{user}","timestamp":{time},"platform":"ios","channel":"ads","country":"DE"}}"#
        );
        let record = Record {
            offset,
            payload: Some(line.as_bytes()),
            ..Record::default()
        };
        self.partition.apply(&record).expect("the state is whole");
        self.offset += 1;
        if (self.offset as u64).is_multiple_of(FLUSH) {
            self.flush();
        }
    }

    fn flush(&mut self) {
        drop(self.partition.flush().expect("the state is whole"));
    }

    fn capture(&mut self) {
        self.flush();
        drop(self.partition.capture().expect("the state is whole"));
    }

    /// Nothing happens but that time goes on, minute by minute.
    fn go_on(&mut self, from: u64, for_ms: u64) {
        for time in (from..from + for_ms).step_by(MINUTE_MS as usize) {
            self.send(0, 0, time);
        }
        self.capture();
    }

    fn tell(&self, who: &str) {
        let bytes = (ALLOCATOR.current_usage() - self.before) as u64;
        println!("{:>5} bytes  {who}", bytes / self.users);
    }
}

/// Everybody is here at once, and was just now.
fn at_once(events: u64, users: u64, configuration: &str) {
    let mut measured = Measured::new(users, configuration);
    for number in 0..events {
        for user in 0..users {
            let time = START_MS + number * PAUSE_MS + user * PAUSE_MS / users;
            measured.send(user, number, time);
        }
    }
    measured.flush();
    measured.tell(&format!(
        "a hot user with {events} events, all {users} touched just now"
    ));
}

/// They come as users of a product do, all over the day, for visits of some events; then they stay away.
fn over_the_day(events: u64, users: u64, configuration: &str) {
    let mut measured = Measured::new(users, configuration);
    let visits = events.div_ceil(VISIT);
    let steps = visits * users;
    for step in 0..steps {
        let begins = START_MS + step * DAY_MS / steps;
        for number in step / users * VISIT..(step / users * VISIT + VISIT).min(events) {
            measured.send(step % users, number, begins + number % VISIT * PAUSE_MS);
        }
        if step.is_multiple_of(steps / 200) {
            measured.capture();
        }
    }
    measured.flush();
    measured.tell(&format!(
        "a hot user with {events} events, spread over the lateness"
    ));
    measured.go_on(START_MS + DAY_MS, DAY_MS + HOUR_MS + 2 * MINUTE_MS);
    measured.tell(&format!(
        "a cold user, who once had {events} events: quiet for longer than the lateness"
    ));
    measured.go_on(START_MS + 2 * DAY_MS + HOUR_MS, 3 * DAY_MS);
    measured.tell("the same, when nothing of theirs can change any more");
}

fn main() {
    let cli = Cli::parse();
    for (what, configuration) in [
        ("the default definitions and a funnel", CONFIGURATION.to_owned()),
        ("every processor", with_people()),
    ] {
        println!("{what}");
        for &events in &cli.events {
            at_once(events, FEW_USERS, &configuration);
            at_once(events, cli.users, &configuration);
            over_the_day(events, cli.users, &configuration);
        }
    }
}
