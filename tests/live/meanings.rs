//! What the numbers mean, case by case: each case is an app of its own, and all of them are one replay.

use std::collections::BTreeMap;

use super::cambium;

/// 2024-01-01T00:00:00Z.
const START: i64 = 1_704_067_200_000;
const MINUTE: i64 = 60_000;

/// Events of one user: minute and name, in the order of arrival.
pub type Events<'e> = &'e [(i64, &'e str)];

/// Replays the events of each case as they arrive, and asks for a text for each app.
fn counted(configuration: &str, cases: &[Events], sql: &str) -> BTreeMap<String, String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    std::fs::write(path.join("c.toml"), configuration).unwrap();
    let mut lines = String::new();
    for (number, events) in cases.iter().enumerate() {
        for (minute, event) in *events {
            let time = START + minute * MINUTE;
            lines += &format!(
                "{{\"app\":\"a{number}\",\"event\":\"{event}\",\"user_id\":\"u\",\"timestamp\":{time}}}\n"
            );
        }
    }
    std::fs::write(path.join("e.jsonl"), lines).unwrap();
    let replayed = cambium(path, &["replay", "--config", "c.toml", "--as-is", "e.jsonl"]);
    let said = String::from_utf8_lossy(&replayed.stdout).into_owned();
    assert!(
        said.contains("late 0 + rejected 0"),
        "{said}{}",
        String::from_utf8_lossy(&replayed.stderr)
    );
    let answer = cambium(path, &["query", "--config", "c.toml", sql]);
    assert!(
        answer.status.success(),
        "{}",
        String::from_utf8_lossy(&answer.stderr)
    );
    let rows = String::from_utf8(answer.stdout).unwrap();
    rows.lines()
        .map(|row| row.split_once('\t').unwrap())
        .map(|(app, text)| (app.to_owned(), text.to_owned()))
        .collect()
}

#[track_caller]
pub fn check(configuration: &str, cases: &[(&str, Events, &str)], sql: &str) {
    let events: Vec<Events> = cases.iter().map(|(_, events, _)| *events).collect();
    let counted = counted(configuration, &events, sql);
    for (number, (rules, events, expected)) in cases.iter().enumerate() {
        let found = counted.get(&format!("a{number}")).map_or("", String::as_str);
        assert_eq!(found, *expected, "{rules}: {events:?}");
    }
}

#[test]
fn funnels_count_as_the_interface_says() {
    const ABC: &str = "steps = ['a', 'b', 'c']\nwithin = '1 h'\n";
    const STRICT: &str = "steps = ['a', 'b', 'c']\nwithin = '1 h'\norder = 'strict'\n";
    const ANY: &str = "steps = ['a', 'b', 'c']\nwithin = '1 h'\norder = 'any'\n";
    const EXCLUDE: &str = "steps = ['a', 'b', 'c']\nwithin = '1 h'\nexclude = [{ event = 'x' }]\n";
    const AFTER_2: &str =
        "steps = ['a', 'b', 'c']\nwithin = '1 h'\nexclude = [{ event = 'x', after = 2, before = 3 }]\n";
    const ANY_EXCLUDE: &str =
        "steps = ['a', 'b', 'c']\nwithin = '1 h'\norder = 'any'\nexclude = [{ event = 'x' }]\n";
    const OPTIONAL: &str = "steps = ['a', { event = 'b', optional = true }, 'c']\nwithin = '1 h'\n";
    const FIRST: &str = "steps = [{ event = 'a', first_time = true }, 'b']\nwithin = '1 h'\n";
    let cases: &[(&str, Events, &str)] = &[
        // The window includes its end; others in between do not matter; one event fills one step.
        (ABC, &[(0, "a"), (5, "x"), (10, "b"), (60, "c")], "1 1 1"),
        (ABC, &[(0, "a"), (10, "b"), (61, "c")], "1 1 0"),
        (ABC, &[(0, "a"), (50, "a"), (55, "b"), (70, "c")], "1 1 1"),
        (ABC, &[(0, "b"), (1, "c")], ""),
        ("steps = ['a', '*']\nwithin = '1 h'\n", &[(0, "a")], "1 0"),
        (
            "steps = ['a', 'a', 'a']\nwithin = '1 h'\n",
            &[(0, "a"), (0, "a")],
            "1 1 0",
        ),
        // At one instant the order is the funnel's best.
        (ABC, &[(0, "c"), (0, "b"), (0, "a")], "1 1 1"),
        (ABC, &[(0, "a"), (20, "c"), (10, "b")], "1 1 1"),
        // Strict.
        (
            STRICT,
            &[(-1, "z"), (0, "a"), (1, "b"), (2, "c"), (3, "z")],
            "1 1 1",
        ),
        (STRICT, &[(0, "a"), (1, "b"), (2, "z"), (3, "c")], "1 1 0"),
        (STRICT, &[(0, "a"), (1, "a"), (2, "b"), (3, "c")], "1 1 1"),
        (STRICT, &[(0, "a"), (1, "b"), (2, "b"), (3, "c")], "1 1 0"),
        (
            STRICT,
            &[(0, "a"), (0, "z"), (1, "b"), (2, "z"), (2, "c")],
            "1 1 1",
        ),
        (STRICT, &[(0, "a"), (2, "b"), (3, "c"), (1, "z")], "1 0 0"),
        // The second x of the first instant may have come before the a.
        (
            "steps = ['a', '*', 'c']\nwithin = '1 h'\norder = 'strict'\n",
            &[(0, "a"), (0, "x"), (1, "z"), (2, "c")],
            "1 1 1",
        ),
        (
            "steps = ['a', 'b']\nwithin = '1 h'\norder = 'strict'\nignore = ['z']\n",
            &[(0, "a"), (1, "z"), (2, "b")],
            "1 1",
        ),
        // Any order.
        (ANY, &[(0, "c"), (1, "a"), (2, "b")], "1 1 1"),
        (ANY, &[(0, "c"), (30, "a"), (61, "b")], "1 1 0"),
        (ANY, &[(0, "a"), (1, "a")], "1 0 0"),
        // Exclusions lie strictly between in time, up to the end of the window where the step is not reached.
        (EXCLUDE, &[(0, "a"), (1, "x"), (2, "b"), (3, "c")], ""),
        (
            EXCLUDE,
            &[(0, "x"), (0, "a"), (1, "b"), (2, "c"), (2, "x")],
            "1 1 1",
        ),
        (EXCLUDE, &[(0, "a"), (1, "b"), (60, "x")], ""),
        (EXCLUDE, &[(0, "a"), (1, "b"), (61, "x")], "1 1 0"),
        (AFTER_2, &[(0, "a"), (1, "x"), (2, "b"), (3, "c")], "1 1 1"),
        (AFTER_2, &[(0, "a"), (1, "b"), (2, "x"), (3, "c")], ""),
        // The b of the first instant may have come before the a: then it did no step.
        (
            AFTER_2,
            &[(0, "b"), (0, "a"), (1, "x"), (2, "b"), (3, "c")],
            "1 1 1",
        ),
        (ANY_EXCLUDE, &[(0, "a"), (1, "b"), (2, "x"), (3, "c")], "1 1 0"),
        (ANY_EXCLUDE, &[(0, "a"), (1, "b"), (2, "c"), (3, "x")], "1 1 1"),
        // Optional steps, first times, sessions.
        (OPTIONAL, &[(0, "a"), (2, "c")], "1 0 1"),
        (OPTIONAL, &[(0, "a"), (1, "c"), (1, "b")], "1 1 1"),
        (OPTIONAL, &[(0, "a"), (1, "c"), (2, "b")], "1 0 1"),
        (FIRST, &[(0, "a"), (10, "a"), (65, "b")], "1 0"),
        (FIRST, &[(10, "a"), (65, "b"), (0, "a")], "1 0"),
        (
            "steps = ['a', 'b']\nwithin = 'session'\n",
            &[(0, "a"), (50, "b"), (25, "z")],
            "1 1",
        ),
        (
            "steps = ['a', 'b']\nwithin = 'session'\n",
            &[(0, "a"), (31, "b")],
            "1 0",
        ),
    ];
    let configuration: String = cases
        .iter()
        .enumerate()
        .map(|(number, (rules, _, _))| format!("[[funnel]]\nname = 'f{number}'\napp = 'a{number}'\n{rules}"))
        .collect();
    // Whole tries are of the first day; some begin a minute before it.
    check(
        &configuration,
        cases,
        "SELECT app, arrayStringConcat(arrayMap(one -> toString(one.2), arraySort(groupArray((step, users)))), ' ') \
         FROM funnels WHERE grain = 'day' AND day = '2024-01-01' GROUP BY app",
    );
}

#[test]
fn sessions_are_cut_as_the_interface_says() {
    let cases: &[(&str, Events, &str)] = &[
        ("", &[(0, "e"), (30, "e"), (61, "e")], "0-30:2 61-61:1"),
        (
            "gap_inclusive = false",
            &[(0, "e"), (30, "e"), (59, "e")],
            "0-0:1 30-59:2",
        ),
        (
            "gap = '1 h 30 min'",
            &[(0, "e"), (90, "e"), (181, "e")],
            "0-90:2 181-181:1",
        ),
        ("", &[(0, "e"), (50, "e"), (25, "e")], "0-50:3"),
        (
            "ignore = ['beat']",
            &[(0, "e"), (20, "beat"), (40, "e"), (60, "beat")],
            "0-0:1 40-40:1",
        ),
        (
            "max_length = '1 h'",
            &[(0, "e"), (20, "e"), (40, "e"), (60, "e"), (61, "e"), (80, "e")],
            "0-60:4 61-80:2",
        ),
        (
            "max_length = '1 h'",
            &[(20, "e"), (40, "e"), (60, "e"), (80, "e"), (0, "e")],
            "0-60:4 80-80:1",
        ),
        // Midnight in Shanghai is 16:00 UTC; in New York, on the day that has 23 hours, 04:00 UTC at its end.
        (
            "cut_at_midnight = true",
            &[(950, "e"), (959, "e"), (960, "e")],
            "950-959:2 960-960:1",
        ),
        ("", &[(950, "e"), (959, "e"), (960, "e")], "950-960:3"),
        (
            "cut_at_midnight = true",
            &[(100_979, "e"), (101_039, "e"), (101_040, "e")],
            "100979-101039:2 101040-101040:1",
        ),
    ];
    let configuration: String = cases
        .iter()
        .enumerate()
        .map(|(number, (rules, events, _))| {
            let (zone, gap) = match events[0].0 {
                100_979 => ("America/New_York", "gap = '1 h'\n"),
                _ => ("Asia/Shanghai", ""),
            };
            format!("[app.a{number}]\ntime_zone = '{zone}'\n[app.a{number}.session]\n{gap}{rules}\n")
        })
        .collect();
    let configuration = format!("[time]\nlateness = '100 days'\n{configuration}");
    let sql = format!(
        "SELECT app, arrayStringConcat(arrayMap(one -> one.2, arraySort(groupArray((started_at, concat(\
         toString(intDiv(toUnixTimestamp64Milli(started_at) - {START}, {MINUTE})), '-', \
         toString(intDiv(toUnixTimestamp64Milli(ended_at) - {START}, {MINUTE})), ':', toString(events)))))), ' ') \
         FROM sessions GROUP BY app"
    );
    check(&configuration, cases, &sql);
}
