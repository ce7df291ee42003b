//! What the benchmarks share: the simulated shop's events, in both formats, and a configuration that
//! counts them with every processor.

pub mod load;
pub mod machine;
pub mod packed;
pub mod running;
pub mod traffic;

use std::sync::LazyLock;

use anyhow::Result;
use apache_avro::types::Value;
use apache_avro::{Schema, to_avro_datum};
use cambium::Processors;
use cambium::config::Config;
use cambium_engine::{HashKey, Partition, Topic};
use cambium_event::{EVENT_SCHEMA, Format, SchemaText};
use cambium_simulate::{Product, Settings};

/// The demo's definitions: all of the defaults, and a funnel of four steps.
pub const CONFIGURATION: &str = r#"
[[funnel]]
name = "purchase"
steps = ["view", "cart", "checkout", "buy"]
within = "1 day"
by = ["platform"]
"#;

/// Little is to be remembered of events, so that what grows after some minutes is a leak.
pub const SHORT_MEMORY: &str = r#"
[time]
lateness = "2 min"
[session]
gap = "1 min"
"#;
pub const SHORT_FUNNEL: &str = r#"
[[funnel]]
name = "purchase"
steps = ["view", "cart", "checkout", "buy"]
within = "2 min"
by = ["platform"]
"#;
/// What arrives later than this behind its time is to be left out there: it might not count.
pub const SHORT_MEMORY_BEHIND_MS: i64 = 60_000;

/// A definition of each kind of the numbers about people.
pub const PEOPLE: [(&str, &str); 11] = [
    ("acquisition", "[[acquisition]]\nname = \"new\"\n"),
    (
        "attribution",
        "[[attribution]]\nname = \"buys\"\ngoal = \"buy\"\n",
    ),
    (
        "activation",
        "[[activation]]\nname = \"carts\"\nactions = [\"view\", \"cart\"]\nwithin = \"48 h\"\n",
    ),
    (
        "retention",
        "[[retention]]\nname = \"daily\"\nby = [\"channel\"]\n",
    ),
    (
        "lifecycle",
        "[[lifecycle]]\nname = \"days\"\nby = [\"channel\"]\n",
    ),
    ("churn", "[[churn]]\nname = \"gone\"\ntimes_usual = 3\n"),
    ("stickiness", "[[stickiness]]\nname = \"all\"\n"),
    ("streak", "[[streak]]\nname = \"views\"\nevent = \"view\"\n"),
    (
        "points",
        "[[points]]\nname = \"coins\"\nearn = [{ event = \"buy\", points = \"price\" }, { event = \"cart\", points = 1, daily_cap = 5 }]\nexpiry = \"365 days\"\n",
    ),
    (
        "level",
        "[[points]]\nname = \"growth\"\nearn = [{ event = \"buy\", points = \"price\" }]\n\
         [[level]]\nname = \"vip\"\nof = \"growth\"\nwindow = \"365 days\"\nlevels = [{ name = \"silver\", at = 100 }]\n",
    ),
    (
        "badge",
        "[[badge]]\nname = \"regular\"\nevent = \"cart\"\nstreak = 7\n",
    ),
];

/// [`CONFIGURATION`] and all of [`PEOPLE`].
pub fn with_people() -> String {
    let people = PEOPLE.map(|(_, definition)| definition);
    CONFIGURATION.to_owned() + &people.concat()
}

/// Events of so many users, without what is broken.
pub fn events(count: usize, users: u32) -> Vec<Vec<u8>> {
    let settings = Settings {
        users,
        broken: 0.0,
        ..Settings::default()
    };
    Product::new(settings)
        .take(count)
        .map(|one| one.payload)
        .collect()
}

/// A line of JSON as a datum of Cambium's own schema.
pub fn to_avro(line: &[u8]) -> Result<Vec<u8>> {
    static SCHEMA: LazyLock<Schema> =
        LazyLock::new(|| Schema::parse_str(EVENT_SCHEMA).expect("Cambium's own schema is right"));
    let schema = &*SCHEMA;
    let json: serde_json::Value = serde_json::from_slice(line)?;
    let text = |name: &str| Value::String(json[name].as_str().unwrap_or_default().to_owned());
    let some = |name: &str| Value::Union(1, Box::new(text(name)));
    let properties = json["properties"].as_object().into_iter().flatten();
    let properties = properties.map(|(name, value)| {
        let value = match value {
            serde_json::Value::String(text) => Value::Union(4, Box::new(Value::String(text.clone()))),
            value if value.is_i64() => Value::Union(2, Box::new(Value::Long(value.as_i64().unwrap_or(0)))),
            value => Value::Union(3, Box::new(Value::Double(value.as_f64().unwrap_or(0.0)))),
        };
        (name.clone(), value)
    });
    let record = Value::Record(vec![
        ("message_id".into(), some("message_id")),
        ("app".into(), text("app")),
        ("event".into(), text("event")),
        ("user_id".into(), some("user_id")),
        (
            "timestamp".into(),
            Value::TimestampMillis(json["timestamp"].as_i64().unwrap_or(0)),
        ),
        ("platform".into(), some("platform")),
        ("app_version".into(), some("app_version")),
        ("channel".into(), some("channel")),
        ("country".into(), some("country")),
        ("properties".into(), Value::Map(properties.collect())),
    ]);
    Ok(to_avro_datum(schema, record.resolve(schema)?)?)
}

/// Events as data of Cambium's own schema.
pub fn avro() -> Format {
    Format::Avro(SchemaText {
        schema: EVENT_SCHEMA.to_owned(),
        references: Vec::new(),
    })
}

/// A partition of a topic of lines of JSON that counts with every processor.
pub fn partition(configuration: &str) -> Result<Partition<Processors>> {
    partition_of(configuration, Format::Json)
}

/// A partition of a topic in this format.
pub fn partition_of(configuration: &str, format: Format) -> Result<Partition<Processors>> {
    let mut setup = Config::parse(configuration, ".".into())?.setup;
    setup.format = format;
    let topic = Topic {
        name: "events".to_owned(),
        partition: 0,
    };
    Ok(Partition::new(topic, 0, 0, setup, HashKey::default())?)
}
