//! Instructions an event, counted by callgrind: the same whatever else the machine does, so that two commits compare.
//! Each part runs over two lengths of the same events; the difference leaves out what comes once.
//!
//!     cargo bench --package cambium-benches --bench instructions                  # prints, and keeps as "last"
//!     cargo bench --package cambium-benches --bench instructions -- --keep before # keeps under another name
//!     cargo bench --package cambium-benches --bench instructions -- --against before

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use cambium::Processors;
use cambium_benches::packed::{self, Packed};
use cambium_benches::traffic::{EVENTS_PER_SECOND, Encoding, Settings, Traffic};
use cambium_benches::{CONFIGURATION, PEOPLE, partition_of, with_people};
use cambium_engine::Partition;
use cambium_event::{Decoders, Fields, Plan, Record, Schemas};
use clap::{Parser, ValueEnum};

/// As in `cambium`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SHORT: usize = 10_000;
const LONG: usize = 40_000;
const USERS: u32 = 4_000;
/// When the last event arrives: 2026-11-01.
const END_MS: i64 = 1_793_491_200_000;

#[derive(Parser)]
struct Cli {
    /// Runs one part over so many events, for callgrind or perf to watch
    #[arg(long, num_args = 2, value_names = ["PART", "EVENTS"])]
    one: Vec<String>,
    /// Users that the shop has
    #[arg(long, default_value_t = USERS)]
    users: u32,
    /// Where the figures are kept
    #[arg(long, default_value = "last")]
    keep: String,
    /// Kept figures to compare with
    #[arg(long)]
    against: Option<String>,
    /// As cargo says to every benchmark
    #[arg(long)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Part {
    DecodeJson,
    DecodeAvro,
    ApplyJson,
    ApplyAvro,
    ApplyWithoutFunnel,
    WithAcquisition,
    WithAttribution,
    WithActivation,
    WithRetention,
    WithLifecycle,
    WithChurn,
    WithStickiness,
    WithStreak,
    WithPoints,
    WithLevel,
    WithBadge,
    WithAllOfThem,
}

impl Part {
    fn name(self) -> String {
        self.to_possible_value()
            .map_or(String::new(), |value| value.get_name().to_owned())
    }

    fn encoding(self) -> Encoding {
        match self {
            Part::DecodeAvro | Part::ApplyAvro => Encoding::Avro,
            _ => Encoding::Json,
        }
    }

    fn run(self, count: usize, users: u32) -> Result<()> {
        let traffic = Traffic::new(Settings {
            seed: 1,
            events: count as u64,
            users,
            end_ms: END_MS,
            events_per_second: EVENTS_PER_SECOND,
        });
        let records = Packed::of(traffic, self.encoding());
        let format = self.encoding().format();
        let begun = Instant::now();
        let done = match self {
            Part::DecodeJson | Part::DecodeAvro => {
                let plan = Plan::new(&Fields::default(), &[]);
                measured_decode(&Decoders::new(plan, format, &Schemas::new())?, &records);
                Ok(())
            }
            Part::ApplyJson | Part::ApplyAvro => {
                measured_apply(partition_of(CONFIGURATION, format)?, &records)
            }
            Part::ApplyWithoutFunnel => measured_apply(partition_of("", format)?, &records),
            with => {
                let name = with.name();
                let kind = name.trim_start_matches("with-");
                let one = PEOPLE.iter().find(|(name, _)| *name == kind);
                let configuration = match one {
                    Some((_, definition)) => CONFIGURATION.to_owned() + definition,
                    None => with_people(),
                };
                measured_apply(partition_of(&configuration, format)?, &records)
            }
        };
        println!(
            "{:.0} ns an event",
            begun.elapsed().as_nanos() as f64 / count as f64
        );
        done
    }
}

#[inline(never)]
fn measured_decode(decoders: &Decoders, records: &Packed) {
    for payload in records.iter() {
        let record = Record {
            payload: Some(payload),
            ..Record::default()
        };
        black_box(decoders.read(&record, |event| event.time + event.user().len() as i64)).ok();
    }
}

#[inline(never)]
fn measured_apply(mut partition: Partition<Processors>, records: &Packed) -> Result<()> {
    packed::count(&mut partition, records)
}

/// Instructions of one part over so many events.
fn count(part: Part, events: usize, directory: &Path) -> Result<u64> {
    let out = directory.join("callgrind.out");
    let output = Command::new("valgrind")
        .args([
            "--tool=callgrind",
            "--collect-atstart=no",
            "--toggle-collect=*measured_*",
        ])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(std::env::current_exe()?)
        .args(["--one", &part.name(), &events.to_string()])
        .output()
        .context("valgrind is needed to count instructions; your system's packages have it")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {said}", part.name());
    let total = said.lines().find_map(|line| line.split_once("Collected : "));
    let (_, total) = total.with_context(|| format!("{}: callgrind counted nothing: {said}", part.name()))?;
    Ok(total.trim().parse()?)
}

fn kept(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../target/instructions")
        .join(format!("{name}.json"))
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    if let [part, events] = cli.one.as_slice() {
        let part = Part::from_str(part, true).map_err(anyhow::Error::msg)?;
        return part.run(events.parse()?, cli.users);
    }
    let before: BTreeMap<String, f64> = match &cli.against {
        Some(name) => {
            let text = std::fs::read(kept(name)).with_context(|| format!("nothing was kept as {name}"))?;
            serde_json::from_slice(&text)?
        }
        None => BTreeMap::new(),
    };
    let directory = tempfile::tempdir()?;
    let mut figures = BTreeMap::new();
    for part in Part::value_variants() {
        let long = count(*part, LONG, directory.path())?;
        let short = count(*part, SHORT, directory.path())?;
        let each = (long - short) as f64 / (LONG - SHORT) as f64;
        let change = before.get(&part.name()).map_or(String::new(), |before| {
            format!("  {:+.1} %", (each / before - 1.0) * 100.0)
        });
        println!("{:<22}{each:>9.0} instructions an event{change}", part.name());
        figures.insert(part.name(), each);
    }
    let path = kept(&cli.keep);
    std::fs::create_dir_all(path.parent().context("it lies in a directory")?)?;
    std::fs::write(path, serde_json::to_vec(&figures)?)?;
    Ok(())
}
