//! Which records are events, and the numbers that need no more than sets of them.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hasher;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;
use siphasher::sip::SipHasher24;

/// A record as it lies in a log; within a partition in the order of offsets.
#[derive(Clone, Debug)]
pub struct Record {
    pub partition: i32,
    pub offset: i64,
    /// The Kafka timestamp, in milliseconds.
    pub timestamp: Option<i64>,
    pub payload: Vec<u8>,
}

/// What the judging of records depends on.
#[derive(Clone, Debug)]
pub struct Rules {
    pub zone: String,
    pub lateness_ms: i64,
    /// In the order of the log.
    pub lateness_changes: Vec<LatenessChange>,
    pub skew_ms: i64,
    /// How long before its first link what a device did is its user's; none: devices are users of their own.
    pub link_within_ms: Option<i64>,
    pub drops: Vec<Dropped>,
}

/// Another lateness, from an offset of a partition on. What was late before stays late.
#[derive(Clone, Copy, Debug)]
pub struct LatenessChange {
    pub partition: i32,
    pub from: i64,
    pub lateness_ms: i64,
}

/// Events that are not counted, from an offset of a partition on.
#[derive(Clone, Debug)]
pub struct Dropped {
    pub partition: i32,
    pub from: i64,
    pub which: Which,
}

/// Which events.
#[derive(Clone, Debug)]
pub enum Which {
    Named(String),
    OfUser(u64),
}

impl Dropped {
    fn is_from(&self, record: &Record) -> bool {
        record.partition == self.partition && record.offset >= self.from
    }

    fn fits(&self, record: &Record, event: &Event) -> bool {
        let is_meant = match &self.which {
            Which::Named(name) => event.event == *name,
            Which::OfUser(user) => event.user == *user || event.own == *user,
        };
        self.is_from(record) && is_meant
    }
}

/// An accepted event.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Where its record lies.
    pub partition: i32,
    pub offset: i64,
    pub app: String,
    pub event: String,
    pub user: u64,
    /// The user that the event itself names, be it as a device.
    own: u64,
    /// It names a device, beside its user or alone.
    device: Option<u64>,
    /// By a user's id.
    pub names_user: bool,
    pub time: i64,
    pub session_id: String,
    /// platform, app_version, channel, campaign, country
    pub dimensions: [String; 5],
    pub properties: Value,
    message_id: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    pub read: u64,
    pub accepted: u64,
    pub duplicate: u64,
    pub late: u64,
    pub rejected: u64,
    pub dropped: u64,
    pub ahead: u64,
}

/// The accepted events of a partition, and the newest time of each message id among them.
#[derive(Default)]
struct Accepted {
    events: Vec<Event>,
    messages: BTreeMap<(String, u64, String), i64>,
    /// By app and device: when which user was seen on it, from the first on, in the order of time.
    links: BTreeMap<(String, u64), Vec<(i64, u64)>>,
    /// The ids that events named as users', by app.
    named: BTreeSet<(String, u64)>,
    /// How many changes of the lateness there were, and from when on events of each app that had any were accepted then.
    changes: usize,
    late_before: BTreeMap<String, i64>,
}

impl Accepted {
    /// Since when events of an app are accepted.
    fn accepts_from(&self, app: &str, lateness_ms: i64, watermark: Option<i64>) -> i64 {
        let late_before = self.late_before.get(app).copied().unwrap_or(i64::MIN);
        watermark.map_or(i64::MIN, |watermark| (watermark - lateness_ms).max(late_before))
    }

    /// The lateness that holds for a record.
    fn lateness_ms(&mut self, record: &Record, rules: &Rules, watermark: Option<i64>) -> i64 {
        let mut lateness_ms = rules.lateness_ms;
        let of_partition = |change: &&LatenessChange| change.partition == record.partition;
        let changes = rules.lateness_changes.iter().filter(of_partition);
        let entered = changes.take_while(|change| change.from <= record.offset);
        for (number, change) in entered.enumerate() {
            if number == self.changes {
                let apps: BTreeSet<String> = self.events.iter().map(|event| event.app.clone()).collect();
                for app in apps {
                    let from = self.accepts_from(&app, lateness_ms, watermark);
                    self.late_before.insert(app, from);
                }
                self.changes += 1;
            }
            lateness_ms = change.lateness_ms;
        }
        lateness_ms
    }

    /// Whose an event is, as far as is known when it comes.
    fn owner(&self, event: &Event, link_within_ms: i64) -> u64 {
        let links = self.links.get(&(event.app.clone(), event.own));
        let Some(links) = links.filter(|_| !event.names_user) else {
            return event.own;
        };
        let last = links.iter().rfind(|(since, _)| *since <= event.time);
        let (first, user) = links[0];
        match last {
            Some((_, user)) => *user,
            None if event.time >= first - link_within_ms => user,
            None => event.own,
        }
    }

    /// An accepted event that names both says whose the device is.
    fn link(&mut self, event: &Event, link_within_ms: i64, is_forgotten: bool) {
        let Some(device) = event
            .device
            .filter(|device| event.names_user && *device != event.own)
        else {
            return;
        };
        let key = (event.app.clone(), device);
        if let Some(links) = self.links.get_mut(&key) {
            let (since, last) = links[links.len() - 1];
            if since <= event.time && last != event.own {
                links.push((event.time, event.own));
            }
            return;
        }
        if self.named.contains(&key) {
            return;
        }
        self.links.insert(key, vec![(event.time, event.own)]);
        let since = event.time - link_within_ms;
        let moves = |other: &&mut Event| {
            other.app == event.app && other.user == device && !other.names_user && other.time >= since
        };
        for moved in self.events.iter_mut().filter(moves).filter(|_| !is_forgotten) {
            moved.user = event.own;
            let message = (moved.app.clone(), event.own, moved.message_id.clone());
            let newest = self.messages.entry(message).or_insert(moved.time);
            *newest = moved.time.max(*newest);
        }
    }
}

/// Everything that is true of some records.
pub struct Truth {
    /// In the order of time, then of the log.
    pub events: Vec<Event>,
    pub accounts: BTreeMap<i32, Account>,
    pub watermarks: BTreeMap<i32, i64>,
    zone: TimeZone,
}

/// app, event, minute, platform, channel.
pub type CountKey = (String, String, i64, String, String);

impl Truth {
    pub fn new(records: &[Record], rules: &Rules) -> Truth {
        let mut truth = Truth {
            events: Vec::new(),
            accounts: BTreeMap::new(),
            watermarks: BTreeMap::new(),
            zone: TimeZone::get(&rules.zone).unwrap_or(TimeZone::UTC),
        };
        let mut accepted: BTreeMap<i32, Accepted> = BTreeMap::new();
        for record in records {
            let before = accepted.entry(record.partition).or_default();
            truth.judge(record, rules, before);
        }
        truth.events = accepted
            .into_values()
            .flat_map(|accepted| accepted.events)
            .collect();
        truth.events.sort_by_key(|event| event.time);
        truth
    }

    fn judge(&mut self, record: &Record, rules: &Rules, accepted: &mut Accepted) {
        let watermark = self.watermarks.get(&record.partition).copied();
        let lateness_ms = accepted.lateness_ms(record, rules, watermark);
        let account = self.accounts.entry(record.partition).or_default();
        account.read += 1;
        let Some(mut event) = parse(record) else {
            account.rejected += 1;
            return;
        };
        if let Some(sent) = record.timestamp
            && event.time > sent + rules.skew_ms
        {
            event.time = sent;
            account.ahead += 1;
        }
        if rules.drops.iter().any(|drop| drop.fits(record, &event)) {
            account.dropped += 1;
            return;
        }
        if let Some(link_within_ms) = rules.link_within_ms {
            event.user = accepted.owner(&event, link_within_ms);
        }
        let cutoff = accepted.accepts_from(&event.app, lateness_ms, watermark);
        // Whose it is is asked when it is not too late.
        if event.time >= cutoff && rules.drops.iter().any(|drop| drop.fits(record, &event)) {
            account.dropped += 1;
            return;
        }
        self.watermarks.insert(
            record.partition,
            watermark.map_or(event.time, |known| known.max(event.time)),
        );
        let message = (event.app.clone(), event.user, event.message_id.clone());
        let is_duplicate = !event.message_id.is_empty()
            && accepted
                .messages
                .get(&message)
                .is_some_and(|time| *time >= cutoff);
        if event.time < cutoff {
            account.late += 1;
        } else if is_duplicate {
            account.duplicate += 1;
        } else {
            account.accepted += 1;
            let newest = accepted.messages.entry(message).or_insert(event.time);
            *newest = event.time.max(*newest);
            if let Some(link_within_ms) = rules.link_within_ms {
                let is_forgotten = |drop: &Dropped| {
                    drop.is_from(record)
                        && matches!(drop.which, Which::OfUser(user) if Some(user) == event.device)
                };
                accepted.link(&event, link_within_ms, rules.drops.iter().any(is_forgotten));
                if event.names_user {
                    accepted.named.insert((event.app.clone(), event.own));
                }
            }
            accepted.events.push(event);
        }
    }

    /// Days since 1970 of the local day of an instant.
    pub fn day(&self, time: i64) -> i32 {
        let local = self
            .zone
            .to_datetime(Timestamp::from_millisecond(time).unwrap_or(Timestamp::UNIX_EPOCH));
        (local.date() - jiff::civil::date(1970, 1, 1)).get_days()
    }

    /// The instant at which the local hour of an instant began.
    pub fn hour(&self, time: i64) -> i64 {
        let at = Timestamp::from_millisecond(time).unwrap_or(Timestamp::UNIX_EPOCH);
        let local = self.zone.to_datetime(at);
        let into = i64::from(local.minute()) * 60_000
            + i64::from(local.second()) * 1000
            + i64::from(local.millisecond());
        time - into
    }

    /// How often each event happened, and who did it.
    pub fn event_counts(&self) -> BTreeMap<CountKey, (u64, BTreeSet<u64>)> {
        let mut counts: BTreeMap<CountKey, (u64, BTreeSet<u64>)> = BTreeMap::new();
        for event in &self.events {
            let minute = event.time.div_euclid(60_000) * 60_000;
            let [platform, _, channel, _, _] = event.dimensions.clone();
            let count = counts
                .entry((event.app.clone(), event.event.clone(), minute, platform, channel))
                .or_default();
            count.0 += 1;
            count.1.insert(event.user);
        }
        counts
    }

    /// Who was active in each app, by local day.
    pub fn daily_users(&self) -> BTreeMap<(String, i32), BTreeSet<u64>> {
        let mut days: BTreeMap<(String, i32), BTreeSet<u64>> = BTreeMap::new();
        for event in &self.events {
            days.entry((event.app.clone(), self.day(event.time)))
                .or_default()
                .insert(event.user);
        }
        days
    }

    /// Users of an app with such an event in the last `slices` slices of `slice_ms`, the one of `at` included.
    pub fn rolling_users(
        &self,
        app: &str,
        at: i64,
        (slice_ms, slices): (i64, i64),
        is_meant: impl Fn(&Event) -> bool,
    ) -> usize {
        let last = at.div_euclid(slice_ms);
        let in_window = |event: &&Event| {
            event.app == app && (last - slices + 1..=last).contains(&event.time.div_euclid(slice_ms))
        };
        self.events
            .iter()
            .filter(in_window)
            .filter(|event| is_meant(event))
            .map(|event| event.user)
            .collect::<BTreeSet<_>>()
            .len()
    }

    /// Each user's events, in order.
    pub fn by_user(&self) -> BTreeMap<(String, u64), Vec<&Event>> {
        let mut users: BTreeMap<(String, u64), Vec<&Event>> = BTreeMap::new();
        for event in &self.events {
            users
                .entry((event.app.clone(), event.user))
                .or_default()
                .push(event);
        }
        users
    }
}

fn name(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    }
}

/// In bytes; what is larger is no event.
const LARGEST: usize = 1 << 20;

fn parse(record: &Record) -> Option<Event> {
    if record.payload.len() > LARGEST {
        return None;
    }
    let value: Value = serde_json::from_slice(&record.payload).ok()?;
    value.as_object()?;
    let text = |field: &str| name(&value[field]);
    let (user_id, device) = (text("user_id"), text("anonymous_id"));
    let user = if user_id.is_empty() { &device } else { &user_id };
    let time = match &value["timestamp"] {
        Value::Number(number) => number
            .as_i64()
            .or(number.as_f64().map(|float| float.floor() as i64))?,
        Value::String(text) => text.parse::<Timestamp>().ok()?.as_millisecond(),
        _ => return None,
    };
    let event = Event {
        partition: record.partition,
        offset: record.offset,
        app: text("app"),
        event: text("event"),
        user: hash(user),
        own: hash(user),
        device: (!device.is_empty()).then(|| hash(&device)),
        names_user: !user_id.is_empty(),
        time,
        session_id: text("session_id"),
        dimensions: ["platform", "app_version", "channel", "campaign", "country"].map(text),
        properties: value["properties"].clone(),
        message_id: text("message_id"),
    };
    let is_event = !event.app.is_empty()
        && !event.event.is_empty()
        && !user.is_empty()
        && (0..4_102_444_800_000).contains(&event.time);
    is_event.then_some(event)
}

/// A user's number under the published key.
pub fn hash(user: &str) -> u64 {
    let mut hasher = SipHasher24::new_with_keys(0, 0);
    hasher.write(user.as_bytes());
    hasher.finish()
}
