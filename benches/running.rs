//! Cambium itself, as a process of its own: this program run again as `run`, with what was configured.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use cambium::commands::{clickhouse, replay, run};
use cambium_clickhouse::Client;
use cambium_clickhouse::embedded::ADDRESS_FILE;
use clap::Subcommand;
use tracing_subscriber::filter::LevelFilter;

use crate::CONFIGURATION;
use crate::machine::{self, Cores, Role, take_place};
use crate::traffic::Encoding;

const PATIENCE: Duration = Duration::from_secs(60);
/// Without any progress for so long, it hangs.
const STANDSTILL: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What a measuring program is as a child of itself: Cambium, and the engine that Cambium starts.
#[derive(Subcommand)]
#[command(hide = true)]
pub enum Itself {
    Run(run::Arguments),
    Replay(replay::Arguments),
    Clickhouse(clickhouse::Arguments),
}

impl Itself {
    /// Does what the commands of `cambium` do, on the core where that is measured.
    pub fn run(self) -> Result<()> {
        take_place(match self {
            Itself::Run(_) | Itself::Replay(_) => Role::Consumer,
            Itself::Clickhouse(_) => Role::Server,
        })?;
        let logs = tracing_subscriber::fmt().with_max_level(LevelFilter::WARN);
        logs.with_writer(std::io::stderr).init();
        // Behind taking places: a runtime has as many threads as there are cores.
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        match self {
            Itself::Run(arguments) => runtime.block_on(run::run(arguments)),
            Itself::Replay(arguments) => runtime.block_on(replay::run(arguments)),
            Itself::Clickhouse(arguments) => runtime.block_on(clickhouse::run(arguments)),
        }
    }
}

/// This program again, as a process that is killed when this is dropped.
pub struct Process(pub Child);

impl Process {
    pub fn start(command: &mut Command) -> Result<Process> {
        let child = command.stdin(Stdio::null()).spawn();
        Ok(Process(child.context("cannot start this program again")?))
    }

    /// Asks it to end, and waits until it has.
    pub fn end(mut self) -> Result<()> {
        let id = self.0.id().to_string();
        Command::new("kill").args(["-TERM", &id]).status()?;
        let status = self.0.wait()?;
        ensure!(status.success(), "a process did not end in order: {status}");
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A ClickHouse of its own in a directory, with Cambium's tables: its process, and where it is.
pub async fn start_clickhouse(directory: &Path) -> Result<(Process, Client)> {
    let address = format!("127.0.0.1:{}", machine::free_port()?);
    let mut serve = Command::new(std::env::current_exe()?);
    serve.args(["clickhouse", "--listen", &address, "--data"]);
    let engine = Process::start(serve.arg(directory))?;
    let client = Client::new(&format!("http://{address}"), "default", None, "cambium");
    let begun = Instant::now();
    while client
        .clone()
        .in_no_database()
        .fetch("SELECT 1", "TSV")
        .await
        .is_err()
    {
        ensure!(begun.elapsed() < PATIENCE, "ClickHouse does not answer");
        tokio::time::sleep(LOOK_EVERY).await;
    }
    cambium_clickhouse::migrate(&client).await?;
    Ok((engine, client))
}

/// A `cambium run`, which is asked to end when this is dropped.
pub struct Running {
    child: Child,
    http: String,
    data: PathBuf,
}

impl Running {
    /// Starts it on a topic, with everything that it keeps in this directory.
    pub fn start(
        brokers: &str,
        (topic, encoding): (&str, Encoding),
        cores: Option<&Cores>,
        directory: &Path,
    ) -> Result<Running> {
        let port = machine::free_port()?;
        let http = format!("127.0.0.1:{port}");
        let format = encoding.name();
        let text = format!(
            "[kafka]\nbrokers = \"{brokers}\"\ngroup = \"{topic}-{port}\"\n\
             [[source]]\ntopic = \"{topic}\"\nformat = \"{format}\"\n\
             [http]\nlisten = \"{http}\"\n{CONFIGURATION}"
        );
        let config = directory.join("cambium.toml");
        fs::write(&config, text).context("cannot write the configuration")?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("run").arg("--config").arg(&config);
        command.arg("--data").arg(directory);
        command.stdin(Stdio::null());
        if let Some(cores) = cores {
            cores.hand_down(&mut command);
        }
        let child = command.spawn().context("cannot start cambium run")?;
        let data = directory.to_owned();
        Ok(Running { child, http, data })
    }

    /// Waits until the first partition is started: from there on it reads.
    pub fn wait_until_it_reads(&mut self) -> Result<()> {
        let begun = Instant::now();
        while !get(&self.http, "/readyz").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")) {
            if let Some(status) = self.child.try_wait()? {
                bail!("cambium run ended at its start: {status}");
            }
            ensure!(begun.elapsed() < PATIENCE, "cambium run does not start to read");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    pub fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// Its embedded ClickHouse, as a process and as a server.
    pub fn clickhouse(&self) -> Result<(u32, Client)> {
        let children = machine::children(self.child.id())?;
        let process = *children.first().context("cambium run has no ClickHouse")?;
        let url = fs::read_to_string(self.data.join("clickhouse").join(ADDRESS_FILE))?;
        Ok((process, Client::new(url.trim(), "default", None, "cambium")))
    }

    /// The sum of a metric over its labels.
    pub fn metric(&self, name: &str) -> Result<f64> {
        let answer = get(&self.http, "/metrics")?;
        let mine = answer.lines().filter(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
        });
        let values = mine.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
        Ok(values.sum())
    }

    /// Asks the program and not ClickHouse, which has enough to do.
    pub async fn wait_until_all_is_written(&self, events: u64) -> Result<()> {
        let (mut seen, mut seen_at) = (0, Instant::now());
        while seen < events {
            let written = self.metric("cambium_acknowledged_offset")? as u64;
            if written > seen {
                (seen, seen_at) = (written, Instant::now());
            }
            ensure!(
                seen_at.elapsed() < STANDSTILL,
                "{seen} of {events} events are counted, and no more come"
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let id = self.child.id().to_string();
        let asked = Command::new("kill").args(["-TERM", &id]).status();
        if asked.is_err() {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

/// One request over HTTP.
fn get(address: &str, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// What a run has taken up to a moment.
pub struct Times {
    at: Instant,
    program: Duration,
    clickhouse: Duration,
    /// Of the program's core, where it has one of its own.
    idle: Option<Duration>,
}

impl Times {
    pub fn of(running: &Running, cores: Option<&Cores>) -> Result<Times> {
        let (program, (clickhouse, _)) = (running.process_id(), running.clickhouse()?);
        Ok(Times {
            at: Instant::now(),
            program: machine::processor_time(program)?,
            clickhouse: machine::processor_time(clickhouse)?,
            idle: cores
                .map(|cores| machine::idle_time(&cores.consumer))
                .transpose()?,
        })
    }

    pub fn since(&self, before: &Times) -> Spent {
        Spent {
            seconds: (self.at - before.at).as_secs_f64(),
            program: (self.program - before.program).as_secs_f64(),
            clickhouse: (self.clickhouse - before.clickhouse).as_secs_f64(),
            idle: self
                .idle
                .zip(before.idle)
                .map(|(idle, before)| (idle - before).as_secs_f64()),
        }
    }
}

/// All in seconds.
pub struct Spent {
    pub seconds: f64,
    pub program: f64,
    pub clickhouse: f64,
    pub idle: Option<f64>,
}

impl std::fmt::Display for Spent {
    /// How busy the cores were. One that was idle waited for the broker, or for ClickHouse.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let share = |seconds: f64| seconds / self.seconds * 100.0;
        let (program, clickhouse) = (share(self.program), share(self.clickhouse));
        write!(
            out,
            "{:.1} s: its core was {program:.0} % busy with Cambium",
            self.seconds
        )?;
        if let Some(idle) = self.idle {
            write!(out, " and {:.0} % idle", share(idle))?;
        }
        write!(out, ", ClickHouse took {clickhouse:.0} % of one")
    }
}
