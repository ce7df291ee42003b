//! Twenty minutes at four fifths of what this machine bears, with a process killed every minute; before them a back-log.
//!
//!     cargo bench --package cambium-benches --bench soak
//!     cargo bench --package cambium-benches --bench soak -- --minutes 5 --backlog 2000000
//!
//! A real Kafka, a ClickHouse of its own, and two `cambium run` of one group. A back-log is worked off at full speed;
//! then events come as fast as they are taken, which says what the machine bears with its producer and its broker; then
//! four fifths of that, while every minute one of the two is killed by `kill -9` and started again. In the end the numbers
//! are compared with what was sent. What is remembered of events is short (lateness, funnel), and the users are people who
//! come back: after some minutes all have come, and what grows then is a leak.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use cambium_benches::load::now_ms;
use cambium_benches::machine::memory;
use cambium_benches::running::{Itself, Process, start_clickhouse};
use cambium_benches::traffic::{Behaviour, EVENTS_PER_SECOND, Encoding, Settings, Traffic, user_id};
use cambium_benches::{SHORT_FUNNEL, SHORT_MEMORY, SHORT_MEMORY_BEHIND_MS};
use cambium_clickhouse::Client;
use cambium_kafka::{LocalKafka, Producer, create_topic};
use clap::Parser;

/// As the program has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Cli {
    #[arg(long, value_name = "N", default_value_t = 20)]
    minutes: u64,
    /// Events that lie there before the first process starts
    #[arg(long, value_name = "N", default_value_t = 10_000_000)]
    backlog: u64,
    /// Events a second; left out: four fifths of what is taken at most
    #[arg(long, value_name = "N")]
    rate: Option<f64>,
    #[command(subcommand)]
    child: Option<Itself>,
    /// As cargo says to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

const TOPIC: &str = "soak";
const PARTITIONS: i32 = 4;
const FIRST_STEP: &str = "view";
/// What numbers of users from sets may be off by.
const ERROR: f64 = 0.01;
const USERS: u32 = 1_000_000;
const LOOK_EVERY: Duration = Duration::from_secs(5);
const KILL_EVERY: Duration = Duration::from_secs(60);
/// As fast as they are taken, for so long.
const AT_MOST: Duration = Duration::from_secs(40);
/// The events of that stretch lie this near to each other, so that its users are people.
const NOMINAL_RATE: f64 = 20_000.0;
/// Where nothing more is counted for so long, it hangs.
const STANDSTILL: Duration = Duration::from_secs(120);

fn main() -> Result<()> {
    let mut cli = Cli::parse();
    if let Some(itself) = cli.child.take() {
        return itself.run();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(soak(&cli))
}

/// What was sent, as far as the numbers say it.
#[derive(Default)]
struct Sent {
    events: u64,
    duplicates: u64,
    by_user: Vec<bool>,
    /// Who began a try of the funnel.
    viewers: Vec<bool>,
    by_step: BTreeMap<&'static str, u64>,
}

impl Sent {
    fn users(&self) -> usize {
        self.by_user.iter().filter(|came| **came).count()
    }
}

/// Sends a stretch of traffic, each event when it arrives, or at once where that is past.
fn send(
    producer: &Producer,
    settings: Settings,
    sent: &mut Sent,
    stop: &AtomicBool,
    counters: &Counters,
) -> Result<()> {
    let mut payload = Vec::new();
    for users in [&mut sent.by_user, &mut sent.viewers] {
        users.resize(users.len().max(settings.users as usize), false);
    }
    let in_time = |one: &Behaviour| one.arrives_ms - one.time_ms < SHORT_MEMORY_BEHIND_MS;
    for behaviour in Traffic::new(settings).filter(in_time) {
        while now_ms() < behaviour.arrives_ms {
            std::thread::sleep(Duration::from_millis(1));
        }
        if stop.load(Ordering::Relaxed) {
            break;
        }
        payload.clear();
        Encoding::Json.write(&behaviour, &mut payload);
        let key = user_id(behaviour.user);
        producer.send_raw(TOPIC, Some(key.as_bytes()), &payload, Some(behaviour.arrives_ms))?;
        sent.events += 1;
        counters.events.fetch_add(1, Ordering::Relaxed);
        sent.viewers[behaviour.user as usize] |= behaviour.event() == FIRST_STEP;
        if behaviour.is_repeated {
            sent.duplicates += 1;
        } else {
            *sent.by_step.entry(behaviour.event()).or_default() += 1;
        }
        if !std::mem::replace(&mut sent.by_user[behaviour.user as usize], true) {
            counters.users.fetch_add(1, Ordering::Relaxed);
        }
    }
    producer.flush(Duration::from_secs(120))
}

/// What was sent so far, to be told while it is sent.
#[derive(Default)]
struct Counters {
    events: AtomicU64,
    users: AtomicU64,
}

struct World {
    directory: PathBuf,
    configuration: String,
    client: Client,
    processes: Vec<Process>,
    begun: Instant,
    /// The offsets that were shown last, added up.
    shown: u64,
    shown_at: Instant,
    newest: i64,
    counters: Arc<Counters>,
}

impl World {
    /// Whoever is started again in the place of another has its name, and so its partitions at once.
    fn run(&self, place: usize) -> Result<Process> {
        let config = self.directory.join(format!("{place}.toml"));
        let named = format!("[kafka]\nsettings = {{ \"group.instance.id\" = \"soak-{place}\" }}");
        fs::write(&config, self.configuration.replace("[kafka]", &named))
            .context("cannot write the configuration")?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("run").arg("--config").arg(config);
        Process::start(command.arg("--data").arg(&self.directory))
    }

    /// One line about how it goes; the records that ClickHouse holds all numbers of.
    async fn look(&mut self, sent: u64) -> Result<u64> {
        let query = "SELECT sum(offset) AS shown, (SELECT toUnixTimestamp(max(bucket)) FROM event_counts) AS newest FROM progress";
        let rows = self.client.rows(query).await?;
        let number = |name: &str| rows.first().and_then(|row| row[name].as_i64()).unwrap_or(0);
        let (shown, newest) = (number("shown") as u64, number("newest"));
        ensure!(
            shown >= self.shown,
            "progress went back from {} to {shown}",
            self.shown
        );
        ensure!(newest >= self.newest, "minutes that were shown are gone");
        if shown > self.shown {
            (self.shown, self.shown_at) = (shown, Instant::now());
        }
        self.newest = newest;
        ensure!(
            self.shown_at.elapsed() < STANDSTILL,
            "{shown} of {sent} records are counted, and no more come"
        );
        let megabytes = self
            .processes
            .iter()
            .map(|one| memory(one.0.id()).unwrap_or(0) >> 20);
        let megabytes: Vec<u64> = megabytes.collect();
        let users = self.counters.users.load(Ordering::Relaxed);
        let each = (megabytes.iter().sum::<u64>() << 20) / users.max(1);
        println!(
            "{:>6.0} s  {sent:>11} sent  {shown:>11} counted  {:>9} behind  {megabytes:?} MB, {users} users, {each} bytes each",
            self.begun.elapsed().as_secs_f64(),
            sent.saturating_sub(shown)
        );
        Ok(shown)
    }

    async fn catch_up(&mut self, sent: u64) -> Result<()> {
        while self.look(sent).await? < sent {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }
}

async fn soak(cli: &Cli) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let kafka = tokio::task::block_in_place(LocalKafka::start)?;
    create_topic(&kafka.brokers(), &BTreeMap::new(), TOPIC, PARTITIONS).await?;
    let (mut world, engine) = world(directory.path(), &kafka.brokers()).await?;
    let producer = Arc::new(Producer::new(&kafka.brokers(), &BTreeMap::new())?);
    let mut sent = Sent::default();
    let counters = Arc::new(Counters::default());
    world.counters = counters.clone();
    let never = AtomicBool::new(false);

    // Of so many seconds, which ended so many seconds ago.
    let traffic = |seed, events_per_second: f64, lasts_s: f64, ended_s: f64| Settings {
        seed,
        events: (events_per_second * lasts_s) as u64,
        // So few that all have come after some minutes.
        users: USERS,
        events_per_second,
        end_ms: now_ms() - (ended_s * 1000.0) as i64,
    };
    let before = traffic(
        23,
        EVENTS_PER_SECOND,
        cli.backlog as f64 / EVENTS_PER_SECOND,
        1200.0,
    );
    tokio::task::block_in_place(|| send(&producer, before, &mut sent, &never, &counters))?;
    let begun = Instant::now();
    for place in 0..2 {
        let process = world.run(place)?;
        world.processes.push(process);
    }
    world.catch_up(sent.events).await?;
    let a_second = sent.events as f64 / begun.elapsed().as_secs_f64();
    println!("the back-log: {} events, {a_second:.0} a second", sent.events);

    // As fast as they are taken: the producer knows no pause, and shares the machine.
    let (shown, begun) = (world.shown, Instant::now());
    let fast = traffic(29, NOMINAL_RATE, 900.0, 120.0);
    let rate = match cli.rate {
        Some(rate) => rate,
        None => {
            let (counted, stopped) =
                stretch(&mut world, (&producer, &counters), sent, fast, AT_MOST, None).await?;
            sent = counted;
            let at_most = (stopped - shown) as f64 / begun.elapsed().as_secs_f64();
            println!("as fast as they are taken: {at_most:.0} events a second");
            0.8 * at_most
        }
    };
    world.catch_up(sent.events).await?;

    println!(
        "{rate:.0} events a second for {} minutes, and a kill every minute",
        cli.minutes
    );
    let lasts = Duration::from_secs(60 * cli.minutes);
    let steady = traffic(31, rate, lasts.as_secs_f64(), -lasts.as_secs_f64());
    (sent, _) = stretch(
        &mut world,
        (&producer, &counters),
        sent,
        steady,
        lasts,
        Some(KILL_EVERY),
    )
    .await?;
    let ended = Instant::now();
    world.catch_up(sent.events).await?;
    println!(
        "caught up {:.1} s after the last event",
        ended.elapsed().as_secs_f64()
    );
    for process in std::mem::take(&mut world.processes) {
        process.end()?;
    }
    check(&world.client, &sent).await?;
    engine.end()
}

/// A stretch of traffic, looked at until it is over; what was sent up to its end, and what was counted.
async fn stretch(
    world: &mut World,
    (producer, counters): (&Arc<Producer>, &Arc<Counters>),
    mut sent: Sent,
    settings: Settings,
    lasts: Duration,
    kill_every: Option<Duration>,
) -> Result<(Sent, u64)> {
    let stop = Arc::new(AtomicBool::new(false));
    let sending = {
        let (producer, counters, stop) = (producer.clone(), counters.clone(), stop.clone());
        tokio::task::spawn_blocking(move || {
            send(&producer, settings, &mut sent, &stop, &counters)?;
            anyhow::Ok(sent)
        })
    };
    let (begun, mut killed_at, mut victim) = (Instant::now(), Instant::now(), 0);
    while begun.elapsed() < lasts && !sending.is_finished() {
        tokio::time::sleep(LOOK_EVERY).await;
        world.look(counters.events.load(Ordering::Relaxed)).await?;
        if kill_every.is_some_and(|every| killed_at.elapsed() >= every) {
            // Dropped, it is killed.
            world.processes[victim] = world.run(victim)?;
            println!("          process {victim} killed and started again");
            (killed_at, victim) = (Instant::now(), 1 - victim);
        }
    }
    stop.store(true, Ordering::Relaxed);
    Ok((sending.await??, world.shown))
}

/// Where everything is, and ClickHouse.
async fn world(directory: &Path, brokers: &str) -> Result<(World, Process)> {
    let (engine, client) = start_clickhouse(&directory.join("clickhouse")).await?;
    let configuration = format!(
        "[kafka]\nbrokers = \"{brokers}\"\n[[source]]\ntopic = \"{TOPIC}\"\n[clickhouse]\nurl = \"{}\"\n\
         [http]\nlisten = \"\"\n{SHORT_MEMORY}{SHORT_FUNNEL}",
        client.url()
    );
    let world = World {
        directory: directory.to_owned(),
        configuration,
        client,
        processes: Vec::new(),
        begun: Instant::now(),
        shown: 0,
        shown_at: Instant::now(),
        newest: 0,
        counters: Arc::default(),
    };
    Ok((world, engine))
}

/// The numbers are those of what was sent.
async fn check(client: &Client, sent: &Sent) -> Result<()> {
    let accepted = sent.events - sent.duplicates;
    let users = sent.users();
    let expected = [
        ("read", "SELECT sum(read) AS n FROM records", sent.events),
        ("accepted", "SELECT sum(accepted) AS n FROM records", accepted),
        (
            "duplicate",
            "SELECT sum(duplicate) AS n FROM records",
            sent.duplicates,
        ),
        ("counted", "SELECT sum(events) AS n FROM event_counts", accepted),
        ("in sessions", "SELECT sum(events) AS n FROM sessions", accepted),
        (
            "users with sessions",
            "SELECT uniqExact(user) AS n FROM sessions",
            users as u64,
        ),
    ];
    let mut wrong = 0;
    let mut tell = |what: &str, found: u64, expected: u64, error: f64| {
        let is_right = found.abs_diff(expected) as f64 <= error * expected as f64;
        println!(
            "{what:<24} {found:>12}  {}",
            if is_right { "right" } else { "WRONG" }
        );
        wrong += u64::from(!is_right);
    };
    let number = async |query: &str| -> Result<u64> {
        let rows = client.rows(query).await?;
        let row = rows.first().context("a query has no answer")?;
        row["n"].as_u64().context("an answer is no number")
    };
    for (what, query, expected) in expected {
        tell(what, number(query).await?, expected, 0.0);
    }
    for (event, expected) in &sent.by_step {
        let query = format!("SELECT sum(events) AS n FROM event_counts WHERE event = '{event}'");
        tell(event, number(&query).await?, *expected, 0.0);
    }
    let query = "SELECT uniqCombined64Merge(users) AS n FROM funnel_users WHERE grain = 'day' AND step = 1";
    let viewers = sent.viewers.iter().filter(|came| **came).count();
    tell(
        "began the funnel (1 %)",
        number(query).await?,
        viewers as u64,
        ERROR,
    );
    if wrong > 0 {
        bail!("{wrong} numbers are not those of what was sent");
    }
    Ok(())
}
