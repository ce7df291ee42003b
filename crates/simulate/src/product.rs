//! A shop whose users have habits: they come at their hours, look around, and some of them buy.
//!
//! Seeded: the same settings give the same bytes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use fastrand::Rng;
use serde_json::json;

#[derive(Clone, Debug)]
pub struct Settings {
    pub seed: u64,
    pub users: u32,
    /// The time of the first record, in milliseconds since 1970.
    pub start_ms: i64,
    pub events_per_second: f64,
    /// Shares of records that are late (up to ten minutes), repeated, broken, or ahead of their time.
    pub late: f64,
    pub duplicate: f64,
    pub broken: f64,
    pub ahead: f64,
    /// From one instant to before another nobody can pay: no `buy` comes.
    pub payments_broken_ms: Option<(i64, i64)>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            seed: 1,
            users: 20_000,
            start_ms: 1_700_000_000_000,
            events_per_second: 200.0,
            late: 0.01,
            duplicate: 0.005,
            broken: 0.001,
            ahead: 0.001,
            payments_broken_ms: None,
        }
    }
}

/// A record to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    pub user: String,
    pub timestamp_ms: i64,
    pub payload: Vec<u8>,
}

/// Where a user is on their way through the shop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Away,
    Looking,
    Choosing,
    Paying,
}

/// An endless stream of records, in the order of their publication.
pub struct Product {
    settings: Settings,
    random: Rng,
    number: u64,
    places: Vec<Place>,
    /// When each user who is there acts next.
    next_acts: BinaryHeap<Reverse<(i64, usize)>>,
    next_arrival_ms: f64,
    last: Option<Publication>,
}

/// Events of one visit, on average: what the steps below come to.
const EVENTS_PER_VISIT: f64 = 5.0;
/// Who arrives while they are there stands for one of so many others.
const LOOK_AT: usize = 64;
/// Between two events of a visit, on average.
const PAUSE_MS: f64 = 15_000.0;
/// One user in so many has a clock that is wrong, by so much.
const WRONG_CLOCKS: usize = 50;
const WRONG_BY_MS: i64 = 90_000;
const PLATFORMS: [&str; 3] = ["ios", "android", "web"];
const CHANNELS: [&str; 5] = ["", "search", "ads", "social", "mail"];
const COUNTRIES: [&str; 4] = ["CN", "US", "DE", "JP"];

impl Product {
    pub fn new(settings: Settings) -> Product {
        Product {
            random: Rng::with_seed(settings.seed),
            number: 0,
            places: vec![Place::Away; settings.users.max(1) as usize],
            next_acts: BinaryHeap::new(),
            next_arrival_ms: settings.start_ms as f64,
            last: None,
            settings,
        }
    }

    /// Times between what happens by chance are exponential.
    fn pause(&mut self, mean_ms: f64) -> f64 {
        -(1.0 - self.random.f64()).ln() * mean_ms
    }

    /// Whose turn it is, and when: somebody who is there, or somebody who arrives.
    fn next_act(&mut self) -> (i64, usize) {
        loop {
            let arrival = self.next_arrival_ms as i64;
            if let Some(Reverse((at, user))) = self.next_acts.peek().copied()
                && at <= arrival
            {
                self.next_acts.pop();
                return (at, user);
            }
            // More come in the evening than at night, by a factor of three.
            let hour = (self.next_arrival_ms / 3_600_000.0).rem_euclid(24.0);
            let habit = 1.0 + 0.5 * ((hour - 20.0) / 24.0 * std::f64::consts::TAU).cos();
            let mean_ms = 1000.0 * EVENTS_PER_VISIT / (self.settings.events_per_second * habit);
            self.next_arrival_ms += self.pause(mean_ms);
            let first = self.next_user();
            let users = self.places.len();
            let nearest = (0..users.min(LOOK_AT)).map(|step| (first + step) % users);
            if let Some(user) = nearest.into_iter().find(|user| self.places[*user] == Place::Away) {
                return (arrival, user);
            }
        }
    }

    /// A few users come often, most of them seldom: by Zipf's law.
    fn next_user(&mut self) -> usize {
        let users = self.places.len() as f64;
        let rank = ((users + 1.0).ln() * self.random.f64()).exp() - 1.0;
        (rank as usize).min(self.places.len() - 1)
    }

    fn step(&mut self, user: usize, now_ms: i64) -> &'static str {
        let broken = self.settings.payments_broken_ms;
        let can_pay = broken.is_none_or(|(from, until)| !(from..until).contains(&now_ms));
        let chance = self.random.f64();
        let (next, event) = match self.places[user] {
            Place::Away => (Place::Looking, "open"),
            Place::Looking if chance < 0.55 => (Place::Looking, "view"),
            Place::Looking if chance < 0.65 => (Place::Looking, "search"),
            Place::Looking if chance < 0.80 => (Place::Choosing, "cart"),
            Place::Looking => (Place::Away, "view"),
            Place::Choosing if chance < 0.5 => (Place::Choosing, "view"),
            Place::Choosing if chance < 0.8 => (Place::Paying, "checkout"),
            Place::Choosing => (Place::Away, "view"),
            Place::Paying if chance < 0.75 && can_pay => (Place::Away, "buy"),
            Place::Paying => (Place::Away, "view"),
        };
        self.places[user] = next;
        event
    }

    fn payload(&mut self, user: usize, event: &str, now_ms: i64) -> Vec<u8> {
        let mut time = now_ms;
        if user % WRONG_CLOCKS == 1 {
            time += WRONG_BY_MS;
        }
        if self.random.f64() < self.settings.late {
            time -= self.random.i64(1..600_000);
        } else if self.random.f64() < self.settings.ahead {
            time += 86_400_000;
        }
        let broken = self.random.f64() < self.settings.broken;
        let price = f64::from(self.random.u32(100..20_000)) / 100.0;
        let line = json!({
            "message_id": format!("m{}", self.number),
            "app": "shop",
            "event": event,
            "user_id": format!("u{user}"),
            "timestamp": time,
            "platform": PLATFORMS[user % 3],
            "app_version": format!("1.{}", user % 4),
            "channel": CHANNELS[user % 5],
            "country": COUNTRIES[user % 4],
            "properties": { "item_id": self.random.u32(1..5000), "price": price, "plan": if user.is_multiple_of(10) { "pro" } else { "free" } },
        });
        let mut bytes = line.to_string().into_bytes();
        if broken {
            bytes.truncate(bytes.len() / 2);
        }
        bytes
    }
}

impl Iterator for Product {
    type Item = Publication;

    fn next(&mut self) -> Option<Publication> {
        if self.random.f64() < self.settings.duplicate
            && let Some(last) = self.last.clone()
        {
            return Some(last);
        }
        let (now_ms, user) = self.next_act();
        self.number += 1;
        let event = self.step(user, now_ms);
        if self.places[user] != Place::Away {
            let pause = self.pause(PAUSE_MS) as i64;
            self.next_acts.push(Reverse((now_ms + 1 + pause, user)));
        }
        let payload = self.payload(user, event, now_ms);
        let publication = Publication {
            user: format!("u{user}"),
            timestamp_ms: now_ms,
            payload,
        };
        self.last = Some(publication.clone());
        Some(publication)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_bytes() {
        let take = || Product::new(Settings::default()).take(1000).collect::<Vec<_>>();
        assert_eq!(take(), take());
    }

    #[test]
    fn users_come_at_their_hours_and_about_as_often_as_asked() {
        let settings = Settings {
            users: 100_000,
            events_per_second: 5.0,
            ..Settings::default()
        };
        let day_ms = 86_400_000;
        let mut by_hour = [0u32; 24];
        for one in
            Product::new(settings.clone()).take_while(|one| one.timestamp_ms < settings.start_ms + day_ms)
        {
            by_hour[(one.timestamp_ms / 3_600_000 % 24) as usize] += 1;
        }
        let rate = f64::from(by_hour.iter().sum::<u32>()) / 86_400.0;
        assert!((3.5..6.5).contains(&rate), "{rate} events a second");
        assert!(by_hour[20] > 2 * by_hour[8], "{by_hour:?}");
    }
}
