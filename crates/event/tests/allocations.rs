//! Nothing is allocated for a record whose texts stand in it as they are. A program of its own, because it counts what
//! is allocated.

use apache_avro::types::Value;
use apache_avro::{Schema, to_avro_datum};
use cambium_event::{Decoders, EVENT_SCHEMA, Fields, Format, Plan, Record, SchemaText, Schemas};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const LINES: &[&str] = &[
    r#"{"message_id":"m1","app":"shop","event":"view","user_id":"u1","anonymous_id":null,"timestamp":1511539200000,
        "platform":"ios","properties":{"item_id":2268318,"price":12.5,"title":"日本 é","gift":true,"note":null}}"#,
    r#"{ "app": "shop", "event": "buy", "user_id": 12345678901234567890123, "timestamp": 1511539200000.25,
        "properties": { "price": 0.30000000000000004, "other": ["a\n", {"b": -1e3}] }, "more": {} }"#,
    r#"{"app":7,"event":"buy","anonymous_id":0,"timestamp":"2017-11-24T16:00:00.5Z","properties":null}"#,
];

fn datum() -> Vec<u8> {
    let schema = Schema::parse_str(EVENT_SCHEMA).unwrap();
    let text = |text: &str| Value::String(text.to_owned());
    let some = |text: &str| Value::Union(1, Box::new(Value::String(text.to_owned())));
    let properties = [
        ("price".to_owned(), Value::Union(3, Box::new(Value::Double(12.5)))),
        ("title".to_owned(), Value::Union(4, Box::new(text("日本 é")))),
        ("gift".to_owned(), Value::Union(1, Box::new(Value::Boolean(true)))),
    ];
    let record = Value::Record(vec![
        ("message_id".into(), some("m1")),
        ("app".into(), text("shop")),
        ("event".into(), text("view")),
        ("user_id".into(), some("a user of a longer name, with é")),
        ("timestamp".into(), Value::TimestampMillis(1_511_539_200_000)),
        ("properties".into(), Value::Map(properties.into())),
    ]);
    to_avro_datum(&schema, record.resolve(&schema).unwrap()).unwrap()
}

#[test]
fn nothing_is_allocated() {
    let schema = SchemaText {
        schema: EVENT_SCHEMA.to_owned(),
        references: Vec::new(),
    };
    let datum = datum();
    let wire = [[0, 0, 0, 0, 7].as_slice(), &datum].concat();
    let lines = LINES.iter().map(|line| (Format::Json, line.as_bytes()));
    let data = [
        (Format::Avro(schema.clone()), datum.as_slice()),
        (Format::AvroConfluent, &wire),
    ];
    for (format, payload) in lines.chain(data) {
        for wanted in [&[][..], &["price", "title", "gift", "none"]] {
            let paths: Vec<_> = wanted.iter().map(|name| vec![name.to_string()]).collect();
            let plan = Plan::new(&Fields::default(), &paths);
            let schemas = Schemas::from([(7, Some(schema.clone()))]);
            let decoders = Decoders::new(plan, format.clone(), &schemas).unwrap();
            let record = Record {
                payload: Some(payload),
                ..Record::default()
            };
            let before = ALLOCATOR.current_usage();
            ALLOCATOR.reset_peak_usage();
            let time = decoders.read(&record, |event| event.time);
            let allocated = ALLOCATOR.peak_usage() - before;
            assert!(time.is_ok(), "{time:?}");
            assert_eq!(allocated, 0, "{}", String::from_utf8_lossy(payload));
        }
    }
}
