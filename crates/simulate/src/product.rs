//! A shop whose users have habits: they come at their hours, look around, and some of them buy.
//!
//! Seeded: the same settings give the same bytes.

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
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            seed: 1,
            users: 5000,
            start_ms: 1_700_000_000_000,
            events_per_second: 200.0,
            late: 0.01,
            duplicate: 0.005,
            broken: 0.001,
            ahead: 0.001,
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
    now_ms: f64,
    number: u64,
    places: Vec<Place>,
    last: Option<Publication>,
}

const PLATFORMS: [&str; 3] = ["ios", "android", "web"];
const CHANNELS: [&str; 5] = ["", "search", "ads", "social", "mail"];
const COUNTRIES: [&str; 4] = ["CN", "US", "DE", "JP"];

impl Product {
    pub fn new(settings: Settings) -> Product {
        Product {
            random: Rng::with_seed(settings.seed),
            now_ms: settings.start_ms as f64,
            number: 0,
            places: vec![Place::Away; settings.users.max(1) as usize],
            last: None,
            settings,
        }
    }

    /// A few users come often, most of them seldom: by Zipf's law.
    fn next_user(&mut self) -> usize {
        let users = self.places.len() as f64;
        let rank = ((users + 1.0).ln() * self.random.f64()).exp() - 1.0;
        (rank as usize).min(self.places.len() - 1)
    }

    fn step(&mut self, user: usize) -> &'static str {
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
            Place::Paying if chance < 0.75 => (Place::Away, "buy"),
            Place::Paying => (Place::Away, "view"),
        };
        self.places[user] = next;
        event
    }

    fn payload(&mut self, user: usize, event: &str) -> Vec<u8> {
        let mut time = self.now_ms as i64;
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
        // Pauses between arrivals are exponential.
        self.now_ms += -(1.0 - self.random.f64()).ln() * 1000.0 / self.settings.events_per_second;
        self.number += 1;
        let user = self.next_user();
        let event = self.step(user);
        let payload = self.payload(user, event);
        let publication = Publication {
            user: format!("u{user}"),
            timestamp_ms: self.now_ms as i64,
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
}
