//! Decoding alone: the same events, from memory, into what the processors get.

use std::hint::black_box;

use anyhow::{Result, ensure};
use cambium_benches::packed::Packed;
use cambium_benches::traffic::{EVENTS_PER_SECOND, Encoding, Settings, Traffic};
use cambium_event::{Decoders, Fields, Plan, Record, Schemas};
use clap::Args;

use crate::report::{Figure, Watched};

#[derive(Args, Clone, Debug)]
pub struct Arguments {
    #[arg(long)]
    pub encoding: Encoding,
    #[arg(long)]
    pub events: u64,
    #[arg(long)]
    pub users: u32,
}

/// As many as fit into memory well; they are gone through again until all events are decoded.
const IN_MEMORY: u64 = 1_000_000;

pub fn run(arguments: &Arguments) -> Result<Figure> {
    let settings = Settings {
        seed: crate::SEED,
        events: arguments.events.min(IN_MEMORY),
        users: arguments.users,
        events_per_second: EVENTS_PER_SECOND,
        end_ms: cambium_benches::load::now_ms(),
    };
    let records = Packed::of(Traffic::new(settings), arguments.encoding);
    let plan = Plan::new(&Fields::default(), &[]);
    let decoders = Decoders::new(plan, arguments.encoding.format(), &Schemas::new())?;
    let (mut decoded, mut refused) = (0, 0);
    let watched = Watched::begin()?;
    while decoded < arguments.events {
        for payload in records.iter() {
            let record = Record {
                payload: Some(payload),
                ..Record::default()
            };
            let read = decoders.read(&record, |event| event.time + event.user().len() as i64);
            refused += u64::from(black_box(read).is_err());
        }
        decoded += records.len() as u64;
    }
    ensure!(refused == 0, "{refused} events could not be decoded");
    watched.end("Cambium, decode only, from memory", decoded)
}
