//! Rules of three lines over simulated days: what breaks is found within a minute, and what does not is left in
//! peace. The table of benches/alerts.rs has many more days and seeds.

use std::path::PathBuf;

use cambium::config::Config;
use cambium_alerts::{Tracker, Value, Watch};
use cambium_simulate::series::{DAY, Family, Pieces};

const PIECES: usize = 30;
const PIECE_MS: i64 = 2000;
const BEGIN_MS: i64 = 1_699_833_600_000;
const PAST_DAYS: usize = 21;
const SEEDS: u64 = 6;

/// Seconds until a loss that begins after six quiet hours is found, and the alarms before it.
fn found(lost: f64, seed: u64) -> (Option<i64>, usize) {
    let text = "[[alert]]\nname = \"payments\"\nevent = \"pay\"\n";
    let config = Config::parse(text, PathBuf::new()).unwrap();
    let rule = config.rule("payments").unwrap();
    let settings = cambium_notify::watched(rule, &config.watching().unwrap());
    let mut watch = Watch::new(&settings);
    let mut tracker = Tracker::default();
    let mut pieces = Pieces::new(Family::Judged, seed, 600.0);
    let at_ms = |minute: usize| BEGIN_MS + minute as i64 * 60_000;
    let now = PAST_DAYS * DAY + 12 * 60;
    let past: Vec<(i64, Value)> = (0..now)
        .map(|minute| (at_ms(minute), Value::Number(pieces.next(minute, 1, 0.0) as f64)))
        .collect();
    watch.prime(&past, at_ms(now));
    let broken = now + 360;
    let mut alarms = 0;
    for minute in now..broken + 30 {
        let mut sum = 0.0;
        for piece in 0..PIECES {
            let now_ms = at_ms(minute) + (piece as i64 + 1) * PIECE_MS;
            let count = pieces.next(minute, PIECES, if minute < broken { 0.0 } else { lost }) as f64;
            sum += count;
            watch.sample(now_ms, Value::Number(count), tracker.is_on());
            let verdict = watch.look();
            let changed = tracker.step(rule, "", &verdict, now_ms);
            if !changed.is_some_and(|alert| alert.state.is_on()) {
                continue;
            }
            if minute >= broken {
                return (Some((now_ms - at_ms(broken)) / 1000), alarms);
            }
            alarms += 1;
        }
        watch.complete(at_ms(minute), Value::Number(sum), tracker.is_on());
    }
    (None, alarms)
}

#[test]
fn drops_are_found_in_seconds_and_without_crying_wolf() {
    let mut alarms = 0;
    for (lost, within_s) in [(0.5, 60), (1.0, 40)] {
        let mut delays = Vec::new();
        for seed in 0..SEEDS {
            let (delay, before) = found(lost, seed);
            alarms += before;
            delays.push(delay.expect("it is found"));
        }
        delays.sort_unstable();
        let middle = delays[delays.len() / 2];
        assert!(middle <= within_s, "{lost} lost is found after {delays:?} s");
    }
    assert_eq!(alarms, 0);
}
