//! Decoding alone: the same events, from memory, into what the processors get.

use std::hint::black_box;

use anyhow::{Result, ensure};
use cambium_benches::traffic::{Encoding, Settings, Traffic};
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
        end_ms: cambium_benches::load::now_ms(),
    };
    // One after the other in one piece, as they lie in what the broker sends.
    let (mut bytes, mut ends) = (Vec::new(), Vec::new());
    for behaviour in Traffic::new(settings) {
        arguments.encoding.write(&behaviour, &mut bytes);
        ends.push(bytes.len());
    }
    let plan = Plan::new(&Fields::default(), &[]);
    let decoders = Decoders::new(plan, arguments.encoding.format(), &Schemas::new())?;
    let (mut decoded, mut refused) = (0, 0);
    let watched = Watched::begin()?;
    while decoded < arguments.events {
        let mut begin = 0;
        for end in &ends {
            let record = Record {
                payload: Some(&bytes[begin..*end]),
                ..Record::default()
            };
            let read = decoders.read(&record, |event| event.time + event.user().len() as i64);
            refused += u64::from(black_box(read).is_err());
            begin = *end;
        }
        decoded += ends.len() as u64;
    }
    ensure!(refused == 0, "{refused} events could not be decoded");
    watched.end("Cambium, decode only, from memory", decoded)
}
