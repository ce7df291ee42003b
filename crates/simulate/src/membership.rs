//! Points, levels and badges, day by day, straight from the words of the documentation.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Event, Truth};

/// Which events give or take how many points, and how many a day at most.
pub struct Rule {
    pub name: &'static str,
    pub points: fn(&Event) -> u64,
    pub daily_cap: Option<u64>,
    pub is_spent: bool,
}

/// app, day, kind, rule.
pub type PointKey = (String, i32, &'static str, &'static str);

/// What a user earned and spent in all, what is left when the last day is over, and what of it is gone on which day.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    pub earned: u64,
    pub spent: u64,
    pub balance: i64,
    pub going: BTreeMap<i32, u64>,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Points {
    /// So many points, of so many users.
    pub days: BTreeMap<PointKey, (u64, u64)>,
    pub users: BTreeMap<(String, u64), Account>,
}

/// What each rule gave or took on a day, with the caps.
fn sums(truth: &Truth, rules: &[Rule], events: &[&Event]) -> BTreeMap<i32, Vec<u64>> {
    let mut days: BTreeMap<i32, Vec<u64>> = BTreeMap::new();
    for event in events {
        for (place, rule) in rules.iter().enumerate() {
            let points = (rule.points)(event);
            if points > 0 {
                let sums = days.entry(truth.day(event.time));
                sums.or_insert_with(|| vec![0; rules.len()])[place] += points;
            }
        }
    }
    for (place, rule) in rules.iter().enumerate() {
        let caps = days.values_mut().zip(std::iter::repeat(rule.daily_cap));
        caps.for_each(|(sums, cap)| sums[place] = cap.map_or(sums[place], |cap| cap.min(sums[place])));
    }
    days
}

/// What is there of what was earned on which day, and what is owed.
#[derive(Default)]
struct Purse {
    earned: BTreeMap<i32, u64>,
    owed: u64,
}

impl Purse {
    /// What was earned so many days ago is gone.
    fn expire(&mut self, day: i32, expiry_days: Option<i32>) -> u64 {
        let gone = expiry_days.and_then(|days| self.earned.remove(&(day - days)));
        gone.unwrap_or(0)
    }

    fn earn(&mut self, day: i32, points: u64) {
        let pays = points.min(self.owed);
        self.owed -= pays;
        *self.earned.entry(day).or_default() += points - pays;
    }

    fn spend(&mut self, points: u64) {
        self.owed += points;
        for left in self.earned.values_mut() {
            let pays = self.owed.min(*left);
            *left -= pays;
            self.owed -= pays;
        }
    }

    fn balance(&self) -> i64 {
        self.earned.values().sum::<u64>() as i64 - self.owed as i64
    }
}

/// What was earned, spent and gone, with what is earned being there for so many days.
pub fn points(truth: &Truth, rules: &[Rule], expiry_days: Option<i32>) -> Points {
    let mut points = Points::default();
    for ((app, user), events) in truth.by_user() {
        let days = sums(truth, rules, &events);
        let (Some(first), Some(last)) = (days.keys().next().copied(), days.keys().last().copied()) else {
            continue;
        };
        let mut put = |day: i32, kind, rule, amount: u64| {
            if amount > 0 {
                let sum = points.days.entry((app.clone(), day, kind, rule)).or_default();
                *sum = (sum.0 + amount, sum.1 + 1);
            }
        };
        let mut purse = Purse::default();
        let mut account = Account::default();
        for day in first..=last {
            put(day, "expired", "", purse.expire(day, expiry_days));
            let Some(sums) = days.get(&day) else { continue };
            for (rule, sum) in rules.iter().zip(sums).filter(|(rule, _)| !rule.is_spent) {
                put(day, "earned", rule.name, *sum);
                purse.earn(day, *sum);
                account.earned += sum;
            }
            for (rule, sum) in rules.iter().zip(sums).filter(|(rule, _)| rule.is_spent) {
                put(day, "spent", rule.name, *sum);
                purse.spend(*sum);
                account.spent += sum;
            }
        }
        account.balance = purse.balance();
        if let Some(expiry_days) = expiry_days {
            let going = purse.earned.iter().filter(|(_, left)| **left > 0);
            account.going = going.map(|(day, left)| (day + expiry_days, *left)).collect();
            for (day, left) in &account.going {
                put(*day, "expired", "", *left);
            }
        }
        points.users.insert((app, user), account);
    }
    points
}

/// A level that is paid for, from a start on: for so many days, or until an end.
pub struct Offer {
    pub rank: u8,
    pub start: &'static str,
    pub end: &'static str,
    pub days: Option<i32>,
}

pub struct Ladder<'r> {
    /// Which points count; of what is spent none where all that was earned does.
    pub rules: &'r [Rule],
    pub days: Option<i32>,
    /// Of each level, if it is reached by points.
    pub thresholds: Vec<Option<i64>>,
    pub protection_days: i32,
    pub offers: Vec<Offer>,
}

/// app, user, day: from which level to which, 0 being none.
pub type Steps = BTreeMap<(String, u64, i32), (u8, u8)>;

pub fn levels(truth: &Truth, ladder: &Ladder<'_>) -> Steps {
    let mut steps = Steps::new();
    for ((app, user), events) in truth.by_user() {
        let days = sums(truth, ladder.rules, &events);
        let (first, last) = (
            truth.day(events[0].time),
            truth.day(events[events.len() - 1].time),
        );
        let longest = ladder
            .offers
            .iter()
            .filter_map(|offer| offer.days)
            .max()
            .unwrap_or(0);
        let starts = events.iter().filter(|event| {
            let mut offers = ladder.offers.iter();
            offers.any(|offer| offer.start == event.event)
        });
        let paid = longest * starts.count() as i32;
        let until = last + ladder.days.unwrap_or(0) + ladder.protection_days + paid + 2;
        let mut purse = Purse::default();
        let mut met: Vec<u8> = Vec::new();
        let mut level = 0;
        for day in first..=until {
            purse.expire(day, ladder.days);
            for (rule, sum) in ladder.rules.iter().zip(days.get(&day).into_iter().flatten()) {
                match rule.is_spent {
                    true => purse.spend(*sum),
                    false => purse.earn(day, *sum),
                }
            }
            let is_met = |at: &Option<i64>| at.is_some_and(|at| purse.balance() >= at);
            let highest = ladder.thresholds.iter().rposition(is_met);
            met.push(highest.map_or(0, |rank| rank as u8 + 1));
            let protected = met.iter().rev().take(ladder.protection_days as usize + 1);
            let paid = ladder
                .offers
                .iter()
                .filter(|offer| is_paid(truth, offer, &events, day));
            let now = protected
                .copied()
                .chain(paid.map(|offer| offer.rank))
                .max()
                .unwrap_or(0);
            if now != level {
                steps.insert((app.clone(), user, day), (level, now));
            }
            level = now;
        }
    }
    steps
}

/// Whether an offer is paid for when a day ends.
fn is_paid(truth: &Truth, offer: &Offer, events: &[&Event], today: i32) -> bool {
    let mut until = i32::MIN;
    for event in events {
        let day = truth.day(event.time);
        if day > today {
            break;
        }
        if event.event == offer.start {
            until = offer.days.map_or(i32::MAX, |days| day.max(until) + days);
        } else if event.event == offer.end {
            until = day.min(until);
        }
    }
    until > today
}

/// What a badge is for.
#[derive(Clone, Copy, Debug)]
pub enum Wanted {
    Events(usize),
    DaysInARow(usize),
    Sum(f64, fn(&Event) -> f64),
}

/// app, user: the day at whose end they had it first.
pub fn badges(
    truth: &Truth,
    wanted: Wanted,
    is_meant: impl Fn(&Event) -> bool,
) -> BTreeMap<(String, u64), i32> {
    let mut badges = BTreeMap::new();
    for ((app, user), events) in truth.by_user() {
        let events: Vec<&Event> = events.into_iter().filter(|event| is_meant(event)).collect();
        let days: BTreeSet<i32> = events.iter().map(|event| truth.day(event.time)).collect();
        let has_it = |today: i32| {
            let so_far = events.iter().filter(|event| truth.day(event.time) <= today);
            match wanted {
                Wanted::Events(count) => so_far.count() >= count,
                Wanted::DaysInARow(count) => {
                    (today - count as i32 + 1..=today).all(|day| days.contains(&day))
                }
                Wanted::Sum(sum, of) => so_far.map(|event| of(event)).sum::<f64>() >= sum - 1e-7,
            }
        };
        if let Some(day) = days.iter().copied().find(|day| has_it(*day)) {
            badges.insert((app, user), day);
        }
    }
    badges
}
