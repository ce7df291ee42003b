//! How long a snapshot stops a partition of a million users, of whom 50 thousand changed: at once, and spread out as
//! `cambium run` does it, with traffic in between.

use std::time::{Duration, Instant};

use cambium::Processors;
use cambium_benches::{CONFIGURATION, partition};
use cambium_engine::{Capture, Partition};
use cambium_event::Record;

const USERS: u64 = 1_000_000;
const CHANGED: u64 = 50_000;
const SNAPSHOTS: u64 = 20;
/// How much a partition's thread takes from Kafka at once.
const BATCH: u64 = 500;
/// As the owner of a partition goes about it.
const CAPTURE_AT_A_TIME: Duration = Duration::from_millis(2);
const USERS_AT_A_TIME: usize = 64;
const MINUTE_MS: u64 = 60_000;
const DAY_MS: u64 = 1440 * MINUTE_MS;
const START_MS: u64 = 1_700_000_000_000;

struct Traffic {
    partition: Partition<Processors>,
    offset: u64,
}

impl Traffic {
    fn send(&mut self, user: u64, time: u64) {
        // 480 counts a minute.
        let (event, platform, channel) = (self.offset % 20, self.offset % 3, self.offset / 20 % 8);
        let line = format!(
            r#"{{"message_id":"m{}","app":"shop","event":"event {event}","user_id":"user-{user}","timestamp":{time},"platform":"platform {platform}","channel":"channel {channel}"}}"#,
            self.offset
        );
        let record = Record {
            offset: self.offset as i64,
            payload: Some(line.as_bytes()),
            ..Record::default()
        };
        self.partition.apply(&record).expect("the state is whole");
        self.offset += 1;
    }

    /// Everybody comes within a day, for three events each.
    fn introduce(&mut self) {
        for user in 0..USERS {
            for second in 0..3 {
                self.send(user, START_MS + user * DAY_MS / USERS + second * 1000);
            }
            if user % 100_000 == 0 {
                self.flush();
            }
        }
    }

    /// One event of each of so many users, far apart from each other, within a minute of the second day.
    fn events(&mut self, minute: u64, users: std::ops::Range<u64>) {
        for user in users {
            let time = START_MS + DAY_MS + minute * MINUTE_MS + user * MINUTE_MS / CHANGED;
            self.send((user * 20 + minute) % USERS, time);
        }
    }

    fn flush(&mut self) {
        drop(self.partition.flush().expect("the state is whole"));
    }
}

/// What was measured of captures that are spread out.
#[derive(Default)]
struct SpreadOut {
    beginnings: Vec<Duration>,
    slices: Vec<Duration>,
    totals: Vec<Duration>,
    /// What events cost that came in between.
    events: u64,
    events_took: Duration,
}

impl Traffic {
    fn capture_at_once(&mut self) -> (Capture, Duration) {
        self.flush();
        let begun = Instant::now();
        let capture = self.partition.capture().expect("the state is whole");
        (capture, begun.elapsed())
    }

    /// Of the users of the events in between, half are among those who wait for their turn.
    fn capture_spread_out(&mut self, minute: u64, measured: &mut SpreadOut) {
        self.flush();
        let begun = Instant::now();
        self.partition.begin_capture().expect("the state is whole");
        let mut total = begun.elapsed();
        measured.beginnings.push(total);
        let (mut capture, mut batch) = (None, 0);
        while capture.is_none() {
            let begun = Instant::now();
            self.events(minute + batch % 2, batch * BATCH..(batch + 1) * BATCH);
            measured.events_took += begun.elapsed();
            measured.events += BATCH;
            batch += 1;
            let begun = Instant::now();
            while capture.is_none() && begun.elapsed() < CAPTURE_AT_A_TIME {
                let more = self.partition.capture_more(USERS_AT_A_TIME);
                capture = more.expect("the state is whole");
            }
            measured.slices.push(begun.elapsed());
            total += begun.elapsed();
        }
        measured.totals.push(total);
    }
}

fn main() {
    let mut traffic = Traffic {
        partition: partition(CONFIGURATION).expect("the configuration is right"),
        offset: 0,
    };
    traffic.introduce();
    let (capture, took) = traffic.capture_at_once();
    println!("a head of {:.1} MB", capture.head.len() as f64 / 1e6);
    println!("at once, {} changed users: {took:.1?}", capture.users.len());
    drop(capture);

    let (mut at_once, mut spread_out) = (Vec::new(), SpreadOut::default());
    for minute in (0..2 * SNAPSHOTS).step_by(2) {
        traffic.events(minute, 0..CHANGED);
        at_once.push(traffic.capture_at_once().1);
        traffic.events(minute + 1, 0..CHANGED);
        traffic.capture_spread_out(minute + 1, &mut spread_out);
        // Who came in between is no part of what is measured next.
        drop(traffic.capture_at_once());
    }
    let begun = Instant::now();
    traffic.events(2 * SNAPSHOTS, 0..CHANGED);
    let event = begun.elapsed() / CHANGED as u32;

    println!("{SNAPSHOTS} snapshots of {CHANGED} changed users each:");
    let pauses = [spread_out.beginnings.as_slice(), &spread_out.slices].concat();
    tell("at once", at_once);
    tell("spread out, its beginning", spread_out.beginnings);
    tell("spread out, each slice", spread_out.slices);
    tell("spread out, every pause", pauses);
    tell("spread out, in all", spread_out.totals);
    let between = spread_out.events_took / spread_out.events as u32;
    println!("an event between the slices: {between:?}, else: {event:?}");
}

fn tell(what: &str, mut pauses: Vec<Duration>) {
    pauses.sort_unstable();
    let quantile =
        |part: f64| pauses[((pauses.len() - 1) as f64 * part).round() as usize].as_secs_f64() * 1e3;
    println!(
        "{what}: {} pauses of {:.1} ms, p99 {:.1} ms, at most {:.1} ms",
        pauses.len(),
        quantile(0.5),
        quantile(0.99),
        quantile(1.0)
    );
}
