//! A behaviour as a line of JSON, or as a datum of Cambium's own schema: about 300 bytes, and about 150.

use std::io::Write;

use anyhow::{Context, Result, ensure};
use apache_avro::{Schema, from_avro_datum};
use cambium_event::{EVENT_SCHEMA, Format};
use clap::ValueEnum;

use super::{Behaviour, EVENTS_PER_SECOND, Settings, Traffic};
use crate::{avro, to_avro};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Encoding {
    Json,
    Avro,
}

impl Encoding {
    pub fn name(self) -> &'static str {
        match self {
            Encoding::Json => "json",
            Encoding::Avro => "avro",
        }
    }

    pub fn format(self) -> Format {
        match self {
            Encoding::Json => Format::Json,
            Encoding::Avro => avro(),
        }
    }

    /// Writes an event behind what is in `out`.
    pub fn write(self, behaviour: &Behaviour, out: &mut Vec<u8>) {
        match self {
            Encoding::Json => Details::of(behaviour).write_json(out),
            Encoding::Avro => Details::of(behaviour).write_avro(out),
        }
    }
}

/// Spreads numbers that follow each other over all numbers: splitmix64. One to one.
fn scatter(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Picks by some bits of a scattered number; what stands in a list more than once is picked more often.
fn pick(from: u64, shift: u32, list: &[&'static str]) -> &'static str {
    list[(from >> shift) as usize % list.len()]
}

const PLATFORMS: [&str; 5] = ["ios", "ios", "android", "android", "web"];
const VERSIONS: [&str; 6] = ["6.4.1", "6.4.1", "6.4.1", "6.4.0", "6.3.2", "5.9.8"];
const CHANNELS: [&str; 8] = [
    "organic", "organic", "search", "search", "social", "push", "ads", "referral",
];
const COUNTRIES: [&str; 10] = ["CN", "CN", "CN", "US", "US", "DE", "JP", "BR", "IN", "FR"];
const CATEGORIES: [&str; 6] = ["shoes", "books", "garden", "toys", "kitchen", "music"];
const PAGES: [&str; 4] = ["home", "list", "detail", "basket"];
const NETWORKS: [&str; 3] = ["wifi", "5g", "4g"];
const VARIANTS: [&str; 2] = ["a", "b"];

/// The id of the user of this rank, which does not show the rank.
pub fn user_id(rank: u32) -> String {
    format!("u{:08x}", rank.wrapping_mul(2_654_435_761))
}

/// All that an event says. What is the user's own stays with the user.
struct Details {
    message_id: u64,
    event: &'static str,
    user: String,
    time_ms: i64,
    platform: &'static str,
    app_version: &'static str,
    channel: &'static str,
    country: &'static str,
    item_id: u64,
    shelf: &'static str,
    price_cents: u64,
    count: u64,
    rank: u64,
    page: &'static str,
    net: &'static str,
    ab: &'static str,
}

impl Details {
    fn of(behaviour: &Behaviour) -> Details {
        let own = scatter(u64::from(behaviour.user));
        let once = scatter(behaviour.number);
        Details {
            message_id: once,
            event: behaviour.step.name(),
            user: user_id(behaviour.user),
            time_ms: behaviour.time_ms,
            platform: pick(own, 0, &PLATFORMS),
            app_version: pick(own, 8, &VERSIONS),
            channel: pick(own, 16, &CHANNELS),
            country: pick(own, 24, &COUNTRIES),
            item_id: 1_000_000 + once % 50_000,
            shelf: pick(once, 16, &CATEGORIES),
            price_cents: 99 + (once >> 8) % 50_000,
            count: 1 + (once >> 24) % 3,
            rank: (once >> 32) % 40,
            page: pick(once, 40, &PAGES),
            net: pick(own, 32, &NETWORKS),
            ab: pick(own, 40, &VARIANTS),
        }
    }

    fn write_json(&self, out: &mut Vec<u8>) {
        write!(
            out,
            r#"{{"message_id":"{:016x}","app":"shop","event":"{}","user_id":"{}","timestamp":{},"platform":"{}","app_version":"{}","channel":"{}","country":"{}","properties":{{"item_id":{},"shelf":"{}","price":{}.{:02},"count":{},"rank":{},"page":"{}","net":"{}","ab":"{}"}}}}"#,
            self.message_id,
            self.event,
            self.user,
            self.time_ms,
            self.platform,
            self.app_version,
            self.channel,
            self.country,
            self.item_id,
            self.shelf,
            self.price_cents / 100,
            self.price_cents % 100,
            self.count,
            self.rank,
            self.page,
            self.net,
            self.ab,
        )
        .expect("a vector takes all");
    }

    /// The fields in the order of `schemas/events/event.avsc`. Numbers before unions are the branch.
    fn write_avro(&self, out: &mut Vec<u8>) {
        let mut datum = Datum(out);
        datum.some_text(&format!("{:016x}", self.message_id));
        datum.text("shop");
        datum.text(self.event);
        datum.some_text(&self.user);
        datum.null(); // anonymous_id
        datum.long(self.time_ms);
        datum.null(); // session_id
        datum.some_text(self.platform);
        datum.some_text(self.app_version);
        datum.some_text(self.channel);
        datum.null(); // campaign
        datum.some_text(self.country);
        datum.long(8);
        datum.long_property("item_id", self.item_id);
        datum.text_property("shelf", self.shelf);
        datum.double_property("price", self.price_cents as f64 / 100.0);
        datum.long_property("count", self.count);
        datum.long_property("rank", self.rank);
        datum.text_property("page", self.page);
        datum.text_property("net", self.net);
        datum.text_property("ab", self.ab);
        datum.long(0);
    }
}

/// The binary form of Avro, as far as it is needed.
struct Datum<'o>(&'o mut Vec<u8>);

impl Datum<'_> {
    fn long(&mut self, value: i64) {
        let mut left = ((value << 1) ^ (value >> 63)) as u64;
        while left >= 0x80 {
            self.0.push(left as u8 | 0x80);
            left >>= 7;
        }
        self.0.push(left as u8);
    }

    fn text(&mut self, text: &str) {
        self.long(text.len() as i64);
        self.0.extend_from_slice(text.as_bytes());
    }

    fn null(&mut self) {
        self.long(0);
    }

    fn some_text(&mut self, text: &str) {
        self.long(1);
        self.text(text);
    }

    fn long_property(&mut self, name: &str, value: u64) {
        self.text(name);
        self.long(2);
        self.long(value as i64);
    }

    fn double_property(&mut self, name: &str, value: f64) {
        self.text(name);
        self.long(3);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn text_property(&mut self, name: &str, value: &str) {
        self.text(name);
        self.long(4);
        self.text(value);
    }
}

/// Whether the encoder above says what the library of the format reads, and the same as the line of JSON.
pub fn check_avro() -> Result<()> {
    let schema = Schema::parse_str(EVENT_SCHEMA)?;
    let settings = Settings {
        seed: 1,
        events: 1_000,
        users: 100,
        events_per_second: EVENTS_PER_SECOND,
        end_ms: 1_700_000_000_000,
    };
    for behaviour in Traffic::new(settings) {
        let (mut line, mut datum) = (Vec::new(), Vec::new());
        Encoding::Json.write(&behaviour, &mut line);
        Encoding::Avro.write(&behaviour, &mut datum);
        let read = |mut bytes: &[u8]| {
            let value = from_avro_datum(&schema, &mut bytes, None).context("the datum cannot be read")?;
            ensure!(bytes.is_empty(), "something is left behind the datum");
            anyhow::Ok(value)
        };
        let (fast, by_library) = (read(&datum)?, read(&to_avro(&line)?)?);
        ensure!(fast == by_library, "{fast:?}\nis not\n{by_library:?}");
    }
    Ok(())
}
