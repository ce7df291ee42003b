//! What takes bytes from outside: a function for each, that must neither panic nor hang, whatever it is given.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use apache_avro::types::Value;
use apache_avro::{Schema, to_avro_datum};
use cambium::Processors;
use cambium::config::Config;
use cambium_engine::{Filter, HashKey, Partition, PropertyTable, Topic};
use cambium_event::{Decoders, EVENT_SCHEMA, Fields, Format, Plan, Record, SchemaText, Schemas};
use cambium_snapshots::Store;
use futures::FutureExt;
use object_store::memory::InMemory;
use object_store::path::Path as Key;
use object_store::{ObjectStoreExt, PutPayload};

/// Takes bytes; whether they were what they should be.
pub type Target = fn(&[u8]) -> bool;

/// Each by its name.
pub const TARGETS: [(&str, Target); 7] = [
    ("json", json),
    ("avro", avro),
    ("avro_confluent", avro_confluent),
    ("filter", filter),
    ("configuration", configuration),
    ("snapshot_file", snapshot_file),
    ("snapshot_state", snapshot_state),
];

const JSON: &str = r#"{"message_id":"m\u00e91","app":"shop","event":"view","user_id":18446744073709551616,"anonymous_id":null,
"timestamp":1511539200000.25,"session_id":"s","platform":"ios","properties":{"price":12.5e1,"a":{"b":["x",{"c":true}]},"t":"\ud83d\ude00"}}"#;

/// Lists of nothing, maps, recursion: what has been dangerous in other decoders.
const SCHEMA: &str = r#"{"type":"record","name":"E","fields":[{"name":"app","type":"string"},
    {"name":"nothing","type":{"type":"array","items":"null"}},{"name":"event","type":["null","string"]},
    {"name":"tree","type":["null",{"type":"record","name":"T","fields":[{"name":"all","type":{"type":"array","items":"T"}},
        {"name":"next","type":["null","T"]}]}]},
    {"name":"properties","type":{"type":"map","values":["null","double",{"type":"map","values":"bytes"}]}},
    {"name":"user_id","type":"long"},{"name":"timestamp","type":{"type":"long","logicalType":"timestamp-nanos"}}]}"#;

const FILTER: &str = r#"not (platform in ("ios", "web") and properties["unit price"] >= -1.5e3) or exists(a.b) and contains(event, "\"x") or
    starts_with(channel, "a") and app_version not in (1, "2") or price != 0 and is_bot == true"#;

const CONFIGURATION: &str = r#"
max_values = 100
[kafka]
brokers = "localhost:9092"
settings = { "security.protocol" = "SASL_SSL", "sasl.password" = { file = "p" } }
[[source]]
topic = "events"
start = "latest"
[source.fields]
user_id = "ctx.userId"
timestamp = { field = "ts", unit = "s" }
app = { value = "shop" }
message_id = { header = "id" }
[time]
lateness = "1.5 h"
week_start = "sunday"
[keep]
minutes = "30 days"
[[drop]]
where = "properties.is_bot == true"
[app.shop]
time_zone = "Asia/Shanghai"
[app.shop.session]
gap = "10 min"
max_length = "24 h"
id = "client"
page = { event = "page", property = "path" }
[[unique]]
name = "buyers"
event = ["buy", "pay"]
by = ["platform", "properties.plan"]
[[funnel]]
name = "purchase"
steps = ["view", { event = "cart", optional = true }, { event = "buy", where = "price > 10", first_time = true, name = "pays" }]
within = "session"
order = "strict"
ignore = ["heartbeat"]
exclude = [{ event = "refund", after = 2, before = 3 }]
by = ["platform"]
by_step = 2
[[alert]]
name = "payments"
event = "buy"
over = "5 min"
for = "2/3"
channels = ["ops"]
quiet_hours = "22:00-08:00"
[[channel]]
name = "ops"
kind = "slack"
url_file = "u"
"#;

fn text(schema: &str) -> SchemaText {
    SchemaText {
        schema: schema.to_owned(),
        references: Vec::new(),
    }
}

fn decoders_of(format: Format) -> Decoders {
    let paths = ["price", "a.b", "t", "tree.next"].map(|path| path.split('.').map(str::to_owned).collect());
    let plan = Plan::new(&Fields::default(), &paths);
    Decoders::new(plan, format, &Schemas::from([(7, Some(text(SCHEMA)))])).expect("the schemas are valid")
}

fn is_event(decoders: &'static OnceLock<Decoders>, format: fn() -> Format, payload: &[u8]) -> bool {
    let record = Record {
        payload: Some(payload),
        ..Record::default()
    };
    let decoders = decoders.get_or_init(|| decoders_of(format()));
    decoders.read(&record, |event| event.time).is_ok()
}

fn json(payload: &[u8]) -> bool {
    static DECODERS: OnceLock<Decoders> = OnceLock::new();
    is_event(&DECODERS, || Format::Json, payload)
}

fn avro(payload: &[u8]) -> bool {
    static DECODERS: OnceLock<Decoders> = OnceLock::new();
    is_event(&DECODERS, || Format::Avro(text(EVENT_SCHEMA)), payload)
}

fn avro_confluent(payload: &[u8]) -> bool {
    static DECODERS: OnceLock<Decoders> = OnceLock::new();
    is_event(&DECODERS, || Format::AvroConfluent, payload)
}

fn filter(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    let filter = Filter::new(&text, &mut PropertyTable::default());
    let sql = Filter::sql(&text, &[]);
    assert!(
        filter.is_ok() || sql.is_err(),
        "'{text}' has SQL, and is no filter"
    );
    filter.is_ok()
}

fn configuration(text: &[u8]) -> bool {
    Config::parse(&String::from_utf8_lossy(text), PathBuf::new()).is_ok()
}

fn topic() -> Topic {
    Topic {
        name: "t".to_owned(),
        partition: 0,
    }
}

/// The newest file of a partition's snapshots is this.
fn snapshot_file(file: &[u8]) -> bool {
    let objects = Arc::new(InMemory::new());
    let payload = PutPayload::from(file.to_vec());
    let loading = async {
        let key = Key::from("t/0/00000-00000000000000000007.full");
        objects.put(&key, payload).await.expect("memory takes it");
        Store::new(objects).partition(&topic(), 1).load(|_| Ok(())).await
    };
    let loaded = loading.now_or_never().expect("memory does not wait");
    loaded.expect("memory can be read").0.is_some()
}

/// A head and users that no partition has saved: they are refused or read. What is counted on them is nobody's number:
/// the file's checksum keeps damage from here, and made up states are not promised to be seen.
fn snapshot_state(bytes: &[u8]) -> bool {
    type State = (Vec<u8>, Vec<(u32, u64, Box<[u8]>)>);
    let Ok((head, users)) = postcard::from_bytes::<State>(bytes) else {
        return false;
    };
    let Ok(mut partition) = Partition::<Processors>::restore(&head, users, HashKey::default()) else {
        return false;
    };
    partition.capture().is_ok()
}

/// Some more events.
fn go_on(partition: &mut Partition<Processors>) -> Result<(), cambium_engine::SnapshotError> {
    for (number, event) in ["view", "cart", "buy", "page", "view"].into_iter().enumerate() {
        let user = number % 2;
        let time = 1_700_000_000_000 + 600_000 * number as i64;
        let line = format!(
            r#"{{"app":"shop","event":"{event}","user_id":"u{user}","timestamp":{time},"message_id":"{number}","properties":{{"path":"/"}}}}"#
        );
        partition.apply(&Record {
            offset: partition.position().saturating_add(1),
            payload: Some(line.as_bytes()),
            ..Record::default()
        })?;
    }
    Ok(())
}

/// Valid bytes of each target, to be broken.
///
/// # Panics
/// Where one of them cannot be made.
pub fn sample(target: &str) -> Vec<u8> {
    match target {
        "json" => JSON.as_bytes().to_vec(),
        "avro" => own_datum(),
        "avro_confluent" => [&[0, 0, 0, 0, 7], others_datum().as_slice()].concat(),
        "filter" => FILTER.as_bytes().to_vec(),
        "configuration" => CONFIGURATION.as_bytes().to_vec(),
        "snapshot_file" => saved_file(),
        "snapshot_state" => {
            let capture = saved().capture().expect("it can be captured");
            let users = capture.users.into_iter();
            let users: Vec<(u32, u64, Vec<u8>)> = users
                .filter_map(|(app, id, state)| Some((app, id, state?)))
                .collect();
            postcard::to_stdvec(&(capture.head, users)).expect("it can be written")
        }
        _ => panic!("there is no target {target}"),
    }
}

fn own_datum() -> Vec<u8> {
    let own = Schema::parse_str(EVENT_SCHEMA).expect("the schema is valid");
    let user = Value::Union(1, Box::new(Value::String("u".into())));
    let price = Value::Union(3, Box::new(Value::Double(1.5)));
    let event = Value::Record(vec![
        ("app".into(), Value::String("shop".into())),
        ("event".into(), Value::String("view".into())),
        ("user_id".into(), user),
        ("timestamp".into(), Value::TimestampMillis(1_511_539_200_000)),
        (
            "properties".into(),
            Value::Map([("price".to_owned(), price)].into()),
        ),
    ]);
    let resolved = event.resolve(&own).expect("it is of the schema");
    to_avro_datum(&own, resolved).expect("it can be written")
}

fn others_datum() -> Vec<u8> {
    let schema = Schema::parse_str(SCHEMA).expect("the schema is valid");
    let leaf = Value::Record(vec![
        ("all".into(), Value::Array(Vec::new())),
        ("next".into(), Value::Union(0, Box::new(Value::Null))),
    ]);
    let tree = Value::Record(vec![
        ("all".into(), Value::Array(vec![leaf.clone(), leaf.clone()])),
        ("next".into(), Value::Union(1, Box::new(leaf))),
    ]);
    let event = Value::Union(1, Box::new(Value::String("view".into())));
    let price = Value::Union(1, Box::new(Value::Double(1.5)));
    let record = Value::Record(vec![
        ("app".into(), Value::String("shop".into())),
        ("nothing".into(), Value::Array(vec![Value::Null; 3])),
        ("event".into(), event),
        ("tree".into(), Value::Union(1, Box::new(tree))),
        (
            "properties".into(),
            Value::Map([("price".to_owned(), price)].into()),
        ),
        ("user_id".into(), Value::Long(7)),
        (
            "timestamp".into(),
            Value::TimestampNanos(1_511_539_200_000_000_000),
        ),
    ]);
    to_avro_datum(&schema, record).expect("it can be written")
}

/// A partition that has counted a little.
fn saved() -> Partition<Processors> {
    let config = Config::parse(CONFIGURATION, PathBuf::new()).expect("the configuration is valid");
    let setup = cambium_engine::Setup {
        fields: Fields::default(),
        ..config.setup
    };
    let mut partition = Partition::new(topic(), 0, 0, setup, HashKey::default()).expect("it can begin");
    go_on(&mut partition).expect("it counts");
    partition
}

fn saved_file() -> Vec<u8> {
    let objects = Arc::new(InMemory::new());
    let capture = saved().capture().expect("it can be captured");
    let saving = async {
        let mut snapshots = Store::new(objects.clone()).partition(&topic(), 1);
        let publication = snapshots.prepare(capture).expect("a capture can be encoded");
        snapshots.publish(&publication).await.expect("memory takes it");
        let name = snapshots.newest().expect("one was published");
        let found = objects.get(&Key::from(format!("t/0/{name}"))).await;
        let bytes = found.expect("it is there").bytes().await;
        bytes.expect("it can be read").to_vec()
    };
    saving.now_or_never().expect("memory does not wait")
}
