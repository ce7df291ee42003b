//! How soon detectors find drops, and how often they cry wolf, over 28 simulated days by the minute: the
//! defaults beside the naive rule "20 % below the same minute yesterday". `--family tuned` shows the family that
//! was tuned on; the numbers that count are of the other.

use cambium_alerts::{Detector, Direction, Kind, Options, Point, Value};
use cambium_simulate::series::{DAY, Family, HOLIDAY, Incident, counts};

const DAYS: usize = 28;
const SEEDS: u64 = 50;
/// Minutes after an incident's begin in which it is found, or not.
const WITHIN: usize = 120;
/// The first week has nothing to compare with.
const WARM: usize = 8 * DAY;

struct Rule {
    name: &'static str,
    options: Options,
}

fn rules() -> Vec<Rule> {
    let rule = |name, kind| Rule {
        name,
        options: Options::new(kind),
    };
    let mut naive = rule("naive", Kind::Change);
    for (key, value) in [("percent", 20.0), ("weeks", 0.0), ("days", 1.0)] {
        naive.options.set(key, value).expect("change has these keys");
    }
    let mut all = vec![
        rule("count", Kind::Count),
        rule("season", Kind::Season),
        rule("robust-z", Kind::RobustZ),
        rule("change", Kind::Change),
        naive,
    ];
    all.iter_mut()
        .for_each(|rule| rule.options.direction = Direction::Drop);
    all
}

/// The minutes on which a rule fires.
fn firing(options: &Options, series: &[u64]) -> Vec<usize> {
    let mut detector = Detector::new(options);
    let fires = |(minute, count): (usize, &u64)| {
        let point = Point {
            at_ms: 1_700_000_000_000 / 60_000 * 60_000 + minute as i64 * 60_000,
            value: Some(Value::Number(*count as f64)),
        };
        detector.judge(point).fires.then_some(minute)
    };
    series.iter().enumerate().filter_map(fires).collect()
}

/// Alarms: firing minutes with half an hour of peace before them.
fn alarms(firing: &[usize]) -> usize {
    let mut last = None;
    let mut count = 0;
    for minute in firing {
        if last.is_none_or(|last| minute - last > 30) {
            count += 1;
        }
        last = Some(*minute);
    }
    count
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let family = if arguments.iter().any(|argument| argument == "tuned") {
        Family::Tuned
    } else {
        Family::Judged
    };
    let seeds: u64 = arguments
        .iter()
        .find_map(|argument| argument.parse().ok())
        .unwrap_or(SEEDS);
    println!("{family:?}, {seeds} seeds");
    println!(
        "| rule | expected a minute | drop | found | delay, median | p95 | false alarms a week | on the holiday |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let asked = |rule: &Rule| arguments.iter().any(|argument| argument == rule.name);
    let any = rules().iter().any(asked);
    for rule in rules().into_iter().filter(|rule| !any || asked(rule)) {
        for base in [2.0, 20.0, 200.0, 2000.0] {
            let (mut false_alarms, mut on_holiday) = (0, 0);
            for seed in 0..seeds {
                let quiet = counts(family, seed, base, DAYS * DAY, None);
                let fired = firing(&rule.options, &quiet);
                let (holiday, others): (Vec<usize>, Vec<usize>) = fired
                    .into_iter()
                    .filter(|minute| *minute >= WARM)
                    .partition(|minute| minute / DAY == HOLIDAY);
                false_alarms += alarms(&others);
                on_holiday += usize::from(!holiday.is_empty());
            }
            let weeks = seeds as f64 * (DAYS * DAY - WARM) as f64 / (7 * DAY) as f64;
            for share in [0.2, 0.5, 1.0] {
                let mut delays = Vec::new();
                for seed in 0..seeds {
                    // Any time of the last week, another for each seed.
                    let minute = 21 * DAY + (seed as usize * 197) % (6 * DAY);
                    let incident = Incident {
                        minute,
                        minutes: WITHIN,
                        share,
                    };
                    let broken = counts(family, 1000 + seed, base, minute + WITHIN, Some(incident));
                    let fired = firing(&rule.options, &broken);
                    delays.extend(
                        fired
                            .into_iter()
                            .find(|fired| *fired >= minute)
                            .map(|fired| fired - minute + 1),
                    );
                }
                delays.sort_unstable();
                let at = |share: f64| {
                    let place = (delays.len() as f64 * share) as usize;
                    delays
                        .get(place.min(delays.len().saturating_sub(1)))
                        .map_or("-".to_owned(), |minutes| format!("{minutes} min"))
                };
                println!(
                    "| {} | {base} | -{:.0} % | {:.0} % | {} | {} | {:.2} | {:.0} % |",
                    rule.name,
                    share * 100.0,
                    100.0 * delays.len() as f64 / seeds as f64,
                    at(0.5),
                    at(0.95),
                    f64::from(false_alarms as u32) / weeks,
                    100.0 * on_holiday as f64 / seeds as f64
                );
            }
        }
    }
}
