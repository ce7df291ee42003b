//! Side by side, on one machine and the same events: bare consumers that throw records away, Cambium with every
//! processor and ClickHouse, decoding alone; and, where they are asked for, Flink SQL and ClickHouse by itself.
//!
//!     cargo bench --package cambium-benches --bench end_to_end
//!     cargo bench --package cambium-benches --bench end_to_end -- --quick --format avro
//!     cargo bench --package cambium-benches --bench end_to_end -- --peers flink,clickhouse
//!
//! A real Kafka, two partitions keyed by user, lz4. Each contestant is a process of its own on one core, so that its
//! processor time and memory are its own; broker, ClickHouse and this program share the other cores.

mod bare;
mod decode;
mod peers;
mod report;
mod whole;

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use cambium_benches::load::{Loaded, load, now_ms};
use cambium_benches::machine::{Cores, Role, take_place};
use cambium_benches::running::Itself;
use cambium_benches::traffic::{EVENTS_PER_SECOND, Encoding, Settings, check_avro};
use cambium_kafka::LocalKafka;
use clap::{Parser, Subcommand, ValueEnum};
use peers::Peer;
use report::{Figure, median, table};

/// As in `cambium`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
    /// Other engines beside, which are fetched for it
    #[arg(long, value_delimiter = ',', value_name = "PEERS")]
    peers: Vec<Peer>,
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
    #[command(flatten)]
    Cambium(Itself),
}

fn main() -> Result<()> {
    let mut cli = Cli::parse();
    let Some(child) = cli.child.take() else {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        return runtime.block_on(measure(&cli));
    };
    let figure = match child {
        Contestant::Cambium(itself) => return itself.run(),
        Contestant::Poll(arguments) => alone(|| bare::by_poll(&arguments))?,
        Contestant::Batch(arguments) => alone(|| bare::by_batch(&arguments))?,
        Contestant::Decode(arguments) => alone(|| decode::run(&arguments))?,
    };
    // A child's last word.
    println!("{}", serde_json::to_string(&figure)?);
    Ok(())
}

/// Does something on the core of contestants.
fn alone(contestant: impl FnOnce() -> Result<Figure>) -> Result<Figure> {
    take_place(Role::Consumer)?;
    contestant()
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
    for peer in &cli.peers {
        peer.install()?;
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
            events_per_second: EVENTS_PER_SECOND,
            end_ms: now_ms(),
        };
        let loaded = load(&ground.brokers, PARTITIONS, *encoding, settings).await?;
        describe(&loaded);
        // Once for nothing: behind that, the log lies in memory for all of them.
        ground.bare("batch", &loaded)?;
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
        let mut figures: Vec<Figure> = rounds.into_iter().filter_map(median).collect();
        for peer in &cli.peers {
            // They take minutes: once is enough. One that fails takes nothing from the others.
            let ran = peer.run(&peers::Ground {
                brokers: &ground.brokers,
                cores: ground.cores.as_ref(),
                loaded: &loaded,
                settings,
            });
            match ran {
                Ok(more) => figures.extend(more),
                Err(error) => eprintln!("  {peer:?}: {error:#}"),
            }
        }
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
        let users = self.users.to_string();
        let encoding = loaded.encoding.name();
        let decode = ["--encoding", encoding, "--events", &events, "--users", &users];
        Ok(vec![
            self.bare("poll", loaded)?,
            self.bare("batch", loaded)?,
            self.child("decode", &decode)?,
            whole::run(&self.brokers, loaded, self.cores.as_ref()).await?,
        ])
    }

    fn bare(&self, name: &str, loaded: &Loaded) -> Result<Figure> {
        let numbers = [PARTITIONS.to_string(), loaded.events.to_string()];
        let place = ["--brokers", &self.brokers, "--topic", &loaded.topic];
        let amount = ["--partitions", &numbers[0], "--events", &numbers[1]];
        self.child(name, &[place, amount].concat())
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
