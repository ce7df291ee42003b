//! Devices that become users, in the views.

use super::files::Place;

const HOUR_MS: i64 = 3_600_000;
/// 2024-01-01T00:00:00Z
const START: i64 = 1_704_067_200_000;

fn event(ids: &str, hour: i64, event: &str) -> String {
    let time = START + hour * HOUR_MS;
    format!(
        "{{\"app\":\"shop\",\"event\":\"{event}\",{ids},\"timestamp\":{time},\"properties\":{{\"price\":5}}}}\n"
    )
}

const DEVICE: &str = "\"anonymous_id\":\"d\"";
const OTHER: &str = "\"anonymous_id\":\"e\"";
const USER: &str = "\"user_id\":\"u\"";
const BOTH: &str = "\"user_id\":\"u\",\"anonymous_id\":\"d\"";

/// As if the user had done it all: but for what the device did longer before.
#[test]
fn a_device_and_its_user_are_one() {
    let place = Place::new(
        r#"
[identity]
link_within = "2 days"
[session]
gap = "90 min"
[[funnel]]
name = "purchase"
steps = ["view", "buy"]
within = "6 h"
[[unique]]
name = "buyers"
event = "buy"
[[acquisition]]
name = "all"
[[retention]]
name = "daily"
[[points]]
name = "coins"
earn = [{ event = "buy", points = "price" }]
"#,
    );
    // Three days before: too long. Then a day on which the user is there as well, and the purchase behind the link.
    let first = [
        event(DEVICE, 1, "view"),
        event(DEVICE, 50, "view"),
        event(DEVICE, 51, "buy"),
        event(USER, 52, "view"),
        event(OTHER, 52, "view"),
        event(DEVICE, 74, "view"),
    ];
    place.write("a.jsonl", first.concat().as_bytes());
    place.replay(&["a.jsonl"]);
    let daily = "SELECT day - toDate('2024-01-01') AS d, users FROM active_users WHERE metric = 'active' AND grain = 'day' ORDER BY d";
    assert_eq!(place.query(daily), "0\t1\n2\t3\n3\t1\n");
    assert_eq!(place.query("SELECT count() FROM links"), "0\n");
    let link = [
        event(BOTH, 75, "login"),
        event(DEVICE, 76, "buy"),
        event(DEVICE, 77, "view"),
    ];
    place.write("b.jsonl", link.concat().as_bytes());
    place.replay(&["b.jsonl"]);
    assert_eq!(place.query(daily), "0\t1\n2\t2\n3\t1\n");
    assert_eq!(
        place.query("SELECT app, devices, links_too_late FROM links"),
        "shop\t1\t1\n"
    );
    assert_eq!(
        place.query(
            "SELECT event, sum(events), uniqCombined64Merge(users) FROM event_counts GROUP BY event ORDER BY event"
        ),
        "buy\t2\t1\nlogin\t1\t1\nview\t6\t3\n"
    );
    assert_eq!(
        place.query("SELECT count(), uniqExact(user), sum(events) FROM sessions"),
        "4\t3\t9\n"
    );
    let user = place.query("SELECT sipHash64Keyed((toUInt64(0), toUInt64(0)), 'u')");
    let user = user.trim();
    assert_eq!(
        place.query(&format!(
            "SELECT events, started_at FROM sessions WHERE user = {user} ORDER BY started_at"
        )),
        "3\t2024-01-03 02:00:00.000\n4\t2024-01-04 02:00:00.000\n"
    );
    assert_eq!(
        place.query("SELECT day - toDate('2024-01-01') AS d, step, users FROM funnels WHERE grain = 'day' ORDER BY d, step"),
        "0\t1\t1\n0\t2\t0\n2\t1\t2\n2\t2\t1\n3\t1\t1\n3\t2\t1\n"
    );
    assert_eq!(
        place.query("SELECT day - toDate('2024-01-01') AS d, sum(users) FROM new_users WHERE grain = 'day' GROUP BY d ORDER BY d"),
        "0\t1\n2\t2\n"
    );
    assert_eq!(
        place.query("SELECT cohort - toDate('2024-01-01') AS d, period, sum(returned) FROM retention WHERE period < 2 GROUP BY d, period ORDER BY d, period"),
        "0\t0\t1\n0\t1\t0\n2\t0\t2\n2\t1\t1\n"
    );
    assert_eq!(
        place.query("SELECT user, earned FROM point_balances"),
        format!("{user}\t10\n")
    );
}
