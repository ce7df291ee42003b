//! What ClickHouse shows, against the naive truth of the log.

use std::collections::{BTreeMap, BTreeSet};

use cambium_clickhouse::Client;
use cambium_simulate::Truth;
use cambium_simulate::sessions::{Rules, sessions};

/// Events by which the counts fall short of the truth, and by which they exceed it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Difference {
    pub lost: u64,
    pub twice: u64,
}

/// Compares counts one by one, and asserts all else: accounts, sessions, users, funnel.
pub async fn difference(client: &Client, truth: &Truth) -> Difference {
    let counts = counts(client, truth).await;
    // Where counts differ, that is what is to be told.
    if counts.lost == 0 && counts.twice == 0 {
        check(client, truth).await;
    }
    counts
}

async fn counts(client: &Client, truth: &Truth) -> Difference {
    let mut expected: BTreeMap<(String, String, i64), u64> = BTreeMap::new();
    for event in &truth.events {
        let minute = event.time.div_euclid(60_000) * 60_000;
        *expected
            .entry((event.app.clone(), event.event.clone(), minute))
            .or_default() += 1;
    }
    let query = "SELECT app, event, toUnixTimestamp(bucket) * 1000 AS minute, sum(events) AS n FROM event_counts \
                 GROUP BY app, event, minute";
    let mut difference = Difference::default();
    for row in client.rows(query).await.unwrap() {
        let text = |name: &str| row[name].as_str().unwrap().to_owned();
        let key = (text("app"), text("event"), row["minute"].as_i64().unwrap());
        let (shown, exact) = (row["n"].as_u64().unwrap(), expected.remove(&key).unwrap_or(0));
        difference.lost += exact.saturating_sub(shown);
        difference.twice += shown.saturating_sub(exact);
    }
    difference.lost += expected.values().sum::<u64>();
    difference
}

async fn check(client: &Client, truth: &Truth) {
    let query = "SELECT partition, read, accepted, duplicate, late, rejected, dropped FROM records ORDER BY partition";
    let mut shown = BTreeMap::new();
    for row in client.rows(query).await.unwrap() {
        let account = ["read", "accepted", "duplicate", "late", "rejected", "dropped"];
        let account = account.map(|name| row[name].as_u64().unwrap());
        shown.insert(row["partition"].as_i64().unwrap() as i32, account);
    }
    // A partition without records shows none.
    shown.retain(|_, account| account[0] > 0);
    let exact = truth.accounts.iter().map(|(partition, one)| {
        let account = [
            one.read,
            one.accepted,
            one.duplicate,
            one.late,
            one.rejected,
            one.dropped,
        ];
        (*partition, account)
    });
    assert_eq!(shown, exact.collect::<BTreeMap<_, _>>());
    assert_eq!(
        super::super::number(client, "SELECT count() FROM rejected_events")
            .await
            .unwrap() as u64,
        truth.accounts.values().map(|one| one.rejected).sum::<u64>()
    );
    check_users(client, truth).await;
    check_sessions(client, truth).await;
    check_funnel(client, truth).await;
}

async fn check_users(client: &Client, truth: &Truth) {
    let mut exact: Vec<u64> = truth
        .daily_users()
        .values()
        .map(|users| users.len() as u64)
        .collect();
    let query = "SELECT users FROM active_users WHERE grain = 'day' AND metric = 'active'";
    let rows = client.rows(query).await.unwrap();
    let mut shown: Vec<u64> = rows.iter().map(|row| row["users"].as_u64().unwrap()).collect();
    exact.sort();
    shown.sort();
    assert_eq!(shown.len(), exact.len());
    for (shown, exact) in shown.into_iter().zip(exact) {
        assert!(
            shown.abs_diff(exact) * 100 <= exact,
            "{shown} users are shown, {exact} there were"
        );
    }
}

async fn check_sessions(client: &Client, truth: &Truth) {
    let mut exact: BTreeSet<(u64, i64, i64, u64)> = BTreeSet::new();
    for ((_, user), events) in truth.by_user() {
        let found = sessions(&events, &Rules::default(), &|time| truth.day(time));
        let found = found
            .iter()
            .map(|one| (user, one.start, one.end, one.events.len() as u64));
        exact.extend(found);
    }
    let query = "SELECT user, toUnixTimestamp64Milli(started_at) AS s, toUnixTimestamp64Milli(ended_at) AS e, events \
                 FROM sessions";
    let rows = client.rows(query).await.unwrap();
    let time = |row: &serde_json::Value, name: &str| row[name].as_i64().unwrap();
    let shown: BTreeSet<(u64, i64, i64, u64)> = rows
        .iter()
        .map(|row| {
            let (user, events) = (row["user"].as_u64().unwrap(), row["events"].as_u64().unwrap());
            (user, time(row, "s"), time(row, "e"), events)
        })
        .collect();
    assert_eq!(rows.len(), shown.len(), "a session is shown twice");
    assert!(
        shown == exact,
        "{} sessions are shown, {} there were",
        shown.len(),
        exact.len()
    );
}

/// All lies within a day: a user went as far as the steps come one behind the other.
async fn check_funnel(client: &Client, truth: &Truth) {
    let mut reached = [0u64; 3];
    for events in truth.by_user().values() {
        let mut since = i64::MIN;
        for (step, name) in ["view", "cart", "buy"].into_iter().enumerate() {
            let next = events
                .iter()
                .find(|event| event.event == name && event.time >= since);
            let Some(next) = next else { break };
            since = next.time;
            reached[step] += 1;
        }
    }
    for (step, exact) in (1..).zip(reached) {
        let query = format!(
            "SELECT uniqCombined64Merge(users) FROM funnel_users WHERE grain = 'day' AND step = {step}"
        );
        let shown = super::super::number(client, &query).await.unwrap() as u64;
        assert!(
            shown.abs_diff(exact) * 100 <= exact,
            "step {step}: {shown} users are shown, {exact} there were"
        );
    }
}
