//! A definition is given its past: how long a million events of history take, on one core and on all, while `cambium run`
//! goes on over a topic that events still come to.
//!
//!     cargo bench --package cambium-benches --bench past
//!     cargo bench --package cambium-benches --bench past -- --events 500000
//!
//! A real Kafka with four partitions and a ClickHouse of its own. A funnel is there from the start; one with the same steps
//! is added, and given its past by `cambium replay --topic`, which is killed twice on the way (`kill -9`). In the end the two
//! have the same users in each step, and nobody saw the second before.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cambium_benches::load::now_ms;
use cambium_benches::machine::memory;
use cambium_benches::running::{Itself, Process, start_clickhouse};
use cambium_benches::traffic::{EVENTS_PER_SECOND, Encoding, Settings, Traffic, user_id};
use cambium_clickhouse::Client;
use cambium_kafka::{LocalKafka, Producer, create_topic};
use clap::Parser;

/// As the program has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Cli {
    /// Events of history
    #[arg(long, value_name = "N", default_value_t = 2_000_000)]
    events: u64,
    /// Events a second that still come
    #[arg(long, value_name = "N", default_value_t = 2_000)]
    rate: u64,
    #[command(subcommand)]
    child: Option<Itself>,
    /// As cargo says to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

const TOPIC: &str = "past";
const PARTITIONS: i32 = 4;
const USERS: u32 = 200_000;
const PATIENCE: Duration = Duration::from_secs(300);
const LOOK_EVERY: Duration = Duration::from_millis(100);
const STEPS: &str =
    "steps = [\"view\", \"cart\", \"checkout\", \"buy\"]\nwithin = \"1 day\"\nby = [\"platform\"]\n";

fn main() -> Result<()> {
    let mut cli = Cli::parse();
    if let Some(itself) = cli.child.take() {
        return itself.run();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure(&cli))
}

struct World {
    directory: PathBuf,
    brokers: String,
    client: Client,
}

impl World {
    /// A configuration whose funnels have these names, each with the same steps.
    fn configuration(&self, file: &str, funnels: &[&str]) -> Result<PathBuf> {
        let funnels: String = funnels
            .iter()
            .map(|name| format!("[[funnel]]\nname = \"{name}\"\n{STEPS}"))
            .collect();
        let text = format!(
            "[kafka]\nbrokers = \"{}\"\n[[source]]\ntopic = \"{TOPIC}\"\n[clickhouse]\nurl = \"{}\"\n[http]\nlisten = \"\"\n{funnels}",
            self.brokers,
            self.client.url()
        );
        let path = self.directory.join(file);
        std::fs::write(&path, text).context("cannot write the configuration")?;
        Ok(path)
    }

    /// One of Cambium's commands, on these cores where they are named.
    fn command(&self, command: &str, config: &Path, cores: Option<&str>) -> Result<Command> {
        let itself = std::env::current_exe()?;
        let mut started = match cores {
            Some(cores) => {
                let mut taskset = Command::new("taskset");
                taskset.args(["-c", cores]).arg(itself);
                taskset
            }
            None => Command::new(itself),
        };
        started.arg(command).arg("--config").arg(config);
        started.arg("--data").arg(&self.directory);
        Ok(started)
    }

    fn replay(&self, config: &Path, funnel: &str, cores: Option<&str>) -> Result<Process> {
        let mut replay = self.command("replay", config, cores)?;
        replay.args(["--topic", TOPIC, "--definition", funnel]);
        replay.stdout(Stdio::piped());
        Process::start(&mut replay)
    }

    async fn number(&self, query: &str) -> Result<u64> {
        let rows = self.client.rows(query).await?;
        Ok(rows.first().and_then(|row| row["n"].as_u64()).unwrap_or(0))
    }

    async fn wait_for(&self, query: &str, least: u64) -> Result<()> {
        let begun = Instant::now();
        while self.number(query).await? < least {
            ensure!(begun.elapsed() < PATIENCE, "{query}: not {least} in time");
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// The users of each day, slice and step.
    async fn steps(&self, funnel: &str) -> Result<String> {
        let query = format!(
            "SELECT day, platform, step, uniqCombined64Merge(users) FROM funnel_users WHERE funnel = '{funnel}' AND grain = 'day' \
             GROUP BY day, platform, step ORDER BY day, platform, step"
        );
        Ok(String::from_utf8(self.client.fetch(&query, "TSV").await?)?)
    }

    /// Gives a funnel its past; in how many seconds it was read, and after how many more it was shown.
    async fn give(&self, config: &Path, funnel: &str, cores: Option<&str>) -> Result<(f64, f64)> {
        let begun = Instant::now();
        let mut replaying = self.replay(config, funnel, cores)?;
        let stdout = replaying.0.stdout.take().context("what it prints is read")?;
        let reading = std::thread::spawn(move || {
            let mut read_after = 0.0;
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                println!("  {line}");
                if line.starts_with("read ") {
                    read_after = begun.elapsed().as_secs_f64();
                }
            }
            read_after
        });
        let mut most = 0;
        loop {
            if let Some(status) = replaying.0.try_wait()? {
                ensure!(status.success(), "replay ended with {status}");
                break;
            }
            most = most.max(memory(replaying.0.id()).unwrap_or(0));
            let shown = self.steps(funnel).await?;
            let there = self.steps("there").await?;
            let lines = |text: &str| text.lines().count();
            ensure!(
                shown.is_empty() || lines(&shown) >= lines(&there),
                "half of it is shown"
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let all = begun.elapsed().as_secs_f64();
        let read = reading
            .join()
            .map_err(|_| anyhow::anyhow!("what it prints cannot be read"))?;
        println!("  {} MB at most", most >> 20);
        Ok((read, all - read))
    }
}

async fn measure(cli: &Cli) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let kafka = tokio::task::block_in_place(LocalKafka::start)?;
    create_topic(&kafka.brokers(), &BTreeMap::new(), TOPIC, PARTITIONS).await?;
    let (_engine, client) = start_clickhouse(&directory.path().join("clickhouse")).await?;
    let world = World {
        client,
        directory: directory.path().to_owned(),
        brokers: kafka.brokers(),
    };
    let producer = Producer::new(&world.brokers, &BTreeMap::new())?;
    let settings = |seed, events, end_ms| Settings {
        seed,
        events,
        users: USERS,
        events_per_second: EVENTS_PER_SECOND,
        end_ms,
    };
    let before = settings(11, cli.events, now_ms() - 1000);
    let mut sent = tokio::task::block_in_place(|| send(&producer, before, None))?;
    let config = world.configuration("before.toml", &["there"])?;
    let _running = Process::start(&mut world.command("run", &config, None)?)?;
    let counted = "SELECT toUInt64(sum(offset)) AS n FROM progress";
    world.wait_for(counted, sent).await?;
    println!(
        "{sent} events of history are counted; {} a second still come",
        cli.rate
    );

    let stop = Arc::new(AtomicBool::new(false));
    let more = Arc::new(AtomicU64::new(0));
    let sending = std::thread::spawn({
        let (stop, more, rate) = (stop.clone(), more.clone(), cli.rate);
        let coming = settings(13, EVENTS_PER_SECOND as u64 * 3600, now_ms() + 3_600_000);
        move || send(&producer, coming, Some((&stop, &more, rate)))
    });
    let cores: [(&str, Option<&str>); 2] = [("one core", Some("0")), ("all cores", None)];
    let mut funnels = vec!["there"];
    for (place, (who, cores)) in cores.into_iter().enumerate() {
        let funnel = ["first", "second"][place];
        funnels.push(funnel);
        let config = world.configuration(&format!("{funnel}.toml"), &funnels)?;
        if place == 0 {
            for pause in [1, 3] {
                let replaying = world.replay(&config, funnel, cores)?;
                tokio::time::sleep(Duration::from_secs(pause)).await;
                drop(replaying);
                println!("  killed after {pause} s");
                ensure!(world.steps(funnel).await?.is_empty(), "half of it is shown");
            }
        }
        let (read, shown) = world.give(&config, funnel, cores).await?;
        let history = (sent + more.load(Ordering::Relaxed)) as f64 / 1e6;
        println!(
            "{who}: {:.1} s per million events of history, shown {shown:.1} s after they were read{}",
            read / history,
            if place == 0 {
                " (some of it before the kills)"
            } else {
                ""
            }
        );
    }
    stop.store(true, Ordering::Relaxed);
    sending
        .join()
        .map_err(|_| anyhow::anyhow!("the producer ended"))??;
    sent += more.load(Ordering::Relaxed);
    world.wait_for(counted, sent).await?;
    let there = world.steps("there").await?;
    for funnel in ["first", "second"] {
        ensure!(
            world.steps(funnel).await? == there,
            "{funnel} is not what it would be from the start"
        );
    }
    println!(
        "{} days, slices and steps: all three funnels have the same users",
        there.lines().count()
    );
    Ok(())
}

/// How it is sent: until it is stopped, so many a second, told as they are.
type Pace<'p> = (&'p AtomicBool, &'p AtomicU64, u64);

fn send(producer: &Producer, settings: Settings, pace: Option<Pace<'_>>) -> Result<u64> {
    let (mut payload, mut sent, begun) = (Vec::new(), 0, Instant::now());
    for behaviour in Traffic::new(settings) {
        if let Some((stop, told, rate)) = pace {
            while begun.elapsed().as_secs_f64() * (rate as f64) < sent as f64 {
                std::thread::sleep(Duration::from_millis(5));
            }
            if stop.load(Ordering::Relaxed) {
                break;
            }
            told.store(sent + 1, Ordering::Relaxed);
        }
        payload.clear();
        Encoding::Json.write(&behaviour, &mut payload);
        let key = user_id(behaviour.user);
        // What still comes is late by no clock: its time is its own.
        producer.send_raw(TOPIC, Some(key.as_bytes()), &payload, None)?;
        sent += 1;
    }
    producer.flush(Duration::from_secs(120))?;
    Ok(sent)
}
