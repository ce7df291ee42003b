//! The rows of rolling windows: users by the slice of time of their newest event, newest slice first.

use std::collections::{BTreeMap, BTreeSet};

use cambium::Processors;
use cambium_engine::{Partition, Setup};
use cambium_event::Record;

use super::case::{MINUTE, begin, setup};
use super::model::{Model, Row, Value, definition, number, text};

const DAY: i64 = 24 * 60 * MINUTE;
/// The beginning of a day in New York: of 2024-03-09, before one of 23 hours.
const START: i64 = 1_709_960_400_000;

/// An app in New York.
const CONFIGURATION: &str = "[app.s]\ntime_zone = \"America/New_York\"\n[time]\nlateness = \"2 h\"\n";

/// Counts events ("user minute", or "user minute platform"; "!": a flush), those in front of the log with `^` before them.
fn apply(partition: &mut Partition<Processors>, model: &mut Model, events: &str) {
    for event in events.split(", ") {
        let Some((user, minute)) = event.split_once(' ') else {
            model.insert(&partition.flush().unwrap());
            continue;
        };
        let (minute, platform) = minute.split_once(' ').unwrap_or((minute, ""));
        let time = START + minute.parse::<i64>().unwrap() * MINUTE;
        let payload = format!(
            r#"{{"app":"s","event":"e","user_id":"{user}","timestamp":{time},"platform":"{platform}"}}"#
        );
        let record = Record {
            offset: partition.position(),
            payload: Some(payload.as_bytes()),
            ..Record::default()
        };
        if user.starts_with('^') {
            partition.apply_in_front(&record).unwrap();
        } else {
            partition.apply(&record).unwrap();
        }
    }
}

fn count(events: &str) -> Model {
    let (mut partition, mut model) = (begin(0, &setup(CONFIGURATION)), Model::new());
    apply(&mut partition, &mut model, events);
    model.insert(&partition.flush().unwrap());
    model
}

fn list(value: &Value) -> Vec<i64> {
    match value {
        Value::List(list) => list.iter().map(|one| *one as i64).collect(),
        other => panic!("{other:?} is no list"),
    }
}

/// The rows of all values together, as "minute of the slice: users".
#[track_caller]
fn check(slices: &str, events: &str, expected: &str) {
    check_value((slices, ""), events, expected);
}

/// The same of one platform.
#[track_caller]
fn check_value((slices, platform): (&str, &str), events: &str, expected: &str) {
    let model = count(events);
    let mut rows = model.rows("rolling_rows");
    let dimension = if platform.is_empty() { "" } else { "platform" };
    let is_meant = |row: &&Row| text(row, "dimension") == dimension && text(row, "value") == platform;
    rows.retain(|row| text(row, "slices") == slices && is_meant(row));
    let told = rows.iter().map(|row| {
        let minute = (number(row, "at") as i64 * 1000 - START) / MINUTE;
        let users: Vec<_> = list(&row["users"]).iter().map(i64::to_string).collect();
        // Nobody stands behind the last.
        format!("{minute}: {}", users.join(" ").trim_end_matches(" 0"))
    });
    assert_eq!(told.collect::<Vec<_>>().join(", "), expected, "{events}");
}

#[test]
fn users_stand_in_the_slice_of_their_newest_event() {
    check("minute", "u 0, v 0, u 1", "0: 2, 1: 1 1");
    check("minute", "u 0, v 2, w 1, u 2", "0: 1, 2: 2 1");
    check("quarter", "u 0, v 14, w 15, u 31", "0: 2, 15: 1 2, 30: 1 1 1");
}

/// Whether anybody flushed before it was over or not.
#[test]
fn a_slice_that_is_over_leaves_its_row_as_it_was() {
    check("minute", "u 0, v 1, !, w 1, u 2", "0: 1, 1: 2 1, 2: 1 2");
    check("quarter", "u 0, v 15, w 29, u 30", "0: 1, 15: 2 1, 30: 1 2");
    check("day", "u 0, v 1440, w 1441, u 2820", "0: 1, 1440: 2 1, 2820: 1 2");
}

#[test]
fn a_window_reaches_back_so_far() {
    let nobody = |slices: usize| vec!["0"; slices].join(" ");
    for (slices, minutes, most) in [("minute", 1, 60), ("quarter", 15, 96)] {
        let (last, over) = (minutes * (most as i64 - 1), minutes * most as i64);
        let expected = format!("0: 1, {last}: 1 {} 1", nobody(most - 2));
        check(slices, &format!("u 0, v {last}"), &expected);
        check(slices, &format!("u 0, v {over}"), &format!("0: 1, {over}: 1"));
    }
    // It came for a slice that no window reaches any more, and nobody stands there.
    check("minute", "u 60, v 0", "60: 1");
    check("minute", "u 60, v 1", &format!("60: 1 {} 1", nobody(58)));
}

/// What is remembered of one platform stays for as long as a window reaches, whatever comes of others.
#[test]
fn who_comes_back_to_a_platform_stands_once_in_a_window_of_days() {
    check_value(("day", "ios"), "u 0 ios, u 2880 web, u 4300 ios", "0: 1, 4260: 1");
}

/// The past has other numbers for platforms: one came in front of the log, which the other partition never read.
#[test]
fn a_past_that_is_taken_over_goes_on_in_the_windows_of_its_platforms() {
    let after = setup(CONFIGURATION);
    let mut before = after.clone();
    before
        .definitions
        .iter_mut()
        .for_each(|spec| spec.generation += 1);
    let all = after.definitions.iter();
    let past = Setup {
        only: Some(all.map(|spec| (spec.kind.clone(), spec.name.clone())).collect()),
        ..after.clone()
    };
    let (front, log, later) = ("^z 0 tv", "u 10 ios, v 11 web", "u 12 web, w 12 tv");
    let (mut main, mut past) = (begin(0, &before), begin(0, &past));
    let (mut model, mut passed_over) = (Model::new(), Model::new());
    apply(&mut past, &mut model, front);
    model.insert(&past.flush_front().unwrap());
    apply(&mut past, &mut model, log);
    apply(&mut main, &mut passed_over, log);
    main.take_over(after.clone(), past).unwrap();
    apply(&mut main, &mut model, later);
    model.insert(&main.flush().unwrap());

    let (mut whole, mut expected) = (begin(0, &after), Model::new());
    apply(
        &mut whole,
        &mut expected,
        &format!("{front}, {log}, !, {later}, !"),
    );
    let ids: BTreeSet<_> = whole
        .definitions_of("s")
        .unwrap()
        .iter()
        .map(|one| one.id)
        .collect();
    let windows = |model: &Model| {
        let rows = model.rows("rolling_rows").into_iter();
        let rows = rows.filter(|row| definition(row).is_some_and(|id| ids.contains(&id)));
        let told = rows.map(|row| {
            let (slices, value) = (text(row, "slices"), text(row, "value"));
            let place = (slices.to_owned(), value.to_owned(), number(row, "at"));
            (place, list(&row["users"]))
        });
        told.collect::<BTreeMap<_, _>>()
    };
    let found = windows(&model);
    assert!(found.len() > 10, "{found:?}");
    assert_eq!(found, windows(&expected));
}

/// A view cannot tell them, and so they stand in the row: the day after this one has 23 hours.
#[test]
fn a_row_of_days_says_when_those_behind_it_begin() {
    let model = count("u 0");
    for row in model.rows("rolling_rows") {
        let turns = list(&row["turns"]);
        if text(row, "slices") == "day" {
            let hour_lost = |behind: i64| if behind > 1 { 60 * MINUTE } else { 0 };
            let expected = (1..=30).map(|behind| (START + behind * DAY - hour_lost(behind)) / 1000);
            assert_eq!(turns, expected.collect::<Vec<_>>());
        } else {
            assert!(turns.is_empty());
        }
    }
}
