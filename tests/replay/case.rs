//! One random case: a configuration, records in some order, and the truth of them.

use std::path::PathBuf;

use cambium::Processors;
use cambium::config::Config;
use cambium_engine::{HashKey, Partition, Setup, Topic};
use cambium_simulate::funnel::{ByStep, Exclude, Funnel, Order, Step};
use cambium_simulate::sessions::Rules as SessionRules;
use cambium_simulate::{Record, Rules};
use fastrand::Rng;

use super::people::People;

pub const MINUTE: i64 = 60_000;
pub const HOUR: i64 = 60 * MINUTE;
/// 2023-11-15T00:00:00Z, at night in no zone that is used.
const START: i64 = 1_700_006_400_000;

/// What a configuration says of counting.
#[track_caller]
pub fn setup(text: &str) -> Setup {
    let config = Config::parse(text, PathBuf::new());
    config.unwrap_or_else(|error| panic!("{error:#}\n{text}")).setup
}

/// A partition of which nothing was read yet.
pub fn begin(partition: i32, setup: &Setup) -> Partition<Processors> {
    let topic = Topic {
        name: "t".to_owned(),
        partition,
    };
    Partition::new(topic, 0, 0, setup.clone(), HashKey::default()).unwrap()
}

pub struct Case {
    pub configuration: String,
    pub rules: Rules,
    pub sessions: SessionRules,
    pub funnels: Vec<Funnel>,
    /// None: they are not counted.
    pub people: Option<People>,
    pub records: Vec<Record>,
    pub partitions: i32,
    /// A user of whom nothing is held that is theirs alone.
    pub forgotten: Option<u64>,
    /// From some offset on unique users are counted otherwise: beside what was, which stays.
    pub is_upgraded: bool,
}

impl Case {
    pub fn new(random: &mut Rng) -> Case {
        let zone = ["UTC", "Asia/Shanghai", "America/New_York", "Asia/Kolkata"][random.usize(..4)];
        let lateness_ms = [2 * HOUR, 6 * HOUR, 24 * HOUR][random.usize(..3)];
        // Drawn aside, so that the cases of earlier seeds stay what they are.
        let mut of_devices = Rng::with_seed(random.clone().u64(..));
        let link_within_ms = match of_devices.u8(..3) {
            0 => Some([HOUR, 12 * HOUR, 72 * HOUR][of_devices.usize(..3)]),
            _ => None,
        };
        let rules = Rules {
            zone: zone.to_owned(),
            lateness_ms,
            lateness_changes: Vec::new(),
            skew_ms: 5 * MINUTE,
            link_within_ms,
            drops: Vec::new(),
        };
        // Drawn aside, so that the cases of earlier seeds stay what they are.
        let mut aside = random.clone();
        let (people_text, people) = People::new(&mut aside);
        let (week_start, people_text) = people_text.split_once('|').unwrap();
        let pace = [1, 1, 12, 60][aside.usize(..4)];
        let (session_text, sessions) = session_rules(random);
        let mut configuration = format!(
            "[app.s]\ntime_zone = \"{zone}\"\n[app.t]\ntime_zone = \"{zone}\"\n\
             [[unique]]\nname = \"rich\"\nevent = [\"a\", \"b\", \"x\", \"h\"]\nwhere = \"properties.price >= 2.5\"\nby = [\"plan\"]\n\
             [time]\n{}{week_start}[session]\n{session_text}",
            lateness(lateness_ms / HOUR)
        );
        let mut funnels = Vec::new();
        for number in 0..3 {
            let (text, funnel) = funnel(random);
            configuration += &format!("[[funnel]]\nname = \"f{number}\"\n{text}");
            funnels.push(funnel);
        }
        configuration += people_text;
        if let Some(ms) = link_within_ms {
            configuration += &format!("[identity]\nlink_within = \"{} h\"\n", ms / HOUR);
        }
        let partitions = random.i32(1..=3);
        Case {
            configuration,
            rules,
            sessions,
            funnels,
            people: Some(people),
            records: records(
                random,
                partitions,
                lateness_ms,
                pace,
                link_within_ms.map(|_| of_devices),
            ),
            partitions,
            forgotten: None,
            is_upgraded: false,
        }
    }
}

impl Case {
    /// The configuration with another lateness.
    pub fn with_lateness(&self, configuration: &str, hours: i64) -> String {
        let now = lateness(self.rules.lateness_ms / HOUR);
        assert!(configuration.contains(&now));
        configuration.replace(&now, &lateness(hours))
    }
}

fn lateness(hours: i64) -> String {
    format!("lateness = \"{hours} h\"\n")
}

fn session_rules(random: &mut Rng) -> (String, SessionRules) {
    let mut rules = SessionRules {
        gap_inclusive: random.bool(),
        ..SessionRules::default()
    };
    let mut text = format!("gap_inclusive = {}\n", rules.gap_inclusive);
    if random.u8(..4) == 0 {
        rules.max_length_ms = Some(HOUR);
        text += "max_length = \"1 h\"\n";
    }
    if random.u8(..4) == 0 {
        rules.cut_at_midnight = true;
        text += "cut_at_midnight = true\n";
    }
    if random.u8(..4) == 0 {
        rules.ignore = vec!["h".to_owned()];
        text += "ignore = [\"h\"]\n";
    }
    if random.u8(..4) == 0 {
        rules.client_ids = true;
        text += "id = \"client\"\n";
    }
    // Drawn aside, so that the cases of earlier seeds stay what they are.
    if random.clone().bool() {
        rules.page = Some(("b".to_owned(), "plan".to_owned()));
        text += "page = { event = \"b\", property = \"plan\" }\n";
    }
    (text, rules)
}

pub fn funnel(random: &mut Rng) -> (String, Funnel) {
    let order = [Order::InOrder, Order::Strict, Order::Any][random.usize(..3)];
    let within_ms = [Some(HOUR), Some(3 * HOUR), None][random.usize(..3)];
    let by_platform = random.bool();
    let by_step = [
        ByStep::First,
        ByStep::First,
        ByStep::Last,
        ByStep::Every,
        ByStep::Number(2),
    ][random.usize(..5)];
    // Where an event could do one step or another, which of them it does is seen in slices of later
    // steps alone; nothing says which. There the steps are of different events.
    let is_plain = by_platform && by_step != ByStep::First;
    let mut names = ["a", "b", "c"];
    random.shuffle(&mut names);
    let count = if is_plain {
        random.usize(2..=3)
    } else {
        random.usize(2..=4)
    };
    let mut funnel = Funnel {
        steps: Vec::new(),
        within_ms,
        order,
        ignore: Vec::new(),
        exclude: Vec::new(),
        by_platform,
        by_step,
    };
    let mut steps = Vec::new();
    for (place, name) in names.iter().cycle().enumerate().take(count) {
        let events: Vec<String> = match random.u8(..8) {
            _ if is_plain => vec![(*name).to_owned()],
            0 => vec!["a".to_owned(), "b".to_owned()],
            1 => vec!["*".to_owned()],
            _ => vec![["a", "b", "c"][random.usize(..3)].to_owned()],
        };
        let optional = order != Order::Any && place > 0 && random.u8(..6) == 0;
        let first_time = random.u8(..8) == 0;
        steps.push(format!(
            "{{ event = [{}], optional = {optional}, first_time = {first_time} }}",
            events
                .iter()
                .map(|name| format!("\"{name}\""))
                .collect::<Vec<_>>()
                .join(", ")
        ));
        funnel.steps.push(Step {
            events,
            optional,
            first_time,
        });
    }
    let mut text = format!("steps = [{}]\n", steps.join(", "));
    text += &match within_ms {
        Some(ms) => format!("within = \"{} h\"\n", ms / HOUR),
        None => "within = \"session\"\n".to_owned(),
    };
    text += match order {
        Order::InOrder => "",
        Order::Strict => "order = \"strict\"\n",
        Order::Any => "order = \"any\"\n",
    };
    if order == Order::Strict && random.bool() {
        funnel.ignore = vec!["h".to_owned()];
        text += "ignore = [\"h\"]\n";
    }
    if random.u8(..3) == 0 {
        let after = random.usize(1..count);
        let before = random.usize(after + 1..=count);
        funnel.exclude.push(Exclude {
            event: "x".to_owned(),
            after,
            before,
        });
        text += &format!("exclude = [{{ event = \"x\", after = {after}, before = {before} }}]\n");
    }
    if funnel.by_platform {
        text += "by = [\"platform\"]\n";
    }
    text += &match funnel.by_step {
        ByStep::First => String::new(),
        ByStep::Last => "by_step = \"last\"\n".to_owned(),
        ByStep::Every => "by_step = \"every\"\n".to_owned(),
        ByStep::Number(step) => format!("by_step = {step}\n"),
    };
    (text, funnel)
}

/// A few users who do a lot within hours, or within days or weeks, often at the same instant; out of order, some too late,
/// some twice, some broken, some with a clock that is ahead.
/// Where devices are given, users sign in on some, now and then another one, and do a part of what they do before that.
fn records(
    random: &mut Rng,
    partitions: i32,
    lateness_ms: i64,
    pace: i64,
    mut devices: Option<Rng>,
) -> Vec<Record> {
    let users = random.u32(1..=4);
    let mut records = Vec::new();
    let mut offsets = vec![0; partitions as usize];
    let mut now = START;
    for number in 0..random.u32(20..90) {
        now += random.i64(0..8) * random.i64(0..6) * MINUTE * pace;
        let event = ["a", "a", "b", "b", "c", "c", "x", "h"][random.usize(..8)];
        let late = match random.u8(..20) {
            // What excludes comes late more often than not.
            _ if event == "x" && random.bool() => random.i64(0..90) * MINUTE,
            0..5 if pace == 1 => random.i64(0..3 * HOUR) / (5 * MINUTE) * (5 * MINUTE),
            0..5 => random.i64(0..lateness_ms) / (5 * MINUTE) * (5 * MINUTE),
            5 => lateness_ms + random.i64(0..HOUR),
            _ => 0,
        };
        let time = if random.u8(..40) == 0 {
            now + HOUR
        } else {
            now - late
        };
        let user = random.u32(..users);
        let partition = (user as i32) % partitions;
        let (ids, apart_ms) = match &mut devices {
            Some(random) => ids(random, user, partition),
            None => (format!(r#""user_id":"u{user}""#), 0),
        };
        // Which of two events at one instant came first is not said where they came under two ids.
        let (now, time) = (now + apart_ms, time + apart_ms);
        let mut payload = format!(
            r#"{{"app":"{}","properties":{{"price":{},"plan":{}}},"event":"{event}",{ids},"timestamp":{time},"message_id":"m{}","platform":"{}","channel":"{}","session_id":"{}"}}"#,
            if user == 0 && random.u8(..4) == 0 {
                "t"
            } else {
                "s"
            },
            ["1", "2.5", "2.50e0", "\"3\"", "null", "7"][random.usize(..6)],
            ["\"pro\"", "\"free\"", "10", "10.0", "true", "null", "{\"a\":1}"][random.usize(..7)],
            if random.u8(..15) == 0 {
                random.u32(..=number)
            } else {
                number
            },
            ["ios", "web", ""][random.usize(..3)],
            ["ads", "mail"][random.usize(..2)],
            ["", "", "s1", "s2"][random.usize(..4)],
        );
        if random.u8(..30) == 0 {
            payload.truncate(20);
        }
        let offset = &mut offsets[partition as usize];
        records.push(Record {
            partition,
            offset: *offset,
            timestamp: Some(now),
            payload: payload.into_bytes(),
        });
        // Offsets leave gaps: compaction, transaction markers.
        *offset += if random.u8(..20) == 0 { 2 } else { 1 };
    }
    records
}

/// The ids of an event: a user's, a device's, or both; and how far it lies from those of other ids.
fn ids(random: &mut Rng, user: u32, partition: i32) -> (String, i64) {
    // Two devices a user, one for all of a partition, and an id that is a device's and a user's.
    let device = match random.u8(..8) {
        0..5 => format!("d{user}"),
        5 => format!("e{user}"),
        6 => format!("p{partition}"),
        _ => format!("u{user}"),
    };
    let apart_ms = match device.as_bytes()[0] {
        b'd' => 1 + 2 * i64::from(user),
        b'e' => 2 + 2 * i64::from(user),
        b'p' => 51,
        _ => 100,
    };
    match random.u8(..10) {
        0..5 => (format!(r#""user_id":"u{user}""#), 0),
        5..9 => (format!(r#""anonymous_id":"{device}""#), apart_ms),
        _ => (format!(r#""user_id":"u{user}","anonymous_id":"{device}""#), 0),
    }
}
