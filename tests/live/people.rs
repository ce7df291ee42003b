//! The people of a product in the views: case by case, and against queries over the events themselves.

use super::cambium;
use super::files::Place;
use super::meanings::{Events, check};

const DAY: i64 = 24 * 60;

#[test]
fn retention_counts_as_the_interface_says() {
    const DAYS: &str = "period = 'day'\nperiods = 3\n";
    const LATER: &str = "period = 'day'\nperiods = 3\nkind = 'on_or_after'\n";
    const BRACKETS: &str = "period = 'day'\nbrackets = [[0, 0], [1, 2], [3, 3]]\n";
    const TWICE: &str = "period = 'day'\nperiods = 1\nreturn = { event = 'a', at_least = 2 }\n";
    const FIRST_A: &str = "period = 'day'\nperiods = 1\nstart = { first = 'a' }\nreturn = 'b'\n";
    const EACH_A: &str = "period = 'day'\nperiods = 2\nstart = { each = 'a' }\n";
    const ROLLING: &str = "period = '24 h'\nperiods = 1\n";
    const WEEKS: &str = "period = 'week'\nperiods = 2\n";
    let cases: &[(&str, Events, &str)] = &[
        // Zeros are there; what is after the last period is not.
        (
            DAYS,
            &[(0, "a"), (DAY, "a"), (3 * DAY, "a"), (4 * DAY, "a")],
            "0.0=1/1 0.1=1/1 0.2=0/1 0.3=1/1",
        ),
        (DAYS, &[(5, "a")], "0.0=1/1 0.1=0/1 0.2=0/1 0.3=0/1"),
        (
            LATER,
            &[(0, "a"), (2 * DAY, "a")],
            "0.0=1/1 0.1=1/1 0.2=1/1 0.3=0/1",
        ),
        (BRACKETS, &[(0, "a"), (2 * DAY, "a")], "0.0=1/1 0.1=1/1 0.3=0/1"),
        // As often as is asked for, in one period.
        (TWICE, &[(0, "a"), (1, "a"), (DAY, "a")], "0.0=1/1 0.1=0/1"),
        // A return in period 0 lies behind the start.
        (FIRST_A, &[(0, "b"), (5, "a")], "0.0=0/1 0.1=0/1"),
        (
            FIRST_A,
            &[(0, "b"), (5, "a"), (6, "b"), (DAY, "b")],
            "0.0=1/1 0.1=1/1",
        ),
        (FIRST_A, &[(0, "b")], ""),
        // At one instant the log's order says what is behind what.
        (FIRST_A, &[(5, "b"), (5, "a")], "0.0=0/1 0.1=0/1"),
        (FIRST_A, &[(5, "a"), (5, "b")], "0.0=1/1 0.1=0/1"),
        // A late event moves the first day, with all that came since.
        (
            DAYS,
            &[(2 * DAY, "a"), (2 * DAY - 600, "a")],
            "1.0=1/1 1.1=1/1 1.2=0/1 1.3=0/1",
        ),
        (FIRST_A, &[(5, "a"), (3, "b"), (2, "a")], "0.0=1/1 0.1=0/1"),
        (
            EACH_A,
            &[(0, "a"), (DAY, "a"), (DAY + 1, "a"), (2 * DAY, "b")],
            "0.0=1/1 0.1=1/1 0.2=1/1 1.0=1/1 1.1=1/1 1.2=0/1",
        ),
        // 24 hours are the user's own.
        (ROLLING, &[(60, "a"), (DAY + 59, "a")], "0.0=1/1 0.1=0/1"),
        (ROLLING, &[(60, "a"), (DAY + 60, "a")], "0.0=1/1 0.1=1/1"),
        (ROLLING, &[(60, "a"), (2 * DAY + 60, "a")], "0.0=1/1 0.1=0/1"),
        // 2024-01-01 is a Monday.
        (
            WEEKS,
            &[(6 * DAY, "a"), (7 * DAY, "a"), (20 * DAY, "a")],
            "0.0=1/1 0.1=1/1 0.2=1/1",
        ),
    ];
    check(
        &definitions("retention", "r", cases),
        cases,
        "SELECT app, arrayStringConcat(arrayMap(one -> one.3, arraySort(groupArray((cohort, period, \
         concat(toString(cohort - toDate('2024-01-01')), '.', toString(period), '=', toString(returned), '/', toString(users)))))), ' ') \
         FROM retention GROUP BY app",
    );
}

#[test]
fn lifecycle_counts_as_the_interface_says() {
    const DAYS: &str = "period = 'day'\n";
    const WEEKS: &str = "period = 'week'\n";
    const OF: &str = "period = 'day'\nof = 'askers'\n";
    let cases: &[(&str, Events, &str)] = &[
        (
            DAYS,
            &[(0, "a"), (DAY, "a"), (4 * DAY, "a")],
            "0 new 1; 1 returning 1; 2 dormant 1; 4 resurrected 1; 5 dormant 1",
        ),
        // A late event fills the gap.
        (
            DAYS,
            &[(0, "a"), (2 * DAY, "a"), (2 * DAY - 720, "a")],
            "0 new 1; 1 returning 1; 2 returning 1; 3 dormant 1",
        ),
        // Another one comes before the first.
        (
            DAYS,
            &[(DAY, "a"), (DAY - 60, "a")],
            "0 new 1; 1 returning 1; 2 dormant 1",
        ),
        (
            WEEKS,
            &[(0, "a"), (6 * DAY, "a"), (7 * DAY, "a"), (22 * DAY, "a")],
            "0 new 1; 7 returning 1; 14 dormant 1; 21 resurrected 1; 28 dormant 1",
        ),
        (
            OF,
            &[(0, "b"), (DAY, "q"), (2 * DAY, "b")],
            "1 new 1; 2 dormant 1",
        ),
    ];
    check(
        &(definitions("lifecycle", "l", cases) + "[[unique]]\nname = 'askers'\nevent = 'q'\n"),
        cases,
        "SELECT app, arrayStringConcat(arrayMap(one -> one.3, arraySort(groupArray((day, state, \
         concat(toString(day - toDate('2024-01-01')), ' ', state, ' ', toString(users)))))), '; ') \
         FROM lifecycle GROUP BY app",
    );
}

#[test]
fn activation_counts_as_the_interface_says() {
    const BOTH: &str = "actions = ['b', 'c']\nwithin = '2 h'\n";
    let cases: &[(&str, Events, &str)] = &[
        // In any order; the end is included; the time runs to the last of them.
        (BOTH, &[(0, "a"), (60, "c"), (120, "b")], "0 1 1 7200"),
        (BOTH, &[(0, "a"), (60, "c"), (121, "b")], "0 1 0 -"),
        (BOTH, &[(0, "b"), (0, "c")], "0 1 1 0"),
        (BOTH, &[(0, "a"), (60, "c")], "0 1 0 -"),
        // Each as it was done first.
        (BOTH, &[(0, "b"), (10, "c"), (60, "c")], "0 1 1 600"),
        // An earlier first event takes the time away.
        (BOTH, &[(60, "a"), (170, "b"), (171, "c"), (50, "a")], "0 1 0 -"),
        (BOTH, &[(DAY, "b"), (DAY + 1, "c"), (DAY - 1, "a")], "0 1 1 120"),
    ];
    check(
        &definitions("activation", "n", cases),
        cases,
        "SELECT app, concat(toString(day - toDate('2024-01-01')), ' ', toString(users), ' ', toString(activated), ' ', \
         if(median_seconds IS NULL, '-', toString(round(median_seconds / 60) * 60))) FROM activation",
    );
}

#[test]
fn streaks_count_as_the_interface_says() {
    const PLAIN: &str = "event = 'a'\n";
    const FROZEN: &str = "event = 'a'\nfreezes = 1\n";
    let cases: &[(&str, Events, &str)] = &[
        (
            PLAIN,
            &[(0, "a"), (1, "a"), (DAY, "a"), (2 * DAY, "b")],
            "0 current 1; 1 current 2; 2 broken 2",
        ),
        (
            PLAIN,
            &[(0, "a"), (2 * DAY, "a")],
            "0 current 1; 1 broken 1; 2 current 1; 3 broken 1",
        ),
        // A freeze bridges one day, of which streak it is.
        (
            FROZEN,
            &[(0, "a"), (2 * DAY, "a"), (4 * DAY, "a")],
            "0 current 1; 1 current 1; 2 current 2; 3 broken 2; 4 current 1; 5 current 1; 6 broken 1",
        ),
        // A late day joins what was broken.
        (
            PLAIN,
            &[(0, "a"), (2 * DAY, "a"), (2 * DAY - 60, "a")],
            "0 current 1; 1 current 2; 2 current 3; 3 broken 3",
        ),
    ];
    check(
        &definitions("streak", "s", cases),
        cases,
        "SELECT app, arrayStringConcat(arrayMap(one -> one.2, arraySort(groupArray((day, \
         concat(toString(day - toDate('2024-01-01')), ' ', state, ' ', toString(length)))))), '; ') FROM streaks GROUP BY app",
    );
}

#[test]
fn goals_are_shared_as_the_documentation_says() {
    let place = Place::new("[[attribution]]\nname = \"t\"\ngoal = \"buy\"\nlook_back = \"10 days\"\n");
    let event = |app: &str, day: i64, event: &str, more: &str| {
        let time = 1_704_067_200_000 + day * DAY * 60_000;
        format!("{{\"app\":\"{app}\",\"event\":\"{event}\",\"user_id\":\"u\",\"timestamp\":{time}{more}}}\n")
    };
    let channel = |name: &str| format!(",\"channel\":\"{name}\"");
    let utm =
        |medium: &str| format!(",\"properties\":{{\"utm_medium\":\"{medium}\",\"utm_campaign\":\"x\"}}");
    let lines = [
        // Three touches, of which one is derived, and a goal that says nothing.
        event("a", 0, "view", &channel("ads")),
        event("a", 1, "view", &utm("email")),
        event("a", 2, "view", &channel("search")),
        event("a", 3, "buy", ""),
        // The first lies before the window, the second at its beginning.
        event("b", 0, "view", &channel("ads")),
        event("b", 1, "view", &channel("mail")),
        event("b", 11, "buy", &channel("search")),
        // Nothing says where from.
        event("c", 0, "view", ",\"properties\":{\"referrer\":\"\"}"),
        event("c", 1, "buy", ""),
    ];
    place.write("e.jsonl", lines.concat().as_bytes());
    place.replay(&["e.jsonl"]);
    assert_eq!(
        place.query(
            "SELECT app, day - toDate('2024-01-01'), channel, campaign, first, last, round(linear, 3), position \
             FROM attribution ORDER BY app, channel"
        ),
        "a\t3\tads\t\t1\t0\t0.333\t0.4\na\t3\temail\tx\t0\t0\t0.333\t0.2\na\t3\tsearch\t\t0\t1\t0.333\t0.4\n\
         b\t11\tmail\t\t1\t0\t0.5\t0.5\nb\t11\tsearch\t\t0\t1\t0.5\t0.5\nc\t1\t\t\t1\t1\t1\t1\n"
    );
}

#[test]
fn a_new_user_costs_what_their_channel_did() {
    let place = Place::new(
        "[[acquisition]]\nname = \"all\"\n[[acquisition]]\nname = \"invited\"\nwhere = \"exists(invited_by)\"\n\
         [[activation]]\nname = \"buyers\"\nactions = [\"buy\"]\nwithin = \"1 h\"\nby = [\"channel\"]\n",
    );
    let event = |user: &str, minute: i64, event: &str, more: &str| {
        let time = 1_704_067_200_000 + minute * 60_000;
        format!(
            "{{\"app\":\"a\",\"event\":\"{event}\",\"user_id\":\"{user}\",\"timestamp\":{time},\"channel\":\"ads\"{more}}}\n"
        )
    };
    let lines = [
        event("u1", 0, "view", ""),
        event("u1", 10, "buy", ""),
        event("u2", 20, "view", ",\"properties\":{\"invited_by\":\"u1\"}"),
        // Not with their first event.
        event("u1", 30, "view", ",\"properties\":{\"invited_by\":\"u2\"}"),
    ];
    place.write("e.jsonl", lines.concat().as_bytes());
    place.replay(&["e.jsonl"]);
    // Another process may have written a cost before, and this one holds.
    place.query("INSERT INTO costs (app, day, channel, cost) VALUES ('a', '2024-01-01', 'ads', 7)");
    place.query("INSERT INTO costs (app, day, channel, cost) VALUES ('a', '2024-01-01', 'ads', 10), ('a', '2024-01-02', 'ads', 3)");
    assert_eq!(
        place.query("SELECT day, acquisition, cost, users, per_user, activated, per_activated_user FROM channel_costs ORDER BY ALL"),
        "2024-01-01\tall\t10\t2\t5\t1\t10\n2024-01-01\tinvited\t10\t1\t10\t1\t10\n2024-01-02\t\t3\t0\t\\N\t0\t\\N\n"
    );
}

/// One definition a case, each of an app of its own.
fn definitions(kind: &str, name: &str, cases: &[(&str, Events, &str)]) -> String {
    let all = cases.iter().enumerate();
    // The cases lie one behind the other in one file, and none of them is late.
    let head = "[time]\nlateness = '60 days'\n".to_owned();
    let written = all.map(|(number, (rules, _, _))| {
        format!("[[{kind}]]\nname = '{name}{number}'\napp = 'a{number}'\n{rules}")
    });
    std::iter::once(head).chain(written).collect()
}

const CONFIGURATION: &str = r#"
[app.shop]
time_zone = "Asia/Tokyo"
[events_table]
on = true
[keep]
events = "forever"
[[retention]]
name = "daily"
period = "day"
periods = 5
by = ["platform"]
[[retention]]
name = "buyers"
start = { first = "view" }
return = { event = "buy" }
period = "week"
periods = 2
kind = "on_or_after"
[[lifecycle]]
name = "days"
[[lifecycle]]
name = "weeks"
period = "week"
[[stickiness]]
name = "all"
"#;

/// Each view, and the query over the events that it must be equal to.
const EQUAL: [(&str, &str); 7] = [
    (
        "SELECT cohort, platform, period, returned FROM retention WHERE retention = 'daily' AND returned > 0 ORDER BY ALL",
        "SELECT cohort, f.platform AS platform, toUInt16(day - cohort) AS period, uniqExact(user) FROM \
         (SELECT DISTINCT user, toDate(time, 'Asia/Tokyo') AS day FROM events) AS e INNER JOIN \
         (SELECT user, min(toDate(time, 'Asia/Tokyo')) AS cohort, argMin(platform, time) AS platform FROM events GROUP BY user) AS f \
         ON e.user = f.user WHERE day - cohort <= 5 GROUP BY cohort, platform, period ORDER BY ALL",
    ),
    (
        "SELECT cohort, sum(users), count() FROM retention WHERE retention = 'daily' AND period = 3 GROUP BY cohort ORDER BY ALL",
        "SELECT cohort, count(), uniqExact(platform) FROM (SELECT user, min(toDate(time, 'Asia/Tokyo')) AS cohort, \
         argMin(platform, time) AS platform FROM events GROUP BY user) GROUP BY cohort ORDER BY ALL",
    ),
    (
        "SELECT cohort, period, users, returned FROM retention WHERE retention = 'buyers' ORDER BY ALL",
        "SELECT cohort, toUInt16(period), uniqExact(user), countIf(latest >= cohort + 7 * period) FROM \
         (SELECT f.user AS user, cohort, maxIf(toMonday(toDate(b.time, 'Asia/Tokyo')), b.event = 'buy' AND b.time >= f.start AND toMonday(toDate(b.time, 'Asia/Tokyo')) <= cohort + 14) AS latest FROM \
         (SELECT user, min(time) AS start, toMonday(toDate(min(time), 'Asia/Tokyo')) AS cohort FROM events WHERE event = 'view' GROUP BY user) AS f \
         LEFT JOIN events AS b ON f.user = b.user GROUP BY user, cohort) ARRAY JOIN [0, 1, 2] AS period GROUP BY cohort, period ORDER BY ALL",
    ),
    (
        "SELECT day, state, users FROM lifecycle WHERE lifecycle = 'days' ORDER BY ALL",
        "WITH w AS (SELECT user, arraySort(groupUniqArray(toDate(time, 'Asia/Tokyo'))) AS days FROM events GROUP BY user) \
         SELECT * FROM (SELECT d AS day, multiIf(i = 1, 'new', days[i - 1] + 1 = d, 'returning', 'resurrected') AS state, count() AS users \
         FROM w ARRAY JOIN days AS d, arrayEnumerate(days) AS i GROUP BY day, state \
         UNION ALL SELECT d + 1 AS day, 'dormant' AS state, count() AS users FROM w ARRAY JOIN days AS d WHERE NOT has(days, d + 1) \
         GROUP BY day, state) ORDER BY ALL",
    ),
    (
        "SELECT day, state, users FROM lifecycle WHERE lifecycle = 'weeks' ORDER BY ALL",
        "WITH w AS (SELECT user, arraySort(groupUniqArray(toMonday(toDate(time, 'Asia/Tokyo')))) AS days FROM events GROUP BY user) \
         SELECT * FROM (SELECT d AS day, multiIf(i = 1, 'new', days[i - 1] + 7 = d, 'returning', 'resurrected') AS state, count() AS users \
         FROM w ARRAY JOIN days AS d, arrayEnumerate(days) AS i GROUP BY day, state \
         UNION ALL SELECT d + 7 AS day, 'dormant' AS state, count() AS users FROM w ARRAY JOIN days AS d WHERE NOT has(days, d + 7) \
         GROUP BY day, state) ORDER BY ALL",
    ),
    (
        "SELECT grain, day, active, users FROM stickiness ORDER BY ALL",
        "SELECT grain, first, active, count() FROM (SELECT user, grain, \
         if(grain = 'week', toMonday(day), toStartOfMonth(day)) AS first, toUInt8(uniqExact(day)) AS active FROM \
         (SELECT DISTINCT user, toDate(time, 'Asia/Tokyo') AS day FROM events) ARRAY JOIN ['month', 'week'] AS grain \
         GROUP BY user, grain, first) GROUP BY grain, first, active ORDER BY ALL",
    ),
    (
        "SELECT metric, user, month, bitPositionsToArray(days) FROM active_days ORDER BY ALL",
        "SELECT 'active', user, toStartOfMonth(day), arraySort(groupUniqArray(toUInt32(toDayOfMonth(day) - 1))) FROM \
         (SELECT user, toDate(time, 'Asia/Tokyo') AS day FROM events) GROUP BY user, toStartOfMonth(day) ORDER BY ALL",
    ),
];

#[test]
fn the_people_are_those_of_the_events() {
    let place = Place::new(CONFIGURATION);
    let options = [
        "--output",
        "e.jsonl",
        "--time-zone",
        "Asia/Tokyo",
        "--rate",
        "0.012",
    ];
    let generated = cambium(
        place.path(),
        &[&["generate", "--events", "20000"], options.as_slice()].concat(),
    );
    assert!(generated.status.success());
    place.replay(&["e.jsonl"]);
    let _engine = place.engine();
    for (view, events) in EQUAL {
        let expected = place.query(events);
        assert!(expected.lines().count() > 5, "{events}: {expected}");
        assert_eq!(place.query(view), expected, "{view}");
    }
    assert_eq!(
        place.query("SELECT DISTINCT complete FROM retention WHERE retention = 'daily'"),
        "true\n"
    );
}
