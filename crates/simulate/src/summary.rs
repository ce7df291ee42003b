//! The truth in a few numbers, for people and for comparisons from outside.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::funnel::{ByStep, Funnel, Order, Reached, Step};
use crate::sessions::{Rules, sessions};
use crate::{Account, Truth};

/// The way through the simulated shop.
pub const PURCHASE: [&str; 4] = ["view", "cart", "checkout", "buy"];
const DAY_MS: i64 = 86_400_000;

/// Accounts, events by name, users by day, sessions, and the purchase funnel within a day.
pub fn summary(truth: &Truth) -> Value {
    let mut events: BTreeMap<&str, u64> = BTreeMap::new();
    for event in &truth.events {
        *events.entry(&event.event).or_default() += 1;
    }
    let daily: BTreeMap<String, usize> = truth
        .daily_users()
        .into_iter()
        .map(|((app, day), users)| (format!("{app} {}", date(day)), users.len()))
        .collect();
    let funnel = purchase();
    let (mut count, mut single, mut reached) = (0, 0, Reached::new());
    for ((_, user), events) in truth.by_user() {
        let found = sessions(&events, &Rules::default(), &|time| truth.day(time));
        count += found.len();
        single += found.iter().filter(|session| session.events.len() == 1).count();
        funnel.add(user, &events, &found, &|time| truth.day(time), &mut reached);
    }
    let step = |number: usize| {
        let users = reached
            .iter()
            .filter(|((_, _, step), _)| *step == number)
            .flat_map(|(_, users)| users);
        users.collect::<std::collections::BTreeSet<_>>().len()
    };
    json!({
        "account": account(truth.accounts.values()),
        "events": events,
        "daily_users": daily,
        "sessions": count,
        "sessions_of_one_event": single,
        "funnel": { "steps": PURCHASE, "within": "1 day", "users": (1..=PURCHASE.len()).map(step).collect::<Vec<_>>() },
    })
}

fn purchase() -> Funnel {
    let steps = PURCHASE.map(|name| Step {
        events: vec![name.to_owned()],
        optional: false,
        first_time: false,
    });
    Funnel {
        steps: steps.into(),
        within_ms: Some(DAY_MS),
        order: Order::InOrder,
        ignore: Vec::new(),
        exclude: Vec::new(),
        by_platform: false,
        by_step: ByStep::First,
    }
}

fn account<'a>(all: impl Iterator<Item = &'a Account>) -> Value {
    let sum = all.fold(Account::default(), |sum, one| Account {
        read: sum.read + one.read,
        accepted: sum.accepted + one.accepted,
        duplicate: sum.duplicate + one.duplicate,
        late: sum.late + one.late,
        rejected: sum.rejected + one.rejected,
        dropped: sum.dropped + one.dropped,
        ahead: sum.ahead + one.ahead,
    });
    json!({
        "read": sum.read, "accepted": sum.accepted, "duplicate": sum.duplicate,
        "late": sum.late, "rejected": sum.rejected, "dropped": sum.dropped, "ahead": sum.ahead,
    })
}

fn date(day: i32) -> String {
    let first = jiff::civil::date(1970, 1, 1);
    let date = first.checked_add(jiff::Span::new().days(day));
    date.map_or_else(|_| day.to_string(), |date| date.to_string())
}
