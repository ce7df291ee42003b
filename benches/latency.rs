//! From an event to the row that a query sees, at half of the load that this machine bears.
//!
//!     cargo bench --package cambium-benches --bench latency
//!     cargo bench --package cambium-benches --bench latency -- --rate 50000 --seconds 120
//!
//! A real Kafka gets traffic at a steady rate, `cambium run` counts it into its ClickHouse, and every so often there is
//! a marker among the events: an event of its own name, of a user of their own. The clock starts when the broker has
//! acknowledged it, and stops when the answer to a query that names it is there; so the time of the query is in it, and
//! on average half of the time between two of them. Whoever looks all the time measures themselves: so there is a pause
//! between two. Every process runs where the system puts it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use cambium_benches::load::{load, now_ms};
use cambium_benches::running::{Itself, Running, Times};
use cambium_benches::traffic::{EVENTS_PER_SECOND, Encoding, Settings, Traffic, user_id};
use cambium_clickhouse::Client;
use cambium_engine::HashKey;
use cambium_kafka::{LocalKafka, Producer};
use clap::Parser;
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};

/// As the program has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Cli {
    /// Events a second; left out: half of what is counted at most, which is found out first
    #[arg(long, value_name = "N")]
    rate: Option<f64>,
    /// For so long
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u64,
    /// How events are written
    #[arg(long, value_name = "FORMAT", default_value = "json")]
    format: Encoding,
    #[command(subcommand)]
    child: Option<Itself>,
    /// As cargo says to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

const PARTITIONS: i32 = 2;
/// What is counted at first, at full speed: from it the load is known, and the state is not empty.
const BACKLOG: u64 = 1_000_000;
/// Until caches are warm, and the rate is steady.
const WARM_UP: Duration = Duration::from_secs(10);
const MARK_EVERY: Duration = Duration::from_millis(200);
/// At least between two looks, and at least so many times as long as the last one took.
const LOOK_EVERY: Duration = Duration::from_millis(50);
const LOOK_SELDOM: u32 = 3;
/// Behind the last marker.
const PATIENCE: Duration = Duration::from_secs(30);

/// A view, and what asks it for those of the markers with these names that it shows: as an alert asks for an event, a
/// page for a slice, support for a user.
const VIEWS: [(&str, Ask); 3] = [
    ("event_counts", |names| {
        format!(
            "SELECT DISTINCT event AS marker FROM event_counts \
             WHERE app = 'shop' AND event IN ({}) AND bucket >= now() - INTERVAL 10 MINUTE",
            list(names.iter().map(|name| format!("'{name}'")))
        )
    }),
    ("unique_users", |names| {
        format!(
            "SELECT DISTINCT platform AS marker FROM unique_users \
             WHERE app = 'shop' AND metric = 'active' AND grain = 'minute' \
             AND platform IN ({}) AND bucket >= now() - INTERVAL 10 MINUTE",
            list(names.iter().map(|name| format!("'{name}'")))
        )
    }),
    ("sessions (open)", |names| {
        format!(
            "SELECT DISTINCT platform AS marker FROM sessions \
             WHERE app = 'shop' AND day >= today() - 1 AND user IN ({}) AND is_open",
            list(names.iter().map(|name| HashKey::default().user(name).to_string()))
        )
    }),
];

type Ask = fn(&[String]) -> String;

fn list(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(", ")
}

fn main() -> Result<()> {
    let mut cli = Cli::parse();
    if let Some(itself) = cli.child.take() {
        return itself.run();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure(&cli))
}

async fn measure(cli: &Cli) -> Result<()> {
    let kafka = tokio::task::block_in_place(LocalKafka::start)?;
    let brokers = kafka.brokers();
    let backlog = Settings {
        seed: 17,
        events: BACKLOG,
        users: 500_000,
        events_per_second: EVENTS_PER_SECOND,
        end_ms: now_ms(),
    };
    let loaded = load(&brokers, PARTITIONS, cli.format, backlog).await?;
    let directory = tempfile::tempdir()?;
    let topic = (loaded.topic.as_str(), cli.format);
    let mut running = Running::start(&brokers, topic, None, directory.path())?;
    running.wait_until_it_reads()?;
    let begun = Instant::now();
    running.wait_until_all_is_written(BACKLOG).await?;
    let at_most = BACKLOG as f64 / begun.elapsed().as_secs_f64();
    let rate = cli.rate.unwrap_or(at_most / 2.0);
    eprintln!("{at_most:.0} events/s at most; {rate:.0} events/s from now on");

    let lasts = WARM_UP + Duration::from_secs(cli.seconds);
    let sending = {
        let (brokers, topic, encoding) = (brokers.clone(), loaded.topic.clone(), cli.format);
        tokio::task::spawn_blocking(move || send(&brokers, &topic, encoding, rate, lasts))
    };
    tokio::time::sleep(WARM_UP).await;
    // What is behind now stays in every latency, unless it is caught up with.
    let lag = running.metric("cambium_lag_records")?;
    eprintln!("{lag:.0} records behind as it begins");
    let markers = Markers::default();
    let (_, client) = running.clickhouse()?;
    let before = (Times::of(&running, None)?, Flushes::of(&running)?);
    let looking: Vec<_> = VIEWS
        .iter()
        .map(|(_, ask)| tokio::spawn(look(client.clone(), *ask, markers.clone())))
        .collect();
    mark(&brokers, &loaded.topic, cli, &markers).await?;
    eprintln!("{}", Times::of(&running, None)?.since(&before.0));
    eprintln!("{}", Flushes::of(&running)?.since(&before.1));
    sending.await.context("sending ended")??;
    let lag = running.metric("cambium_lag_records")?;
    println!(
        "{rate:.0} events/s ({:.0} % of {at_most:.0}) as {} for {} s; {lag:.0} records behind at the end; seconds:",
        rate / at_most * 100.0,
        cli.format.name(),
        cli.seconds
    );
    println!(
        "{:<16} {:>6} {:>6} {:>6}  {:>7} {:>12}",
        "view", "p50", "p99", "max", "markers", "a look takes"
    );
    for ((view, _), looking) in VIEWS.iter().zip(looking) {
        let looks = looking.await.context("looking ended")?.context(*view)?;
        let part =
            |part: f64| looks.latencies[((looks.latencies.len() - 1) as f64 * part) as usize].as_secs_f64();
        println!(
            "{view:<16} {:>6.2} {:>6.2} {:>6.2}  {:>7} {:>9.0} ms",
            part(0.5),
            part(0.99),
            part(1.0),
            looks.latencies.len(),
            looks.each.as_secs_f64() * 1000.0
        );
    }
    Ok(())
}

/// How many flushes there were, how long ClickHouse took for them, in seconds, and how many rows it has.
struct Flushes {
    running: (f64, f64),
    settled: (f64, f64),
    rows: f64,
}

impl Flushes {
    fn of(running: &Running) -> Result<Flushes> {
        let histogram = |name: &str| -> Result<_> {
            let count = running.metric(&format!("{name}_count"))?;
            Ok((count, running.metric(&format!("{name}_sum"))?))
        };
        Ok(Flushes {
            running: histogram("cambium_flush_seconds")?,
            settled: histogram("cambium_settle_seconds")?,
            rows: running.metric("cambium_rows_written_total")?,
        })
    }

    fn since(&self, before: &Flushes) -> String {
        let mean =
            |now: (f64, f64), before: (f64, f64)| (now.0 - before.0, (now.1 - before.1) / (now.0 - before.0));
        let (running, settled) = (
            mean(self.running, before.running),
            mean(self.settled, before.settled),
        );
        format!(
            "{:.0} flushes took {:.2} s each, {:.0} of what users owe {:.2} s; {:.0} rows in all",
            running.0,
            running.1,
            settled.0,
            settled.1,
            self.rows - before.rows
        )
    }
}

/// Traffic as it happens.
fn send(brokers: &str, topic: &str, encoding: Encoding, rate: f64, lasts: Duration) -> Result<()> {
    let producer = Producer::new(brokers, &BTreeMap::new())?;
    let at_once = (rate * 10.0) as u32;
    let settings = Settings {
        seed: 19,
        events: (rate * lasts.as_secs_f64()) as u64,
        users: (at_once * 4).max(500_000),
        events_per_second: rate,
        end_ms: now_ms() + lasts.as_millis() as i64,
    };
    let mut payload = Vec::new();
    for behaviour in Traffic::new(settings) {
        while now_ms() < behaviour.arrives_ms {
            std::thread::sleep(Duration::from_millis(1));
        }
        payload.clear();
        encoding.write(&behaviour, &mut payload);
        let key = user_id(behaviour.user);
        producer.send_raw(topic, Some(key.as_bytes()), &payload, Some(behaviour.arrives_ms))?;
    }
    producer.flush(Duration::from_secs(30))
}

/// The markers that the broker has, and since when.
#[derive(Clone, Default)]
struct Markers(Arc<Mutex<Acknowledged>>);

#[derive(Default)]
struct Acknowledged {
    at: BTreeMap<String, Instant>,
    /// There will be no more.
    is_complete: bool,
}

impl Markers {
    fn change<R>(&self, change: impl FnOnce(&mut Acknowledged) -> R) -> Result<R> {
        let mut acknowledged = self.0.lock().map_err(|_| anyhow!("the markers are lost"))?;
        Ok(change(&mut acknowledged))
    }
}

/// Sends markers until the time is over.
async fn mark(brokers: &str, topic: &str, cli: &Cli, markers: &Markers) -> Result<()> {
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("partitioner", "murmur2_random")
        .set("linger.ms", "0")
        .create()?;
    let mut ticks = tokio::time::interval(MARK_EVERY);
    let count = Duration::from_secs(cli.seconds).div_duration_f64(MARK_EVERY) as u64;
    for number in 0..count {
        ticks.tick().await;
        let (name, now) = (format!("marker-{number}"), now_ms());
        let line = format!(
            r#"{{"message_id":"{name}","app":"shop","event":"{name}","user_id":"{name}","timestamp":{now},"platform":"{name}"}}"#
        );
        let payload = match cli.format {
            Encoding::Json => line.into_bytes(),
            Encoding::Avro => cambium_benches::to_avro(line.as_bytes())?,
        };
        let record = FutureRecord::to(topic)
            .key(&name)
            .payload(&payload)
            .timestamp(now);
        let sent = producer.send(record, Duration::from_secs(10)).await;
        sent.map_err(|(error, _)| error)
            .context("the broker did not take a marker")?;
        markers.change(|all| all.at.insert(name, Instant::now()))?;
    }
    markers.change(|all| all.is_complete = true)
}

/// What was seen in a view.
struct Looks {
    /// Sorted.
    latencies: Vec<Duration>,
    /// How long a query took on average.
    each: Duration,
}

/// Asks until every marker was seen.
async fn look(client: Client, ask: Ask, markers: Markers) -> Result<Looks> {
    let mut seen: BTreeMap<String, Duration> = BTreeMap::new();
    let (mut looks, mut took, mut waits_since) = (0, Duration::ZERO, None);
    loop {
        let (sent, is_complete) = markers.change(|all| (all.at.clone(), all.is_complete))?;
        let unseen = sent.keys().filter(|name| !seen.contains_key(*name));
        let unseen: Vec<String> = unseen.cloned().collect();
        if unseen.is_empty() && is_complete {
            let mut latencies: Vec<Duration> = seen.into_values().collect();
            latencies.sort();
            return Ok(Looks {
                latencies,
                each: took / looks.max(1),
            });
        }
        let begun = Instant::now();
        if is_complete {
            let since = *waits_since.get_or_insert(begun);
            ensure!(
                begun - since < PATIENCE,
                "{} of {} markers were seen: it does not keep up; give a smaller --rate, or a quieter machine",
                seen.len(),
                sent.len()
            );
        }
        if !unseen.is_empty() {
            let rows = client.rows(&ask(&unseen)).await?;
            let now = Instant::now();
            looks += 1;
            took += now - begun;
            for row in rows {
                let name = row["marker"].as_str().context("a marker has a name")?;
                seen.insert(name.to_owned(), now.saturating_duration_since(sent[name]));
            }
        }
        tokio::time::sleep(LOOK_EVERY.max(begun.elapsed() * LOOK_SELDOM)).await;
    }
}
