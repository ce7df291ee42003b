//! Any bytes are an event or a reason: never a panic, never more than a few times their size in memory.
//! A program of its own, because it counts what is allocated.

use apache_avro::types::Value;
use apache_avro::{Schema, to_avro_datum};
use cambium_event::{Decoders, EVENT_SCHEMA, Fields, Format, Plan, Record, SchemaText, Schemas};
use fastrand::Rng;
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const CASES: u64 = 300_000;
/// What a record may take beside its size: slots, and the text of an error.
const BESIDE: usize = 4096;
const TIMES: usize = 6;

const JSON: &str = r#"{"message_id":"m\u00e91","app":"shop","event":"view","user_id":18446744073709551616,"anonymous_id":null,
"timestamp":1511539200000.25,"session_id":"s","platform":"ios","properties":{"price":12.5e1,"a":{"b":["x",{"c":true}]},"t":"\ud83d\ude00"}}"#;

/// Lists of nothing, maps, recursion: what has been dangerous in other decoders.
const SCHEMA: &str = r#"{"type":"record","name":"E","fields":[{"name":"app","type":"string"},
    {"name":"nothing","type":{"type":"array","items":"null"}},{"name":"event","type":["null","string"]},
    {"name":"tree","type":["null",{"type":"record","name":"T","fields":[{"name":"all","type":{"type":"array","items":"T"}},
        {"name":"next","type":["null","T"]}]}]},
    {"name":"properties","type":{"type":"map","values":["null","double",{"type":"map","values":"bytes"}]}},
    {"name":"user_id","type":"long"},{"name":"timestamp","type":{"type":"long","logicalType":"timestamp-nanos"}}]}"#;

fn text(schema: &str) -> SchemaText {
    SchemaText {
        schema: schema.to_owned(),
        references: Vec::new(),
    }
}

/// Valid payloads, to be broken.
fn samples() -> Vec<(Decoders, Vec<u8>)> {
    let paths = ["price", "a.b", "t", "tree.next"].map(|path| path.split('.').map(str::to_owned).collect());
    let plan = Plan::new(&Fields::default(), &paths);
    let decoders =
        |format| Decoders::new(plan.clone(), format, &Schemas::from([(7, Some(text(SCHEMA)))])).unwrap();
    let own = Schema::parse_str(EVENT_SCHEMA).unwrap();
    let event = Value::Record(vec![
        ("app".into(), Value::String("shop".into())),
        ("event".into(), Value::String("view".into())),
        (
            "user_id".into(),
            Value::Union(1, Box::new(Value::String("u".into()))),
        ),
        ("timestamp".into(), Value::TimestampMillis(1_511_539_200_000)),
        (
            "properties".into(),
            Value::Map([("price".to_owned(), Value::Union(3, Box::new(Value::Double(1.5))))].into()),
        ),
    ]);
    let own_datum = to_avro_datum(&own, event.resolve(&own).unwrap()).unwrap();
    let other = Schema::parse_str(SCHEMA).unwrap();
    let leaf = Value::Record(vec![
        ("all".into(), Value::Array(Vec::new())),
        ("next".into(), Value::Union(0, Box::new(Value::Null))),
    ]);
    let tree = Value::Record(vec![
        ("all".into(), Value::Array(vec![leaf.clone(), leaf.clone()])),
        ("next".into(), Value::Union(1, Box::new(leaf))),
    ]);
    let record = Value::Record(vec![
        ("app".into(), Value::String("shop".into())),
        ("nothing".into(), Value::Array(vec![Value::Null; 3])),
        (
            "event".into(),
            Value::Union(1, Box::new(Value::String("view".into()))),
        ),
        ("tree".into(), Value::Union(1, Box::new(tree))),
        (
            "properties".into(),
            Value::Map([("price".to_owned(), Value::Union(1, Box::new(Value::Double(1.5))))].into()),
        ),
        ("user_id".into(), Value::Long(7)),
        (
            "timestamp".into(),
            Value::TimestampNanos(1_511_539_200_000_000_000),
        ),
    ]);
    let wire = [
        &[0, 0, 0, 0, 7],
        to_avro_datum(&other, record).unwrap().as_slice(),
    ]
    .concat();
    vec![
        (decoders(Format::Json), JSON.as_bytes().to_vec()),
        (decoders(Format::Avro(text(EVENT_SCHEMA))), own_datum),
        (decoders(Format::AvroConfluent), wire),
    ]
}

/// Flips, cuts, repeats and inserts; now and then nothing of the sample is left.
fn broken(random: &mut Rng, sample: &[u8]) -> Vec<u8> {
    if random.u8(..20) == 0 {
        return (0..random.usize(..200)).map(|_| random.u8(..)).collect();
    }
    let mut bytes = sample.to_vec();
    for _ in 0..random.usize(1..6) {
        let at = random.usize(..=bytes.len());
        match random.u8(..6) {
            0 if at < bytes.len() => bytes[at] = random.u8(..),
            1 if at < bytes.len() => bytes[at] ^= 1 << random.u8(..8),
            2 => bytes.truncate(at),
            3 => {
                let piece = bytes[at..].to_vec();
                let times = random.usize(..4);
                (0..times).for_each(|_| bytes.extend(&piece));
            }
            4 => bytes.insert(at, *random.choice(b"{}[]\",:\\0\xff\x80\x01\x02").unwrap()),
            _ => {
                let many = vec![*random.choice(b"[{\x02\x00\xff\"9").unwrap(); random.usize(..3000)];
                bytes.splice(at..at, many);
            }
        }
    }
    bytes
}

#[test]
fn any_bytes_are_an_event_or_a_reason() {
    let samples = samples();
    let (mut events, mut reasons) = (0u32, 0u32);
    for (decoders, sample) in &samples {
        let record = Record {
            payload: Some(sample),
            ..Record::default()
        };
        assert!(decoders.read(&record, |_| ()).is_ok(), "a sample is no event");
    }
    for seed in 0..CASES {
        let mut random = Rng::with_seed(seed);
        let (decoders, sample) = &samples[seed as usize % samples.len()];
        let payload = broken(&mut random, sample);
        let record = Record {
            payload: Some(&payload),
            ..Record::default()
        };
        let before = ALLOCATOR.current_usage();
        ALLOCATOR.reset_peak_usage();
        match decoders.read(&record, |event| event.time) {
            Ok(_) => events += 1,
            Err(_) => reasons += 1,
        }
        let taken = ALLOCATOR.peak_usage().saturating_sub(before);
        assert!(
            taken <= TIMES * payload.len() + BESIDE,
            "seed {seed}: {taken} bytes for a record of {}",
            payload.len()
        );
    }
    assert!(
        events > 1000 && reasons > 1000,
        "{events} events, {reasons} reasons"
    );
}
