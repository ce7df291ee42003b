//! Funnels alone, many of them: what few events at few instants make is the naive truth.

use cambium_event::Record;
use cambium_simulate::funnel::{ByStep, Exclude, Funnel, Order, Step};
use cambium_simulate::sessions::Rules as SessionRules;
use cambium_simulate::{Record as Sent, Rules};
use fastrand::Rng;
use std::collections::BTreeMap;

use super::case::{Case, MINUTE, begin, funnel, setup};
use super::check::check;
use super::model::{Model, Value, number};

const CASES: u64 = 2000;
/// Of each case.
const FUNNELS: usize = 8;
/// A metric that every case has.
const RICH: &str = "[[unique]]\nname = \"rich\"\nevent = [\"a\", \"b\", \"x\", \"h\"]\nwhere = \"properties.price >= 2.5\"\nby = [\"plan\"]\n";
const START: i64 = 1_700_006_400_000;

#[test]
fn dense_funnels_are_the_naive_truth() {
    let number = |name: &str| std::env::var(name).ok()?.parse().ok();
    let first = number("FUNNEL_SEED").unwrap_or(0);
    for seed in first..first + number("FUNNEL_CASES").unwrap_or(CASES) {
        let case = dense(&mut Rng::with_seed(seed));
        let checked = std::panic::catch_unwind(|| run(&case, &[]));
        let sent = case
            .records
            .iter()
            .map(|record| String::from_utf8_lossy(&record.payload));
        assert!(
            checked.is_ok(),
            "seed {seed} failed: FUNNEL_SEED={seed} FUNNEL_CASES=1\n{}",
            sent.collect::<Vec<_>>().join("\n")
        );
    }
}

/// One user, few instants, every event fit for something.
fn dense(random: &mut Rng) -> Case {
    let mut configuration = String::new();
    let mut funnels = Vec::new();
    for number in 0..FUNNELS {
        let (text, funnel) = funnel(random);
        configuration += &format!("[[funnel]]\nname = \"f{number}\"\n{text}");
        funnels.push(funnel);
    }
    let instants = random.i64(2..8);
    let events = (0..random.i64(3..9)).map(|_| {
        let minutes = random.i64(0..instants) * 9;
        let name = ["a", "b", "c", "x", "h"][random.usize(..5)];
        (name, minutes, ["ios", "web"][random.usize(..2)])
    });
    case(configuration, funnels, events)
}

/// The events of one user: name, minute, platform.
fn case<'e>(
    configuration: String,
    funnels: Vec<Funnel>,
    events: impl Iterator<Item = (&'e str, i64, &'e str)>,
) -> Case {
    let records = events.enumerate().map(|(place, (name, minutes, platform))| {
        let time = START + minutes * MINUTE;
        Sent {
            partition: 0,
            offset: place as i64,
            timestamp: None,
            payload: format!(
                r#"{{"app":"s","event":"{name}","user_id":"u","timestamp":{time},"platform":"{platform}"}}"#
            )
            .into_bytes(),
        }
    });
    Case {
        records: records.collect(),
        configuration: format!("{RICH}{configuration}"),
        rules: Rules {
            zone: "UTC".to_owned(),
            lateness_ms: 24 * 60 * MINUTE,
            lateness_changes: Vec::new(),
            skew_ms: 5 * MINUTE,
            link_within_ms: None,
            drops: Vec::new(),
        },
        sessions: SessionRules::default(),
        funnels,
        people: None,
        partitions: 1,
        forgotten: None,
        is_upgraded: false,
    }
}

fn run(case: &Case, flushes_after: &[i64]) -> Model {
    let model = count(case, flushes_after);
    check(case, &model, &BTreeMap::new());
    model
}

fn count(case: &Case, flushes_after: &[i64]) -> Model {
    let mut partition = begin(0, &setup(&case.configuration));
    let mut model = Model::new();
    for record in &case.records {
        let applied = partition.apply(&Record {
            offset: record.offset,
            payload: Some(&record.payload),
            ..Record::default()
        });
        applied.unwrap();
        // What is settled is forgotten with it.
        if flushes_after.contains(&record.offset) {
            model.insert(&partition.flush().unwrap());
        }
    }
    model.insert(&partition.flush().unwrap());
    model
}

/// The steps that tries of one funnel reached.
fn reached(model: &Model) -> String {
    let rows = model.rows("funnel_rows").into_iter();
    let reached = rows.fold(0, |bits, row| bits | number(row, "steps"));
    let reached = (0..32).filter(|step| reached >> step & 1 == 1);
    let reached: Vec<String> = reached.map(|step| (step + 1).to_string()).collect();
    reached.join(" ")
}

/// What the tries of each hour reach together, where events share an instant.
#[test]
fn an_instant_is_taken_in_the_funnels_favour() {
    for (steps, more, events, expected) in [
        // The second step is optional: b does the third at minute 9, so that c is left for the second.
        ("* c? * b", "", "a0 c9 b9 b18", "1 2 3 4"),
        ("* c? * b", "", "a0 c9 b9", "1 3 4"),
        // Of c and x at minute 9 either may be the second step; x is, and none lies between.
        // The same of three steps at one instant.
        ("* c? * * b", "", "a0 c9 b9 b9 b18", "1 2 3 4 5"),
        ("b * a? c", "x", "b0 c9 x9 a27 c36", "1 2 4"),
        ("b * a? c", "", "b0 c9 x9 a27 c36", "1 2 3 4"),
        ("b * a? c", "x", "b0 c9 x18 a27 c36", ""),
        // Of two exclusions each voids.
        ("a b", "h x", "a0 x9 b18", ""),
        ("a b", "h x", "a0 c9 b18", "1 2"),
    ] {
        let (text, funnel) = written(steps, more);
        let events = events.split(' ').map(|event| {
            let (name, minute) = event.split_at(1);
            (name, minute.parse().unwrap(), "ios")
        });
        let model = run(&case(text, vec![funnel], events), &[]);
        assert_eq!(reached(&model), expected, "{steps} {more}");
    }
}

/// Events of a step's or an exclusion's name alone do nothing: a price stands behind each event's minute.
#[test]
fn what_does_not_fit_a_filter_is_not_seen() {
    let text = "[[funnel]]\nname = \"f0\"\nwithin = \"1 h\"\nsteps = [\"a where\", \"b where\", \"* where\"]\nexclude = [\"x where\", \"h where\"]\n"
        .replace(" where\"", "\", where = \"price >= 2\" }")
        .replace("[\"", "[{ event = \"")
        .replace(", \"", ", { event = \"");
    for (events, expected) in [
        ("a0:2 b9:2", "1 2"),
        ("a0:1 b9:2", ""),
        ("a0:2 b9:1", "1"),
        ("a0:2 b9:2 c18:1 c27:3", "1 2 3"),
        ("a0:2 b9:2 c18:1", "1 2"),
        ("a0:2 x5:1 h6:1 b9:2", "1 2"),
        ("a0:2 x5:2 b9:2 c18:2", ""),
        ("a0:2 h5:2 b9:2 c18:2", ""),
    ] {
        let events: Vec<_> = events
            .split(' ')
            .map(|event| event.split_once(':').unwrap())
            .collect();
        let names = events.iter().map(|(event, _)| {
            let (name, minute) = event.split_at(1);
            (name, minute.parse().unwrap(), "ios")
        });
        let mut case = case(text.clone(), Vec::new(), names);
        for (record, (_, price)) in case.records.iter_mut().zip(&events) {
            let text = String::from_utf8_lossy(&record.payload);
            let with_price = text.replacen('{', &format!("{{\"properties\":{{\"price\":{price}}},"), 1);
            record.payload = with_price.into_bytes();
        }
        assert_eq!(reached(&count(&case, &[])), expected, "{events:?}");
    }
}

/// Its row has as many empty values as there are in a slice.
#[test]
fn a_try_whose_steps_do_not_agree_is_in_no_slice() {
    let (text, _) = written("a b", "");
    let text = text + "by = [\"platform\", \"channel\", \"country\"]\nby_step = \"every\"\n";
    let events = [("a", 0, "ios"), ("b", 9, "web")];
    let model = count(&case(text, Vec::new(), events.into_iter()), &[]);
    let rows = model.rows("funnel_rows").into_iter();
    let told = rows.map(|row| {
        (
            number(row, "steps"),
            number(row, "sliced"),
            row["platform"].clone(),
        )
    });
    assert_eq!(told.collect::<Vec<_>>(), [(3, 0, Value::Text(String::new()))]);
}

/// The last moment of the time that is given is in time.
#[test]
fn a_try_ends_when_its_time_is_over() {
    for minute in [59, 60, 61] {
        let (text, funnel) = written("a b", "");
        let events = [("a", 0, "ios"), ("b", minute, "ios")];
        run(&case(text, vec![funnel], events.into_iter()), &[]);
    }
}

/// A day's furthest try is one of all of its tries, also where what came late belongs to the day before.
#[test]
fn a_try_that_begins_at_midnight_belongs_to_the_day_that_begins() {
    let (text, funnel) = written("a b", "");
    let events = [
        ("a", 1440, "ios"),
        ("a", 1510, "ios"),
        ("b", 1520, "ios"),
        ("a", 1430, "ios"),
    ];
    // What came in time is left before the last comes.
    run(&case(text, vec![funnel], events.into_iter()), &[2]);
}

/// Where a session is cut depends on where it began: also when that was on the day before, which is settled.
#[test]
fn a_session_that_was_cut_stays_so_over_midnight() {
    let sessions = "max_length = \"1 h\"\n";
    let (text, mut funnel) = written("a b", "");
    let text = text.replace("within = \"1 h\"", "within = \"session\"");
    funnel.within_ms = None;
    // Until 00:15, an hour from 23:20 on; then another session.
    // Somebody else's event settles the first.
    let events = "x1400 x1415 x1430 x1445 a1455 b1470 x1495 x1520 x1610 x1500";
    let events = events.split(' ').map(|event| {
        let (name, minute) = event.split_at(1);
        (name, minute.parse().unwrap(), "ios")
    });
    let mut case = case(
        format!("{text}[session]\n{sessions}[time]\nlateness = \"2 h\"\n"),
        vec![funnel],
        events,
    );
    case.sessions.max_length_ms = Some(60 * MINUTE);
    case.rules.lateness_ms = 120 * MINUTE;
    let elses = String::from_utf8_lossy(&case.records[8].payload).replace("\"u\"", "\"v\"");
    case.records[8].payload = elses.into_bytes();
    let model = run(&case, &[8]);
    let steps = model
        .rows("funnel_rows")
        .into_iter()
        .map(|row| number(row, "steps"));
    assert_eq!(steps.collect::<Vec<_>>(), [1]);
}

/// Sessions that clients name may lie around each other: what comes late into one stands between two steps in the other.
#[test]
fn a_late_event_of_another_session_stands_between_two_steps() {
    let (text, mut funnel) = written("a b", "");
    let text = text.replace("within = \"1 h\"", "within = \"session\"\norder = \"strict\"");
    (funnel.within_ms, funnel.order) = (None, Order::Strict);
    let events = [("a", 0, "ios"), ("b", 2000, "ios"), ("x", 1900, "ios")];
    let mut case = case(
        format!("{text}[session]\nid = \"client\"\n"),
        vec![funnel],
        events.into_iter(),
    );
    case.sessions.client_ids = true;
    for (record, session) in case.records.iter_mut().zip(["s1", "s1", "s2"]) {
        let text = String::from_utf8_lossy(&record.payload);
        let of_session = text.replacen('{', &format!("{{\"session_id\":\"{session}\","), 1);
        record.payload = of_session.into_bytes();
    }
    // What the first two did is left before the third comes.
    let model = run(&case, &[1]);
    let rows = model.rows("funnel_rows").into_iter();
    assert_eq!(rows.map(|row| number(row, "steps")).collect::<Vec<_>>(), [1]);
}

/// A funnel within an hour, of steps ("?": optional) and events that void a try.
fn written(steps: &str, exclude: &str) -> (String, Funnel) {
    let steps = steps.split(' ').map(|step| Step {
        events: vec![step.trim_end_matches('?').to_owned()],
        optional: step.ends_with('?'),
        first_time: false,
    });
    let funnel = Funnel {
        steps: steps.collect(),
        within_ms: Some(60 * MINUTE),
        order: Order::InOrder,
        ignore: Vec::new(),
        exclude: Vec::new(),
        by_platform: false,
        by_step: ByStep::First,
    };
    let steps = funnel.steps.iter().map(|step| {
        let (name, optional) = (&step.events[0], step.optional);
        format!("{{ event = \"{name}\", optional = {optional} }}")
    });
    let steps = steps.collect::<Vec<_>>().join(", ");
    let mut text = format!("[[funnel]]\nname = \"f0\"\nsteps = [{steps}]\nwithin = \"1 h\"\n");
    if exclude.is_empty() {
        return (text, funnel);
    }
    let names = || exclude.split(' ');
    let excludes = names().map(|name| format!("{{ event = \"{name}\" }}"));
    text += &format!("exclude = [{}]\n", excludes.collect::<Vec<_>>().join(", "));
    let exclude = names().map(|name| Exclude {
        event: name.to_owned(),
        after: 1,
        before: funnel.steps.len(),
    });
    (
        text,
        Funnel {
            exclude: exclude.collect(),
            ..funnel
        },
    )
}
