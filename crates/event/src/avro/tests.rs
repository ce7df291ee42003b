use std::collections::HashMap;

use apache_avro::types::Value as Avro;
use apache_avro::{Schema, to_avro_datum};

use crate::{Decoders, EVENT_SCHEMA, Fields, Format, Plan, Record, SchemaText, Schemas};

fn text(schema: &str) -> SchemaText {
    SchemaText {
        schema: schema.to_owned(),
        references: Vec::new(),
    }
}

fn decoders(schema: &str, fields: &str, properties: &[&str]) -> Decoders {
    let paths: Vec<Vec<String>> = properties
        .iter()
        .map(|path| path.split('.').map(str::to_owned).collect())
        .collect();
    let plan = Plan::new(&serde_json::from_str::<Fields>(fields).unwrap(), &paths);
    Decoders::new(plan, Format::Avro(text(schema)), &Schemas::new()).unwrap()
}

fn shown(decoders: &Decoders, datum: &[u8]) -> String {
    let record = Record {
        payload: Some(datum),
        ..Record::default()
    };
    let read = decoders.read(&record, |event| {
        let properties: Vec<String> = event
            .properties
            .iter()
            .map(|value| value.slice_text().unwrap_or("-".into()).into_owned())
            .collect();
        format!(
            "{}|{}|{}|{}|{}|{}",
            event.app,
            event.event,
            event.user(),
            event.time,
            event.dimensions.join(","),
            properties.join(",")
        )
    });
    read.unwrap_or_else(|rejection| format!("{}: {}", rejection.reason, rejection.detail))
}

fn datum(schema: &str, value: Vec<(&str, Avro)>) -> Vec<u8> {
    let schema = Schema::parse_str(schema).unwrap();
    let record = Avro::Record(
        value
            .into_iter()
            .map(|(name, value)| (name.into(), value))
            .collect(),
    );
    to_avro_datum(&schema, record.resolve(&schema).unwrap()).unwrap()
}

fn some(text: &str) -> Avro {
    Avro::Union(1, Box::new(Avro::String(text.into())))
}

#[test]
fn cambiums_own_schema_is_read() {
    let properties = HashMap::from([
        ("price".to_owned(), Avro::Union(3, Box::new(Avro::Double(12.5)))),
        ("item_id".to_owned(), Avro::Union(2, Box::new(Avro::Long(7)))),
        ("gift".to_owned(), Avro::Union(1, Box::new(Avro::Boolean(true)))),
        ("note".to_owned(), Avro::Union(0, Box::new(Avro::Null))),
    ]);
    let bytes = datum(
        EVENT_SCHEMA,
        vec![
            ("message_id", some("m1")),
            ("app", Avro::String("shop".into())),
            ("event", Avro::String("buy".into())),
            ("user_id", Avro::Union(0, Box::new(Avro::Null))),
            ("anonymous_id", some("a1")),
            ("timestamp", Avro::TimestampMillis(1_511_539_200_000)),
            ("platform", some("ios")),
            ("properties", Avro::Map(properties)),
        ],
    );
    let decoders = decoders(EVENT_SCHEMA, "{}", &["price", "item_id", "gift", "note", "none"]);
    assert_eq!(
        shown(&decoders, &bytes),
        "shop|buy|a1|1511539200000|ios,,,,|12.5,7,true,-,-"
    );
}

/// Nested and recursive records, every type that is skipped, another unit, an enum, a decimal, fields under
/// other names.
#[test]
fn any_schema_is_read_by_its_names() {
    let schema = r#"{"type":"record","name":"Hit","namespace":"web","fields":[
        {"name":"head","type":{"type":"record","name":"Head","fields":[
            {"name":"pad","type":{"type":"fixed","name":"Pad","size":3}},
            {"name":"product","type":{"type":"enum","name":"Product","symbols":["SHOP","CHAT"]}},
            {"name":"at","type":{"type":"long","logicalType":"timestamp-micros"}}]}},
        {"name":"skipped","type":{"type":"array","items":["null","double",{"type":"map","values":"Head"}]}},
        {"name":"nothing","type":{"type":"array","items":"null"}},
        {"name":"tree","type":["null",{"type":"record","name":"Tree","fields":[
            {"name":"value","type":"float"},{"name":"next","type":["null","Tree"]}]}]},
        {"name":"what","type":"string"},
        {"name":"uid","type":"int"},
        {"name":"total","type":{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}}]}"#;
    let head = || {
        Avro::Record(vec![
            ("pad".into(), Avro::Fixed(3, vec![1, 2, 3])),
            ("product".into(), Avro::Enum(1, "CHAT".into())),
            ("at".into(), Avro::TimestampMicros(1_511_539_200_000_999)),
        ])
    };
    let tree = |value, next: Avro| {
        let at = usize::from(next != Avro::Null);
        let next = Avro::Union(at as u32, Box::new(next));
        Avro::Record(vec![("value".into(), Avro::Float(value)), ("next".into(), next)])
    };
    let skipped = vec![
        Avro::Union(1, Box::new(Avro::Double(0.5))),
        Avro::Union(2, Box::new(Avro::Map(HashMap::from([("k".to_owned(), head())])))),
        Avro::Union(0, Box::new(Avro::Null)),
    ];
    let parsed = Schema::parse_str(schema).unwrap();
    let record = Avro::Record(vec![
        ("head".into(), head()),
        ("skipped".into(), Avro::Array(skipped)),
        ("nothing".into(), Avro::Array(vec![Avro::Null; 5])),
        (
            "tree".into(),
            Avro::Union(1, Box::new(tree(1.5, tree(12.1, Avro::Null)))),
        ),
        ("what".into(), Avro::String("open".into())),
        ("uid".into(), Avro::Int(-7)),
        (
            "total".into(),
            Avro::Decimal(1250i64.to_be_bytes().to_vec().into()),
        ),
    ]);
    let bytes = to_avro_datum(&parsed, record).unwrap();
    let fields = r#"{"app":"head.product","event":"what","user_id":"uid","timestamp":{"field":"head.at","unit":"s"},"properties":"."}"#;
    let properties = ["tree.next.value", "total", "head.at", "head", "tree.value.x"];
    let decoders = decoders(schema, fields, &properties);
    assert_eq!(
        shown(&decoders, &bytes),
        "CHAT|open|-7|1511539200000|,,,,|12.1,12.5,1511539200000,-,-"
    );
    for end in 0..bytes.len() {
        assert!(
            shown(&decoders, &bytes[..end]).starts_with("unreadable"),
            "cut at {end}"
        );
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert!(shown(&decoders, &longer).contains("more bytes"));
}

#[test]
fn an_older_and_a_newer_producer_are_read() {
    let older = r#"{"type":"record","name":"Event","fields":[{"name":"app","type":"string"},
        {"name":"event","type":"string"},{"name":"user_id","type":"string"},{"name":"timestamp","type":"long"}]}"#;
    let newer = r#"{"type":"record","name":"Event","fields":[{"name":"new","type":["null","bytes"]},
        {"name":"timestamp","type":"long"},{"name":"user_id","type":["long","string"]},{"name":"app","type":"string"},
        {"name":"more","type":{"type":"map","values":"long"}},{"name":"event","type":"string"}]}"#;
    let schemas = Schemas::from([(1, Some(text(older))), (2, Some(text(newer))), (3, None)]);
    let plan = Plan::new(&Fields::default(), &[]);
    let decoders = Decoders::new(plan, Format::AvroConfluent, &schemas).unwrap();
    let wire = |id: u32, datum: Vec<u8>| [vec![0], id.to_be_bytes().to_vec(), datum].concat();
    let common = || {
        vec![
            ("app", Avro::String("a".into())),
            ("event", Avro::String("e".into())),
            ("timestamp", Avro::Long(5)),
        ]
    };
    let mut first = common();
    first.push(("user_id", Avro::String("u".into())));
    assert_eq!(shown(&decoders, &wire(1, datum(older, first))), "a|e|u|5|,,,,|");
    let mut second = common();
    second.push(("user_id", Avro::Union(0, Box::new(Avro::Long(9)))));
    second.push(("new", Avro::Union(1, Box::new(Avro::Bytes(vec![255])))));
    second.push((
        "more",
        Avro::Map(HashMap::from([("x".to_owned(), Avro::Long(1))])),
    ));
    assert_eq!(shown(&decoders, &wire(2, datum(newer, second))), "a|e|9|5|,,,,|");
    assert!(shown(&decoders, &wire(3, vec![1])).starts_with("unknown_schema"));
    assert!(shown(&decoders, b"{}").starts_with("unreadable"));
    assert!(shown(&decoders, &[]).starts_with("unreadable"));
}

/// A list of items without bytes may claim any length; it must not take time for it.
#[test]
fn what_claims_to_be_endless_ends() {
    let schema = r#"{"type":"record","name":"E","fields":[{"name":"a","type":{"type":"array","items":"null"}},
        {"name":"next","type":["null","E"]}]}"#;
    let decoders = decoders(schema, "{}", &[]);
    let endless = [
        [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01].as_slice(),
        &[0, 0],
    ]
    .concat();
    assert!(shown(&decoders, &endless).starts_with("no_app"));
    let deep: Vec<u8> = std::iter::repeat_n([0, 2], 100_000).flatten().collect();
    assert!(shown(&decoders, &deep).contains("nested"));
}
