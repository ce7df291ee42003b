//! When users were active: lifecycle and stickiness, straight from the words of the interface.

use std::collections::{BTreeMap, BTreeSet};

use crate::calendar::Period;
use crate::{Event, Truth};

/// app, the first day of the period, state, platform.
pub type StateKey = (String, i32, &'static str, String);

/// Who was in which state, by the events that make a user active.
pub fn lifecycle(
    truth: &Truth,
    period: Period,
    is_meant: impl Fn(&Event) -> bool,
    platform: impl Fn(&Event) -> String,
) -> BTreeMap<StateKey, BTreeSet<u64>> {
    let mut states: BTreeMap<StateKey, BTreeSet<u64>> = BTreeMap::new();
    for ((app, user), events) in truth.by_user() {
        let mut active: BTreeMap<i32, String> = BTreeMap::new();
        for event in events.into_iter().filter(|event| is_meant(event)) {
            let first_day = period.first_day(truth.day(event.time));
            active.entry(first_day).or_insert_with(|| platform(event));
        }
        let mut put = |day: i32, state, platform: &String| {
            let key = (app.clone(), day, state, platform.clone());
            states.entry(key).or_default().insert(user);
        };
        let mut last: Option<i32> = None;
        for (day, platform) in &active {
            let state = match last {
                None => "new",
                Some(last) if period.next(last) == *day => "returning",
                Some(_) => "resurrected",
            };
            put(*day, state, platform);
            let next = period.next(*day);
            if !active.contains_key(&next) {
                put(next, "dormant", platform);
            }
            last = Some(*day);
        }
    }
    states
}

/// On which local days each user was active, by app and user.
pub fn days(truth: &Truth, is_meant: impl Fn(&Event) -> bool) -> BTreeMap<(String, u64), BTreeSet<i32>> {
    let mut days: BTreeMap<(String, u64), BTreeSet<i32>> = BTreeMap::new();
    for event in truth.events.iter().filter(|event| is_meant(event)) {
        let of_user = days.entry((event.app.clone(), event.user)).or_default();
        of_user.insert(truth.day(event.time));
    }
    days
}

/// How many users were active on how many days, by app and first day of a period.
pub fn stickiness(
    truth: &Truth,
    period: Period,
    is_meant: impl Fn(&Event) -> bool,
) -> BTreeMap<(String, i32, u8), u64> {
    let mut users = BTreeMap::new();
    for ((app, _), days) in days(truth, is_meant) {
        let mut ranges: BTreeMap<i32, u8> = BTreeMap::new();
        for day in days {
            *ranges.entry(period.first_day(day)).or_default() += 1;
        }
        for (first_day, active) in ranges {
            *users.entry((app.clone(), first_day, active)).or_default() += 1;
        }
    }
    users
}

/// app, the day of the first event ever, platform.
pub type NewKey = (String, i32, String);

/// How many users were new, and how long those took, in milliseconds, who did all of these events in time.
pub fn activation(
    truth: &Truth,
    actions: &[Vec<String>],
    within_ms: i64,
    platform: impl Fn(&Event) -> String,
) -> BTreeMap<NewKey, (u64, Vec<i64>)> {
    let mut new: BTreeMap<NewKey, (u64, Vec<i64>)> = BTreeMap::new();
    for ((app, _), events) in truth.by_user() {
        let first = events[0];
        let key = (app, truth.day(first.time), platform(first));
        let users = new.entry(key).or_default();
        users.0 += 1;
        let done = actions.iter().map(|names| {
            let done = events.iter().find(|event| names.contains(&event.event));
            done.map(|event| event.time - first.time)
        });
        let done: Option<Vec<i64>> = done.collect();
        let took = done.and_then(|done| done.into_iter().max());
        users.1.extend(took.filter(|took| *took <= within_ms));
    }
    new.values_mut().for_each(|(_, took)| took.sort_unstable());
    new
}

/// app, day, state, length.
pub type StreakKey = (String, i32, &'static str, u32);

/// How many users were in a streak of how many days on a day, and how many lost one; and the longest ones, by app and
/// length.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Streaks {
    pub days: BTreeMap<StreakKey, u64>,
    pub longest: BTreeMap<(String, u32), u64>,
}

pub fn streaks(truth: &Truth, freezes: i32, is_meant: impl Fn(&Event) -> bool) -> Streaks {
    let mut streaks = Streaks::default();
    for ((app, _), active) in days(truth, is_meant) {
        let (mut length, mut left, mut longest) = (0, 0, 0);
        let mut day = *active.first().unwrap();
        // Day by day, until the streak after the last event is broken.
        while length > 0 || active.iter().any(|active| *active >= day) {
            let mut put = |state, length| {
                *streaks.days.entry((app.clone(), day, state, length)).or_default() += 1;
            };
            if active.contains(&day) {
                if length == 0 {
                    left = freezes;
                }
                length += 1;
                put("current", length);
            } else if length > 0 && left > 0 {
                left -= 1;
                put("current", length);
            } else if length > 0 {
                put("broken", length);
                length = 0;
            }
            longest = longest.max(length);
            day += 1;
        }
        *streaks.longest.entry((app, longest)).or_default() += 1;
    }
    streaks
}

/// app, the minute, channel.
pub type MinuteKey = (String, i64, String);

/// How many users had their first event ever in a minute, where that is meant.
pub fn new_users(truth: &Truth, is_meant: impl Fn(&Event) -> bool) -> BTreeMap<MinuteKey, u64> {
    let mut users = BTreeMap::new();
    let by_user = truth.by_user().into_iter();
    for ((app, _), events) in by_user.filter(|(_, events)| is_meant(events[0])) {
        let minute = events[0].time.div_euclid(60_000) * 60_000;
        let key = (app, minute, events[0].dimensions[2].clone());
        *users.entry(key).or_default() += 1;
    }
    users
}

/// When a user has been away for too long.
#[derive(Clone, Copy, Debug)]
pub enum Limit {
    Days(i32),
    TimesUsual(f64),
}

/// app, user: the last active day, and the first on which they are away for too long.
pub type Away = BTreeMap<(String, u64), (i32, i32)>;

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Churn {
    pub away: Away,
    /// app, day, state.
    pub days: BTreeMap<(String, i32, &'static str), u64>,
}

pub fn churn(truth: &Truth, limit: Limit, is_meant: impl Fn(&Event) -> bool) -> Churn {
    let mut churn = Churn::default();
    for ((app, user), active) in days(truth, is_meant) {
        let active: Vec<i32> = active.into_iter().collect();
        for (place, day) in active.iter().enumerate() {
            let Some(days) = too_long(limit, &active[..=place]) else {
                continue;
            };
            let at_risk = day + days + 1;
            let next = active.get(place + 1).copied();
            if next.is_none_or(|next| at_risk <= next) {
                *churn.days.entry((app.clone(), at_risk, "at_risk")).or_default() += 1;
                if let Some(next) = next {
                    *churn.days.entry((app.clone(), next, "returned")).or_default() += 1;
                }
            }
            if next.is_none() {
                churn.away.insert((app.clone(), user), (*day, at_risk));
            }
        }
    }
    churn
}

/// Of somebody with these active days, the last of whose last fifteen pauses' median says what is usual.
fn too_long(limit: Limit, active: &[i32]) -> Option<i32> {
    let times = match limit {
        Limit::Days(days) => return Some(days),
        Limit::TimesUsual(times) => times,
    };
    let mut pauses: Vec<i32> = active.windows(2).map(|pair| pair[1] - pair[0]).collect();
    if pauses.len() < 2 {
        return None;
    }
    pauses.drain(..pauses.len().saturating_sub(15));
    pauses.sort_unstable();
    let middle = pauses.len() / 2;
    let median = match pauses.len() % 2 {
        1 => f64::from(pauses[middle]),
        _ => f64::from(pauses[middle - 1] + pauses[middle]) / 2.0,
    };
    Some((times * median).ceil() as i32)
}
