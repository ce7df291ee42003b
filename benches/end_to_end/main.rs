//! Side by side, on one machine and the same events: bare consumers that throw records away, Cambium with every
//! processor and ClickHouse, decoding alone.
//!
//!     cargo bench --package cambium-benches --bench end_to_end
//!     cargo bench --package cambium-benches --bench end_to_end -- --quick --format avro
//!
//! A real Kafka, two partitions keyed by user, lz4. Each contestant is a process of its own on one core, so that its
//! processor time and memory are its own; broker, ClickHouse and this program share the other cores.

mod bare;
mod decode;
mod report;
mod whole;

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use cambium_benches::load::{Loaded, load, now_ms};
use cambium_benches::machine::{Cores, Role, take_place};
use cambium_benches::traffic::{Encoding, Settings, check_avro};
use cambium_kafka::LocalKafka;
use clap::{Parser, Subcommand, ValueEnum};
use report::{Figure, median, table};

const PARTITIONS: i32 = 2;
pub const SEED: u64 = 7;
const EVENTS: u64 = 10_000_000;
const QUICK_EVENTS: u64 = 2_000_000;

/// Measures everything, one after the other.
#[derive(Parser)]
struct Cli {
    /// 2 million events instead of 10 million
    #[arg(long)]
    quick: bool,
    /// So many events
    #[arg(long, value_name = "N")]
    events: Option<u64>,
    /// Users of the shop; fewer of them come when there are few events
    #[arg(long, value_name = "N", default_value_t = 500_000)]
    users: u32,
    /// How events are written
    #[arg(long, value_name = "FORMAT", default_value = "both")]
    format: Formats,
    /// Each contestant so often; the figures are those of the round in the middle
    #[arg(long, value_name = "N", default_value_t = 1)]
    rounds: usize,
    #[command(subcommand)]
    child: Option<Contestant>,
    /// As cargo says to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Formats {
    Json,
    Avro,
    Both,
}

impl Formats {
    fn encodings(self) -> &'static [Encoding] {
        match self {
            Formats::Json => &[Encoding::Json],
            Formats::Avro => &[Encoding::Avro],
            Formats::Both => &[Encoding::Json, Encoding::Avro],
        }
    }
}

/// What this program is as a child of itself.
#[derive(Subcommand)]
#[command(hide = true)]
enum Contestant {
    Poll(bare::Arguments),
    Batch(bare::Arguments),
    Decode(decode::Arguments),
    /// Cambium itself, as it is
    Run(cambium::commands::run::Arguments),
    /// The embedded engine, which Cambium starts
    Clickhouse(cambium::commands::clickhouse::Arguments),
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    match &cli.child {
        None => {}
        Some(Contestant::Clickhouse(_)) => take_place(Role::Server)?,
        Some(_) => take_place(Role::Consumer)?,
    }
    // Behind taking places: a runtime has as many threads as there are cores.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match cli.child {
        None => runtime.block_on(measure(&cli)),
        Some(Contestant::Poll(arguments)) => say(bare::by_poll(&arguments)?),
        Some(Contestant::Batch(arguments)) => say(bare::by_batch(&arguments)?),
        Some(Contestant::Decode(arguments)) => say(decode::run(&arguments)?),
        Some(Contestant::Run(arguments)) => {
            let warnings =
                tracing_subscriber::fmt().with_max_level(tracing_subscriber::filter::LevelFilter::WARN);
            warnings.with_writer(std::io::stderr).init();
            runtime.block_on(cambium::commands::run::run(arguments))
        }
        Some(Contestant::Clickhouse(arguments)) => {
            runtime.block_on(cambium::commands::clickhouse::run(arguments))
        }
    }
}

/// A child's last word.
fn say(figure: Figure) -> Result<()> {
    println!("{}", serde_json::to_string(&figure)?);
    Ok(())
}

async fn measure(cli: &Cli) -> Result<()> {
    check_avro()?;
    let cores = Cores::of_this_machine()?;
    match &cores {
        Some(cores) => {
            cores.take_servers()?;
            eprintln!(
                "contestants on core {}, all else on {}",
                cores.consumer, cores.servers
            );
        }
        None => eprintln!("there is one core only: contestants share it with the broker and with ClickHouse"),
    }
    let kafka = tokio::task::block_in_place(LocalKafka::start)?;
    let ground = Ground {
        brokers: kafka.brokers(),
        cores,
        users: cli.users,
    };
    for encoding in cli.format.encodings() {
        let settings = Settings {
            seed: SEED,
            events: cli
                .events
                .unwrap_or(if cli.quick { QUICK_EVENTS } else { EVENTS }),
            users: cli.users,
            end_ms: now_ms(),
        };
        let loaded = load(&ground.brokers, PARTITIONS, *encoding, settings).await?;
        describe(&loaded);
        let mut rounds: Vec<Vec<Figure>> = Vec::new();
        for round in 1..=cli.rounds {
            for (place, figure) in ground.round(&loaded).await?.into_iter().enumerate() {
                eprintln!(
                    "  round {round}: {}, {} events/s",
                    figure.who,
                    report::thousands(figure.events_per_second())
                );
                match rounds.get_mut(place) {
                    Some(others) => others.push(figure),
                    None => rounds.push(vec![figure]),
                }
            }
        }
        let figures: Vec<Figure> = rounds.into_iter().filter_map(median).collect();
        println!("{}\n\n{}\n", title(&loaded), table(&figures, ["poll", "batch"]));
    }
    Ok(())
}

fn title(loaded: &Loaded) -> String {
    format!(
        "{} events of {} users as {}, {} bytes each",
        loaded.events,
        loaded.users,
        loaded.encoding.name(),
        loaded.bytes / loaded.events.max(1)
    )
}

fn describe(loaded: &Loaded) {
    eprintln!(
        "{}; {} of them twice; sent in {:.0} s",
        title(loaded),
        loaded.duplicates,
        loaded.took.as_secs_f64()
    );
}

/// What all contestants run on.
struct Ground {
    brokers: String,
    cores: Option<Cores>,
    users: u32,
}

impl Ground {
    /// Every contestant once, near each other in time: what else the machine does then hits all of them.
    async fn round(&self, loaded: &Loaded) -> Result<Vec<Figure>> {
        let events = loaded.events.to_string();
        let partitions = PARTITIONS.to_string();
        let source = [
            "--brokers",
            &self.brokers,
            "--topic",
            &loaded.topic,
            "--partitions",
            &partitions,
            "--events",
            &events,
        ];
        let users = self.users.to_string();
        let decode = [
            "--encoding",
            loaded.encoding.name(),
            "--events",
            &events,
            "--users",
            &users,
        ];
        Ok(vec![
            self.child("poll", &source)?,
            self.child("batch", &source)?,
            self.child("decode", &decode)?,
            whole::run(&self.brokers, loaded, self.cores.as_ref()).await?,
        ])
    }

    fn child(&self, name: &str, arguments: &[&str]) -> Result<Figure> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(name).args(arguments);
        command.stdin(Stdio::null()).stderr(Stdio::inherit());
        if let Some(cores) = &self.cores {
            cores.hand_down(&mut command);
        }
        let output = command.output().with_context(|| format!("cannot start {name}"))?;
        ensure!(output.status.success(), "{name} failed: {}", output.status);
        serde_json::from_slice(&output.stdout).with_context(|| format!("{name} says no figure"))
    }
}
