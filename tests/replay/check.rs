//! The comparison of what ClickHouse would show with the naive truth.

use std::collections::{BTreeMap, BTreeSet};

use cambium::Processors;
use cambium_engine::Partition;
use cambium_simulate::funnel::{Funnel, Reached};
use cambium_simulate::sessions::{sessions, slice_text};
use cambium_simulate::{Account, Event, Truth};

use super::case::{Case, MINUTE};
use super::model::{Model, Row, Value, number, text};

/// The metrics of every case; others come and go.
const METRICS: [&str; 2] = ["active", "rich"];

/// How a partition's records ended, as the truth has it. The outcomes add up, or it panics.
pub fn account(partition: &Partition<Processors>) -> Account {
    let account = partition.account();
    assert_eq!(
        account.read,
        account.accepted + account.duplicate + account.late + account.rejected + account.dropped
    );
    Account {
        read: account.read,
        accepted: account.accepted,
        duplicate: account.duplicate,
        late: account.late,
        rejected: account.rejected,
        dropped: account.dropped,
        ahead: account.ahead,
    }
}

pub fn check(case: &Case, model: &Model, accounts: &BTreeMap<i32, Account>) {
    let truth = Truth::new(&case.records, &case.rules);
    for (partition, account) in accounts {
        assert_eq!(
            *account,
            truth.accounts.get(partition).copied().unwrap_or_default(),
            "partition {partition}"
        );
    }
    // Sets of both are the set of all; a window of both is none.
    if !case.is_upgraded {
        check_rolling(&truth, model);
    }
    check_sums_and_users(case, model);
}

/// All but what depends on where the watermark is.
pub fn check_sums_and_users(case: &Case, model: &Model) {
    let truth = Truth::new(&case.records, &case.rules);
    // Of who is forgotten no row is left that is theirs alone, which those of a device are.
    let unseen = case.forgotten.filter(|_| case.rules.link_within_ms.is_some());
    check_counts(&truth, model, unseen);
    // What was counted otherwise before is left as it was by a link that comes later.
    if !(case.is_upgraded && case.rules.link_within_ms.is_some()) {
        check_uniques(&truth, model, unseen);
    }
    check_sessions(case, &truth, model);
    check_funnels(case, &truth, model);
    if let Some(people) = &case.people {
        people.check(&truth, model, case.forgotten);
    }
}

fn check_counts(truth: &Truth, model: &Model, unseen: Option<u64>) {
    let key = |row| {
        let minute = number(row, "bucket") as i64 * 1000;
        (
            text(row, "app"),
            text(row, "event"),
            minute,
            text(row, "platform"),
            text(row, "channel"),
        )
    };
    let mut found: BTreeMap<_, (u64, BTreeSet<u64>)> = BTreeMap::new();
    for row in model.rows("count_rows") {
        found.entry(key(row)).or_default().0 += number(row, "events") as u64;
    }
    for row in model.rows("count_arrivals") {
        found
            .entry(key(row))
            .or_default()
            .1
            .insert(number(row, "users") as u64);
    }
    for row in model.rows("count_device_rows") {
        let (_, users) = found.entry(key(row)).or_default();
        users.insert(number(row, "user") as u64);
    }
    let mut expected = truth.event_counts();
    for (_, users) in found.values_mut().chain(expected.values_mut()) {
        users.retain(|user| Some(*user) != unseen);
    }
    assert_eq!(found, expected);
}

/// Who is in which set of active users: members, and devices with rows of their own.
pub fn active(model: &Model) -> impl Iterator<Item = (&Row, u64)> {
    let of = |table, column| {
        let rows = model.rows(table).into_iter();
        rows.map(move |row| (row, number(row, column) as u64))
    };
    of("unique_arrivals", "users").chain(of("unique_device_rows", "user"))
}

fn check_uniques(truth: &Truth, model: &Model, unseen: Option<u64>) {
    /// Metric, app, grain, bucket (of a day: the day), slice.
    type Key = (String, String, String, i64, String);
    let names = names(model);
    let mut found: BTreeMap<Key, BTreeSet<u64>> = BTreeMap::new();
    for (row, user) in active(model) {
        let grain = text(row, "grain");
        let bucket = match grain.as_str() {
            "day" => number(row, "day") as i64,
            _ => number(row, "bucket") as i64 * 1000,
        };
        let Value::Map(properties) = &row["properties"] else {
            panic!("properties is no map")
        };
        let properties = properties.iter().map(|(name, value)| format!("{name}={value}"));
        let slice = [text(row, "platform"), text(row, "channel")]
            .into_iter()
            .chain(properties);
        let slice: Vec<String> = slice.collect();
        let metric = name_of(&names, row).to_owned();
        if !METRICS.contains(&metric.as_str()) {
            continue;
        }
        let key = (metric, text(row, "app"), grain, bucket, slice.join(","));
        found.entry(key).or_default().insert(user);
    }
    let mut expected: BTreeMap<Key, BTreeSet<u64>> = BTreeMap::new();
    for event in &truth.events {
        let [platform, _, channel, _, _] = &event.dimensions;
        let buckets = [
            ("minute", event.time.div_euclid(MINUTE) * MINUTE),
            ("hour", truth.hour(event.time)),
            ("day", i64::from(truth.day(event.time))),
        ];
        // As the configuration of every case defines them.
        let plan = slice_text(&event.properties["plan"]);
        let plan = plan.map_or(",".to_owned(), |plan| format!(",,plan={plan}"));
        let [active, rich] = METRICS;
        let metrics = [
            (active, true, format!("{platform},{channel}")),
            (rich, is_rich(event), plan),
        ];
        for (metric, _, slice) in metrics.into_iter().filter(|(_, fits, _)| *fits) {
            for (grain, bucket) in buckets {
                let key = (
                    metric.to_owned(),
                    event.app.clone(),
                    grain.to_owned(),
                    bucket,
                    slice.clone(),
                );
                expected.entry(key).or_default().insert(event.user);
            }
        }
    }
    for sets in [&mut found, &mut expected] {
        sets.values_mut()
            .for_each(|users| users.retain(|user| Some(*user) != unseen));
        sets.retain(|_, users| !users.is_empty());
    }
    assert_eq!(found, expected);
}

/// As the configuration of every case says what is "rich".
pub fn is_rich(event: &Event) -> bool {
    let price = event.properties["price"].as_f64();
    price.is_some_and(|price| price >= 2.5) && event.event != "c"
}

/// The names of definitions, by their ids.
pub fn names(model: &Model) -> BTreeMap<i128, String> {
    let rows = model.rows("definition_rows").into_iter();
    rows.map(|row| (number(row, "id"), text(row, "name"))).collect()
}

/// What the definition of a row is called. Rows of none are seen by no view: of a past that ended on its way.
pub fn name_of<'n>(names: &'n BTreeMap<i128, String>, row: &Row) -> &'n str {
    names.get(&number(row, "definition")).map_or("", String::as_str)
}

/// The newest rows of a window: by origin, the slice and how many users are inside still in each that follows.
type Newest = BTreeMap<i128, (i64, Vec<i128>)>;

/// As of the end of each partition's log, of all users and of those of each platform and channel; each user is on one
/// partition.
fn check_rolling(truth: &Truth, model: &Model) {
    let Some(latest) = truth.watermarks.values().max() else {
        return;
    };
    let names = names(model);
    let mut windows: BTreeMap<(String, String, String), Newest> = BTreeMap::new();
    for row in model.rows("rolling_rows") {
        if text(row, "app") != "s" || name_of(&names, row) != "active" {
            continue;
        }
        let Value::List(users) = &row["users"] else {
            panic!("users is no list")
        };
        let key = (text(row, "slices"), text(row, "dimension"), text(row, "value"));
        let newest = windows.entry(key).or_default();
        let one = newest.entry(number(row, "origin")).or_default();
        if one.0 <= number(row, "slice") as i64 {
            *one = (number(row, "slice") as i64, users.clone());
        }
    }
    let check = |dimension: &str, value: &str, is_meant: &dyn Fn(&Event) -> bool| {
        for (slices, slice_ms, lengths) in [
            ("minute", MINUTE, [5, 30, 60]),
            ("quarter", 15 * MINUTE, [1, 40, 96]),
        ] {
            let running = latest.div_euclid(slice_ms);
            let window = windows.get(&(slices.to_owned(), dimension.to_owned(), value.to_owned()));
            for length in lengths {
                let inside = window
                    .into_iter()
                    .flat_map(Newest::values)
                    .flat_map(|(slice, users)| {
                        let left = (length - (running - slice)).max(0);
                        users.iter().take(left as usize)
                    });
                assert_eq!(
                    inside.sum::<i128>() as usize,
                    truth.rolling_users("s", *latest, (slice_ms, length), is_meant),
                    "{length} of {slices} {dimension} {value}"
                );
            }
        }
    };
    check("", "", &|_| true);
    for (place, dimension) in [(0, "platform"), (2, "channel")] {
        let values: BTreeSet<_> = truth
            .events
            .iter()
            .map(|event| &event.dimensions[place])
            .collect();
        for value in values {
            check(dimension, value, &|event| event.dimensions[place] == *value);
        }
    }
}

fn check_sessions(case: &Case, truth: &Truth, model: &Model) {
    type Key = (String, u64, i64, i64, [u64; 3], Vec<String>);
    let mut expected: Vec<Key> = Vec::new();
    let by_user = truth.by_user().into_iter();
    for ((app, user), events) in by_user.filter(|((_, user), _)| Some(*user) != case.forgotten) {
        for session in sessions(&events, &case.sessions, &|time| truth.day(time)) {
            let dimensions = (0..5).map(|place| {
                let values = session
                    .events
                    .iter()
                    .map(|event| events[*event].dimensions[place].clone());
                values
                    .into_iter()
                    .find(|value| !value.is_empty())
                    .unwrap_or_default()
            });
            let pages = session.pages(&events, &case.sessions);
            let ends = [pages.first(), pages.last()].map(|page| page.cloned().unwrap_or_default());
            let (count, paged) = (session.events.len() as u64, pages.len() as u64);
            let bounced = if case.sessions.page.is_some() {
                paged <= 1
            } else {
                count == 1
            };
            expected.push((
                app.clone(),
                user,
                session.start,
                session.end,
                [count, paged, bounced.into()],
                dimensions.chain(ends).collect(),
            ));
        }
    }
    let mut found: Vec<Key> = Vec::new();
    for row in model.rows("session_rows") {
        let texts = [
            "platform",
            "app_version",
            "channel",
            "campaign",
            "country",
            "entry",
            "exit",
        ];
        found.push((
            text(row, "app"),
            number(row, "user") as u64,
            number(row, "started_at") as i64,
            number(row, "ended_at") as i64,
            ["events", "pages", "bounced"].map(|name| number(row, name) as u64),
            texts.map(|name| text(row, name)).to_vec(),
        ));
    }
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
}

fn check_funnels(case: &Case, truth: &Truth, model: &Model) {
    for (place, funnel) in case.funnels.iter().enumerate() {
        check_funnel(case, truth, model, (&format!("f{place}"), funnel), true);
    }
}

/// Who reached which step of a funnel, and how long it took them; the latter, where somebody is forgotten, if it is asked
/// for.
pub fn check_funnel(
    case: &Case,
    truth: &Truth,
    model: &Model,
    (name, funnel): (&str, &Funnel),
    with_times: bool,
) {
    let names = names(model);
    let mut expected = Reached::new();
    for ((_, user), events) in &truth.by_user() {
        let sessions = sessions(events, &case.sessions, &|time| truth.day(time));
        funnel.add(*user, events, &sessions, &|time| truth.day(time), &mut expected);
    }
    let mut found = Reached::new();
    for row in model
        .rows("funnel_arrivals")
        .into_iter()
        .filter(|row| name_of(&names, row) == name)
    {
        let key = (
            number(row, "day") as i32,
            Some(text(row, "platform")),
            number(row, "step") as usize,
        );
        found.entry(key).or_default().insert(number(row, "users") as u64);
    }
    for row in model
        .rows("funnel_rows")
        .into_iter()
        .filter(|row| name_of(&names, row) == name)
    {
        let slice = (number(row, "sliced") == 1).then(|| text(row, "platform"));
        for step in (0..32).filter(|step| number(row, "steps") >> step & 1 == 1) {
            let key = (number(row, "day") as i32, slice.clone(), step + 1);
            found.entry(key).or_default().insert(number(row, "user") as u64);
        }
    }
    // In sets they stay, as a number among others.
    if let Some(user) = &case.forgotten {
        for reached in [&mut found, &mut expected] {
            reached.values_mut().for_each(|users| {
                users.remove(user);
            });
            reached.retain(|_, users| !users.is_empty());
        }
    }
    assert_eq!(found, expected, "{funnel:?}");
    if case.forgotten.is_some() && !with_times {
        return;
    }
    check_times(case, truth, model, (name, funnel), &names);
}

/// Bins end at powers of 1.02.
pub fn is_in_bin(time_ms: i64, bin: i128) -> bool {
    let end = 1.02f64.powi(bin as i32);
    let time = (time_ms as f64).max(1.0);
    time <= end * 1.001 && time >= end / 1.021
}

/// The histograms of conversion times hold what each user and entry day took, to 2 %.
fn check_times(
    case: &Case,
    truth: &Truth,
    model: &Model,
    (name, funnel): (&str, &Funnel),
    names: &BTreeMap<i128, String>,
) {
    let mut expected: BTreeMap<(String, i32, usize), Vec<i64>> = BTreeMap::new();
    for ((app, _), events) in &truth.by_user() {
        let sessions = sessions(events, &case.sessions, &|time| truth.day(time));
        for (day, step, time) in funnel.times(events, &sessions, &|time| truth.day(time)) {
            expected.entry((app.clone(), day, step)).or_default().push(time);
        }
    }
    let mut found: BTreeMap<(String, i32, usize), Vec<i128>> = BTreeMap::new();
    for row in model.rows("funnel_time_rows") {
        if name_of(names, row) != name {
            continue;
        }
        let (Value::List(bins), Value::List(users)) = (&row["bins"], &row["users"]) else {
            panic!("bins and users are lists")
        };
        let key = (
            text(row, "app"),
            number(row, "day") as i32,
            number(row, "step") as usize,
        );
        let all = found.entry(key).or_default();
        for (bin, users) in bins.iter().zip(users) {
            all.extend((0..*users).map(|_| *bin));
        }
    }
    found.retain(|_, bins| !bins.is_empty());
    let (counted, named) = (found.keys(), expected.keys());
    assert!(
        counted.clone().eq(named.clone()),
        "{counted:?} {named:?} {funnel:?}"
    );
    for (key, times) in &mut expected {
        let bins = found.get_mut(key).unwrap();
        times.sort_unstable();
        bins.sort_unstable();
        let fits = |(time, bin): (&i64, &i128)| is_in_bin(*time, *bin);
        let all_fit = times.len() == bins.len() && times.iter().zip(bins.iter()).all(fits);
        assert!(all_fit, "{key:?}: {times:?} {bins:?} {funnel:?}");
    }
}
