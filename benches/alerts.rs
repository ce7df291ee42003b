//! How soon rules find drops, and how often they cry wolf: rules of three lines with all defaults, as the process
//! that runs them watches, over 28 simulated days with looks every two seconds, beside the naive rule "20 % below the
//! same minute yesterday". `tuned`, `judged`, `bursting` and `office` show the families that were looked at while the
//! defaults were made; the numbers that count are of the fifth.
//!
//!     cargo bench --package cambium-benches --bench alerts [-- SEEDS] [tuned|judged|bursting|office] [RULE]

use std::path::PathBuf;

use cambium::config::Config;
use cambium_alerts::{Pauses, Rule, Settings, Tracker, Value, Watch};
use cambium_simulate::series::{DAY, Family, HOLIDAY, Pieces, shape, thinned};

const SEEDS: u64 = 50;
const DAYS: usize = 28;
/// The first week has nothing to compare with.
const WARM: usize = 8 * DAY;
/// When everything breaks, at the busiest and at the quietest hour.
const BROKEN_DAY: usize = 22;
const BROKEN_MINUTES: usize = 120;
const LOSSES: [f64; 3] = [0.2, 0.5, 1.0];
const PIECES: usize = 30;
const PIECE_MS: i64 = 2000;
const BEGIN_MS: i64 = 1_699_833_600_000;

const RULES: &str = r#"
[[funnel]]
name = "purchase"
steps = ["view", "pay"]
within = "1 h"
[[alert]]
name = "count"
event = "pay"
[[alert]]
name = "holidays"
event = "pay"
holidays = ["2023-11-30"]
[[alert]]
name = "season"
event = "pay"
detector = "season"
[[alert]]
name = "robust-z"
event = "pay"
detector = "robust-z"
[[alert]]
name = "leak"
event = "pay"
detector = "cusum"
[[alert]]
name = "silence"
event = "pay"
detector = "silence"
[[alert]]
name = "step"
funnel = "purchase"
"#;

struct Watched {
    rule: Rule,
    settings: Settings,
}

impl Watched {
    fn new(name: &str) -> Watched {
        let config = Config::parse(RULES, PathBuf::new()).expect("the rules are right");
        let rule = config.rule(name).expect("the rule is there").clone();
        let all = config.watching().expect("there are no secrets");
        let settings = cambium_notify::watched(&rule, &all);
        Watched { rule, settings }
    }
}

fn at_ms(minute: usize) -> i64 {
    BEGIN_MS + minute as i64 * 60_000
}

/// A watch at work.
#[derive(Clone)]
struct Line<'w> {
    watched: &'w Watched,
    watch: Watch,
    tracker: Tracker,
    minute: usize,
    filling: f64,
}

impl Line<'_> {
    fn new(watched: &Watched) -> Line<'_> {
        Line {
            watched,
            watch: Watch::new(&watched.settings),
            tracker: Tracker::default(),
            minute: 0,
            filling: 0.0,
        }
    }

    /// Takes a piece of a minute; true where an alert begins to fire.
    fn take(&mut self, minute: usize, piece: usize, count: u64) -> bool {
        let now_ms = at_ms(minute) + (piece as i64 + 1) * PIECE_MS;
        if minute != self.minute {
            let is_on = self.tracker.is_on();
            self.watch
                .complete(at_ms(self.minute), Value::Number(self.filling), is_on);
            self.filling = 0.0;
            self.minute = minute;
        }
        self.filling += count as f64;
        if self.watched.settings.sample_ms > 0 {
            let is_on = self.tracker.is_on();
            self.watch.sample(now_ms, Value::Number(count as f64), is_on);
        }
        let verdict = self.watch.look();
        let changed = self.tracker.step(&self.watched.rule, "", &verdict, now_ms);
        changed.is_some_and(|alert| alert.state.is_on())
    }
}

/// What one seed showed.
#[derive(Default)]
struct Found {
    false_alarms: usize,
    on_holiday: usize,
    /// What was lost, whether at the busiest hour, and seconds until it was found; none: not within two hours.
    delays: Vec<(f64, bool, Option<usize>)>,
}

/// The busiest and the quietest minute of a day.
fn hours(family: Family) -> [(bool, usize); 2] {
    let busy = |minute: &usize| shape(family, BROKEN_DAY * DAY + minute);
    let day = || (0..DAY).step_by(10);
    let busiest = day().max_by(|left, right| busy(left).total_cmp(&busy(right)));
    let quietest = day().min_by(|left, right| busy(left).total_cmp(&busy(right)));
    [(true, busiest.unwrap_or(0)), (false, quietest.unwrap_or(0))]
}

fn judge(watched: &Watched, family: Family, base: f64, seed: u64) -> Found {
    let mut pieces = Pieces::new(family, seed, base);
    let mut line = Line::new(watched);
    let mut found = Found::default();
    let breaks = hours(family).map(|(busy, minute)| (busy, BROKEN_DAY * DAY + minute));
    let past: Vec<(i64, Value)> = (0..WARM)
        .map(|minute| (at_ms(minute), Value::Number(pieces.next(minute, 1, 0.0) as f64)))
        .collect();
    line.watch.prime(&past, at_ms(WARM));
    line.minute = WARM;
    for minute in WARM..DAYS * DAY {
        for (busy, _) in breaks.into_iter().filter(|(_, at)| *at == minute) {
            for lost in LOSSES {
                let delay = break_it(line.clone(), pieces.fork(seed * 31 + 7), minute, lost, seed);
                found.delays.push((lost, busy, delay));
            }
        }
        for piece in 0..PIECES {
            if line.take(minute, piece, pieces.next(minute, PIECES, 0.0)) {
                if minute / DAY == HOLIDAY {
                    found.on_holiday += 1;
                } else {
                    found.false_alarms += 1;
                }
            }
        }
    }
    found
}

/// Seconds from the loss, which begins at any second of the minute, until it is found.
fn break_it(mut line: Line<'_>, mut pieces: Pieces, from: usize, lost: f64, seed: u64) -> Option<usize> {
    let begun = seed as usize * 7 % PIECES;
    // One that is on by chance says nothing.
    line.tracker = Tracker::default();
    for minute in from..from + BROKEN_MINUTES {
        for piece in 0..PIECES {
            let is_broken = minute > from || piece >= begun;
            let lost = if is_broken { lost } else { 0.0 };
            if line.take(minute, piece, pieces.next(minute, PIECES, lost)) && is_broken {
                let pieces = (minute - from) * PIECES + piece + 1 - begun;
                return Some(pieces * PIECE_MS as usize / 1000);
            }
        }
    }
    None
}

/// The same for the naive rule, which looks at complete minutes.
fn judge_naively(family: Family, base: f64, seed: u64) -> Found {
    let mut pieces = Pieces::new(family, seed, base);
    let mut found = Found::default();
    let mut minutes: Vec<u64> = Vec::new();
    let mut last_alarm = None;
    for minute in 0..DAYS * DAY {
        minutes.push(pieces.next(minute, 1, 0.0));
        if minute < WARM || minutes[minute] as f64 >= 0.8 * minutes[minute - DAY] as f64 {
            continue;
        }
        let is_new = last_alarm.is_none_or(|last| minute - last > 10);
        last_alarm = Some(minute);
        if is_new && minute / DAY == HOLIDAY {
            found.on_holiday += 1;
        } else if is_new {
            found.false_alarms += 1;
        }
    }
    for (busy, at) in hours(family).map(|(busy, minute)| (busy, BROKEN_DAY * DAY + minute)) {
        for lost in LOSSES {
            let hit = (at..at + BROKEN_MINUTES)
                .find(|minute| minutes[*minute] as f64 * (1.0 - lost) < 0.8 * minutes[minute - DAY] as f64);
            found
                .delays
                .push((lost, busy, hit.map(|minute| (minute - at + 1) * 60)));
        }
    }
    found
}

/// All seeds, on both cores.
fn all(seeds: u64, one: impl Fn(u64) -> Found + Sync) -> Vec<Found> {
    std::thread::scope(|scope| {
        let halves = [0, 1].map(|half| {
            let one = &one;
            scope.spawn(move || {
                (0..seeds)
                    .filter(|seed| seed % 2 == half)
                    .map(one)
                    .collect::<Vec<_>>()
            })
        });
        let halves = halves.map(|half| half.join().expect("a seed ends"));
        halves.into_iter().flatten().collect()
    })
}

/// The value that such a share of the sorted ones lies below.
fn quantile<T: Copy>(sorted: &[T], share: f64) -> Option<T> {
    let place = (sorted.len() as f64 * share) as usize;
    sorted.get(place.min(sorted.len().saturating_sub(1))).copied()
}

fn seconds(delay: Option<usize>) -> String {
    delay.map_or("-".to_owned(), |seconds| format!("{seconds} s"))
}

fn report(name: &str, base: f64, found: &[Found]) {
    let weeks = found.len() as f64 * (DAYS * DAY - WARM) as f64 / (7 * DAY) as f64;
    let false_alarms: usize = found.iter().map(|one| one.false_alarms).sum();
    let on_holiday: usize = found.iter().map(|one| one.on_holiday).sum();
    for busy in [true, false] {
        for lost in LOSSES {
            if !found
                .iter()
                .any(|one| one.delays.iter().any(|(of, ..)| *of == lost))
            {
                continue;
            }
            let those = found.iter().flat_map(|one| &one.delays);
            let those = those.filter(|(of, at, _)| *of == lost && *at == busy);
            let mut delays: Vec<usize> = those.filter_map(|(.., delay)| *delay).collect();
            delays.sort_unstable();
            println!(
                "| {name} | {base} | −{:.0} % | {} | {:.0} % | {} | {} | {:.3} | {:.2} |",
                lost * 100.0,
                if busy { "busiest" } else { "quietest" },
                100.0 * delays.len() as f64 / found.len() as f64,
                seconds(quantile(&delays, 0.5)),
                seconds(quantile(&delays, 0.95)),
                false_alarms as f64 / weeks,
                on_holiday as f64 / found.len() as f64
            );
        }
    }
}

/// A leak of 3 % a day over the last week: days until it is found, and false alarms before it.
fn leak(family: Family, seeds: u64) {
    let watched = Watched::new("leak");
    let (mut days, mut false_alarms) = (Vec::new(), 0);
    let from = 21 * DAY;
    for seed in 0..seeds {
        let mut pieces = Pieces::new(family, seed, 200.0);
        let mut line = Line::new(&watched);
        for minute in 0..DAYS * DAY {
            let days_of_leak = minute.saturating_sub(from) as f64 / DAY as f64;
            let lost = 1.0 - 0.97f64.powf(days_of_leak);
            let fired = line.take(minute, PIECES - 1, pieces.next(minute, 1, lost));
            if fired && minute < from {
                false_alarms += usize::from(minute / DAY != HOLIDAY);
            } else if fired {
                days.push(days_of_leak);
                break;
            }
        }
    }
    days.sort_unstable_by(f64::total_cmp);
    println!(
        "| leak (cusum) | 200 | −3 % a day | | {:.0} % | {:.1} days | {:.1} days | {:.3} | |",
        100.0 * days.len() as f64 / seeds as f64,
        quantile(&days, 0.5).unwrap_or(f64::NAN),
        quantile(&days, 0.95).unwrap_or(f64::NAN),
        f64::from(false_alarms as u32) / (seeds as f64 * 3.0)
    );
}

/// The share of a funnel's users who go on to the next step, and how long they usually take.
const GO_ON: f64 = 0.4;
const GO_ON_MINUTES: f64 = 2.0;

/// A funnel's step that 40 % take, and then nobody: hours of the past, and samples of two days.
fn step(family: Family, seeds: u64) {
    const LIVE: usize = 26 * DAY;
    let watched = Watched::new("step");
    let (mut delays, mut false_alarms) = (Vec::new(), 0);
    let broken_from = 27 * DAY + hours(family)[0].1;
    for seed in 0..seeds {
        let mut begun = Pieces::new(family, seed, 200.0);
        let mut random = fastrand::Rng::with_seed(seed + 1000);
        let mut going_on = 0;
        let mut watch = Watch::new(&watched.settings);
        let mut tracker = Tracker::default();
        let mut hour = (0.0, 0.0);
        for minute in 0..DAYS * DAY {
            let is_live = minute >= LIVE;
            let parts = if is_live { 6 } else { 1 };
            for part in 0..parts {
                let lost = if minute >= broken_from { 1.0 } else { 0.0 };
                let began = begun.next(minute, parts, 0.0);
                going_on += thinned(&mut random, began, GO_ON);
                let arriving = thinned(&mut random, going_on, 1.0 / (GO_ON_MINUTES * parts as f64));
                going_on -= arriving;
                let (took, began) = (arriving as f64 * (1.0 - lost), began as f64);
                hour = (hour.0 + took, hour.1 + began);
                if !is_live {
                    continue;
                }
                let now_ms = at_ms(minute) + (part as i64 + 1) * 10_000;
                watch.sample(now_ms, Value::Share(took, began), tracker.is_on());
                let changed = tracker.step(&watched.rule, "", &watch.look(), now_ms);
                if changed.is_some_and(|alert| alert.state.is_on()) {
                    if minute < broken_from {
                        false_alarms += 1;
                    } else {
                        delays.push((minute - broken_from) * 60 + (part + 1) * 10);
                    }
                }
            }
            if minute % 60 == 59 {
                let (begin_ms, share) = (at_ms(minute - 59), Value::Share(hour.0, hour.1));
                if is_live {
                    watch.complete(begin_ms, share, tracker.is_on());
                } else {
                    watch.prime(&[(begin_ms, share)], at_ms(LIVE));
                }
                hour = (0.0, 0.0);
            }
        }
    }
    delays.sort_unstable();
    println!(
        "| funnel step | 200 | broken | busiest | {:.0} % | {} | {} | {:.3} | |",
        100.0 * delays.len() as f64 / seeds as f64,
        seconds(quantile(&delays, 0.5)),
        seconds(quantile(&delays, 0.95)),
        f64::from(false_alarms as u32) / (seeds as f64 * 2.0 / 7.0)
    );
}

/// What passes between an event and its number.
const OWN_DELAY_S: f64 = 4.0;

/// Everything stops: silence.
fn silence(family: Family, base: f64, seed: u64) -> Found {
    let mut pieces = Pieces::new(family, seed, base);
    let mut pauses = Pauses::new(&Watched::new("silence").settings.options);
    let mut found = Found::default();
    let breaks = hours(family).map(|(busy, minute)| (busy, BROKEN_DAY * DAY + minute));
    let (mut last_ms, mut is_on) = (0, false);
    for minute in 0..DAYS * DAY {
        let mut filling = 0.0;
        let parts = if minute < WARM { 1 } else { PIECES };
        for part in 0..parts {
            let count = pieces.next(minute, parts, 0.0);
            let now_ms = at_ms(minute) + (part + 1) as i64 * 60_000 / parts as i64;
            filling += count as f64;
            if count > 0 {
                (last_ms, is_on) = (now_ms, false);
                continue;
            }
            let allowed_s = pauses.allowed_s(last_ms).unwrap_or(f64::INFINITY) + OWN_DELAY_S;
            if minute >= WARM && !is_on && (now_ms - last_ms) as f64 > allowed_s * 1000.0 {
                is_on = true;
                found.false_alarms += 1;
            }
        }
        pauses.count(at_ms(minute), 60_000, filling);
        for (busy, _) in breaks.into_iter().filter(|(_, at)| *at == minute) {
            let allowed_s = pauses.allowed_s(last_ms).unwrap_or(f64::INFINITY) + OWN_DELAY_S;
            // It is seen by the next look.
            let delay = ((allowed_s * 1000.0 / PIECE_MS as f64).floor() + 1.0) * PIECE_MS as f64 / 1000.0;
            found
                .delays
                .push((1.0, busy, delay.is_finite().then_some(delay as usize)));
        }
    }
    found
}

/// The parts of a product that is watched by platform.
const SHARES: [f64; 3] = [0.5, 0.3, 0.2];
const BROKEN_SHARE: usize = 1;
/// A slice tells for itself when the whole has not told for so many looks.
const LOOKS_FOR_THE_WHOLE: usize = 5;

/// One platform of three breaks: the whole is watched, and each of them.
fn slices(watched: &Watched, family: Family, base: f64, seed: u64) -> Found {
    let mut found = Found::default();
    let parts = || SHARES.iter().enumerate();
    let mut pieces: Vec<Pieces> = parts()
        .map(|(index, share)| Pieces::new(family, seed * 3 + index as u64, base * share))
        .collect();
    let mut of_one = Watched::new("count");
    of_one.settings.alike = SHARES.len();
    let mut lines = vec![Line::new(watched)];
    lines.extend(SHARES.iter().map(|_| Line::new(&of_one)));
    let mut past = vec![Vec::new(); lines.len()];
    for minute in 0..WARM {
        let counts: Vec<f64> = pieces
            .iter_mut()
            .map(|part| part.next(minute, 1, 0.0) as f64)
            .collect();
        let whole = std::iter::once(counts.iter().sum());
        for (past, count) in past.iter_mut().zip(whole.chain(counts.iter().copied())) {
            past.push((at_ms(minute), Value::Number(count)));
        }
    }
    for (line, past) in lines.iter_mut().zip(&past) {
        line.watch.prime(past, at_ms(WARM));
        line.minute = WARM;
    }
    let take = |lines: &mut [Line<'_>], pieces: &mut [Pieces], minute: usize, piece: usize, lost: f64| {
        let counts: Vec<u64> = pieces
            .iter_mut()
            .enumerate()
            .map(|(index, part)| part.next(minute, PIECES, if index == BROKEN_SHARE { lost } else { 0.0 }))
            .collect();
        let whole = std::iter::once(counts.iter().sum());
        let fired = lines
            .iter_mut()
            .zip(whole.chain(counts.iter().copied()))
            .map(|(line, count)| line.take(minute, piece, count));
        // Every line takes its count, whether another has fired or not.
        fired.collect::<Vec<bool>>()
    };
    for minute in WARM..DAYS * DAY {
        for (busy, _) in hours(family)
            .into_iter()
            .filter(|(_, at)| BROKEN_DAY * DAY + at == minute)
        {
            for lost in LOSSES {
                let (mut lines, mut pieces) = (lines.clone(), pieces.clone());
                for line in &mut lines {
                    line.tracker = Tracker::default();
                }
                let mut delay = None;
                'broken: for later in minute..minute + BROKEN_MINUTES {
                    for piece in 0..PIECES {
                        let fired = take(&mut lines, &mut pieces, later, piece, lost);
                        let pieces = (later - minute) * PIECES + piece + 1;
                        if fired[0] || fired[1..].contains(&true) {
                            let pieces = pieces + if fired[0] { 0 } else { LOOKS_FOR_THE_WHOLE - 1 };
                            delay = Some(pieces * PIECE_MS as usize / 1000);
                            break 'broken;
                        }
                    }
                }
                found.delays.push((lost, busy, delay));
            }
        }
        for piece in 0..PIECES {
            let fired = take(&mut lines, &mut pieces, minute, piece, 0.0);
            let whole_is_on = lines[0].tracker.is_on();
            // Where the whole has told, its parts do not.
            let fired = fired[0] || (!whole_is_on && fired[1..].contains(&true));
            let fired = usize::from(fired);
            if minute / DAY == HOLIDAY {
                found.on_holiday += fired;
            } else {
                found.false_alarms += fired;
            }
        }
    }
    found
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let names = |name: &str| arguments.iter().any(|argument| argument == name);
    let family = if names("tuned") {
        Family::Tuned
    } else if names("judged") {
        Family::Judged
    } else if names("bursting") {
        Family::Bursting
    } else if names("office") {
        Family::Office
    } else {
        Family::Unseen
    };
    let seeds: u64 = arguments
        .iter()
        .find_map(|argument| argument.parse().ok())
        .unwrap_or(SEEDS);
    let rules: [(&str, &[f64]); 9] = [
        ("count", &[20.0, 200.0, 2000.0]),
        ("holidays", &[200.0]),
        ("season", &[200.0]),
        ("robust-z", &[200.0]),
        ("platforms", &[1000.0]),
        ("silence", &[20.0, 200.0, 2000.0]),
        ("naive", &[200.0, 2000.0]),
        ("leak", &[200.0]),
        ("step", &[200.0]),
    ];
    let is_asked = |name: &str| names(name) || !rules.iter().any(|(known, _)| names(known));
    println!("{family:?}, {seeds} seeds; looks every 2 s; an alert is found when it fires");
    println!(
        "| rule | expected a minute | lost | hour | found within 2 h | delay, median | p95 | false alarms a week | on the holiday |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for (name, bases) in rules.into_iter().filter(|(name, _)| is_asked(name)) {
        for base in bases.iter().copied() {
            match name {
                "naive" => report(name, base, &all(seeds, |seed| judge_naively(family, base, seed))),
                "silence" => report(name, base, &all(seeds, |seed| silence(family, base, seed))),
                "leak" => leak(family, seeds),
                "step" => step(family, seeds),
                "platforms" => {
                    let watched = Watched::new("count");
                    report(
                        name,
                        base,
                        &all(seeds, |seed| slices(&watched, family, base, seed)),
                    );
                }
                _ => {
                    let watched = Watched::new(name);
                    report(
                        name,
                        base,
                        &all(seeds, |seed| judge(&watched, family, base, seed)),
                    );
                }
            }
        }
    }
}
