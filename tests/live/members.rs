//! Points, levels and badges in the views, as the documentation says.

use super::files::Place;

const DAY_MS: i64 = 86_400_000;

fn event(user: &str, day: i64, event: &str, properties: &str) -> String {
    let time = 1_704_067_200_000 + day * DAY_MS + 3_600_000;
    format!(
        "{{\"app\":\"shop\",\"event\":\"{event}\",\"user_id\":\"{user}\",\"timestamp\":{time},\"properties\":{{{properties}}}}}\n"
    )
}

#[test]
fn points_levels_and_badges_count_as_the_documentation_says() {
    let place = Place::new(
        r#"
[[points]]
name = "coins"
earn = [{ event = "check_in", points = 5, daily_cap = 10 }, { event = "buy", points = "price", multiplier = 0.1 }]
spend = [{ event = "redeem", points = "cost" }]
expiry = "3 days"
[[level]]
name = "vip"
of = "coins"
window = "3 days"
protection = "2 days"
levels = [{ name = "silver", at = 10 }, { name = "gold", at = 30 }]
[[level]]
name = "club"
levels = [{ name = "plus" }]
paid = [{ level = "plus", start = "subscribe", end = "cancel", lasts = "5 days" }]
[[badge]]
name = "regular"
event = "check_in"
streak = 3
[[badge]]
name = "spender"
event = "buy"
sum = 300
property = "price"
"#,
    );
    let lines = [
        // Three check-ins, of which two count, and 29 points of a purchase.
        event("u", 0, "check_in", ""),
        event("u", 0, "check_in", ""),
        event("u", 0, "check_in", ""),
        event("u", 0, "buy", "\"price\":290"),
        event("v", 0, "subscribe", ""),
        // What is earned on a day counts before what is spent on it.
        event("u", 1, "redeem", "\"cost\":12"),
        event("u", 1, "check_in", ""),
        event("v", 1, "buy", "\"price\":300"),
        event("u", 2, "check_in", ""),
        event("v", 2, "cancel", ""),
        // More is spent than is there.
        event("w", 2, "redeem", "\"cost\":7"),
        event("w", 3, "check_in", ""),
    ];
    place.write("e.jsonl", lines.concat().as_bytes());
    place.replay(&["e.jsonl"]);
    let of = |user: &str| {
        place
            .query(&format!(
                "SELECT sipHash64Keyed((toUInt64(0), toUInt64(0)), '{user}')"
            ))
            .trim()
            .to_owned()
    };
    let (u, v, w) = (of("u"), of("v"), of("w"));
    assert_eq!(
        place.query("SELECT day - toDate('2024-01-01') AS d, kind, rule, amount, users FROM points ORDER BY d, kind, rule"),
        "0\tearned\tbuy\t29\t1\n0\tearned\tcheck_in\t10\t1\n\
         1\tearned\tbuy\t30\t1\n1\tearned\tcheck_in\t5\t1\n1\tspent\tredeem\t12\t1\n\
         2\tearned\tcheck_in\t5\t1\n2\tspent\tredeem\t7\t1\n\
         3\tearned\tcheck_in\t5\t1\n3\texpired\t\t27\t1\n4\texpired\t\t35\t2\n5\texpired\t\t5\t1\n"
    );
    let balances = [(&u, "49\t12\t37\t0"), (&v, "30\t0\t30\t0"), (&w, "5\t7\t0\t-2")];
    for (user, balance) in balances {
        assert_eq!(
            place.query(&format!(
                "SELECT earned, spent, expired, balance, expires_next FROM point_balances WHERE user = {user}"
            )),
            format!("{balance}\t\\N\n")
        );
    }
    // Gold for as long as it is protected behind the last day with thirty points within three.
    assert_eq!(
        place.query(&format!(
            "SELECT level, day - toDate('2024-01-01') AS d, from_level, to_level FROM level_history WHERE user = {u} ORDER BY d"
        )),
        "vip\t0\t\tgold\nvip\t5\tgold\tsilver\nvip\t6\tsilver\t\n"
    );
    assert_eq!(
        place.query(&format!(
            "SELECT level, day - toDate('2024-01-01') AS d, from_level, to_level FROM level_history WHERE user = {v} ORDER BY level, d"
        )),
        "club\t0\t\tplus\nclub\t2\tplus\t\nvip\t1\t\tgold\nvip\t6\tgold\t\n"
    );
    assert_eq!(place.query("SELECT count() FROM user_levels"), "0\n");
    assert_eq!(
        place.query(
            "SELECT level, day - toDate('2024-01-01') AS d, name, users FROM levels WHERE d < 8 AND users > 0 ORDER BY level, d, rank"
        ),
        "club\t0\tplus\t1\nclub\t1\tplus\t1\n\
         vip\t0\tgold\t1\nvip\t1\tgold\t2\nvip\t2\tgold\t2\nvip\t3\tgold\t2\nvip\t4\tgold\t2\n\
         vip\t5\tsilver\t1\nvip\t5\tgold\t1\n"
    );
    assert_eq!(
        place.query("SELECT max(day) = today() FROM levels WHERE level = 'vip'"),
        "1\n"
    );
    assert_eq!(
        place.query("SELECT day - toDate('2024-01-01') AS d, direction, from_level, to_level, users FROM level_changes WHERE level = 'vip' ORDER BY d, from_level"),
        "0\tup\t\tgold\t1\n1\tup\t\tgold\t1\n5\tdown\tgold\tsilver\t1\n6\tdown\tgold\t\t1\n6\tdown\tsilver\t\t1\n"
    );
    assert_eq!(
        place.query("SELECT badge, day - toDate('2024-01-01') AS d, users FROM badges ORDER BY badge"),
        "regular\t2\t1\nspender\t1\t1\n"
    );
    assert_eq!(
        place.query("SELECT badge, user FROM user_badges ORDER BY badge"),
        format!("regular\t{u}\nspender\t{v}\n")
    );
}
