//! Nanoseconds an event: decoding, and everything that a partition does with one.

use std::hint::black_box;
use std::time::Duration;

use apache_avro::{Schema, from_avro_datum};
use cambium_benches::{CONFIGURATION, PEOPLE, avro, events, partition, to_avro, with_people};
use cambium_event::{Decoders, EVENT_SCHEMA, Fields, Format, Plan, Record, Schemas};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const EVENTS: usize = 20_000;
/// Events between two flushes of a partition: a second's worth.
const FLUSH: usize = 100_000;

fn decode(criterion: &mut Criterion) {
    let lines = events(EVENTS, 5_000);
    let data: Vec<Vec<u8>> = lines.iter().map(|line| to_avro(line).unwrap()).collect();
    let plan = Plan::new(&Fields::default(), &[vec!["price".to_owned()]]);
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Elements(EVENTS as u64));
    for (name, format, records) in [("json", Format::Json, &lines), ("avro", avro(), &data)] {
        let decoders = Decoders::new(plan.clone(), format, &Schemas::new()).unwrap();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                for payload in records {
                    let record = Record {
                        payload: Some(payload),
                        ..Record::default()
                    };
                    let read = decoders.read(&record, |event| event.time + event.user().len() as i64);
                    black_box(read.unwrap());
                }
            });
        });
    }
    let schema = Schema::parse_str(EVENT_SCHEMA).unwrap();
    group.bench_function("avro by a Value of apache-avro", |bencher| {
        bencher.iter(|| {
            for datum in &data {
                black_box(from_avro_datum(&schema, &mut datum.as_slice(), None).unwrap());
            }
        });
    });
    group.finish();
}

fn apply(criterion: &mut Criterion) {
    let lines = events(500_000, 20_000);
    let mut group = criterion.benchmark_group("apply");
    group.sample_size(10).measurement_time(Duration::from_secs(8));
    group.throughput(Throughput::Elements(lines.len() as u64));
    let with = |(name, definition): (&str, &str)| {
        let name = format!("with {name}");
        (name, CONFIGURATION.to_owned() + definition)
    };
    let configurations = [
        ("without a funnel".to_owned(), String::new()),
        ("with a funnel".to_owned(), CONFIGURATION.to_owned()),
        ("with every processor".to_owned(), with_people()),
    ];
    for (name, configuration) in configurations.into_iter().chain(PEOPLE.map(with)) {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut partition = partition(&configuration).unwrap();
                for (offset, line) in lines.iter().enumerate() {
                    let record = Record {
                        offset: offset as i64,
                        payload: Some(line),
                        ..Record::default()
                    };
                    partition.apply(&record).unwrap();
                    if offset % FLUSH == FLUSH - 1 {
                        black_box(partition.flush().unwrap());
                    }
                }
                black_box(partition.flush().unwrap())
            });
        });
    }
    group.finish();
}

criterion_group!(benches, decode, apply);
criterion_main!(benches);
