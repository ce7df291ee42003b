//! Against a real Kafka and the real ClickHouse engine. Each test starts what it needs on free ports
//! and takes it down; one that cannot start its server fails.

mod alerts;
mod certificates;
mod changes;
mod channels;
mod clickhouse;
mod command_line;
mod faults;
mod files;
mod forgetting;
mod hook;
mod hostile;
mod identity;
mod kafka;
mod keeping;
mod keys;
mod meanings;
mod members;
mod past;
mod people;
mod registry;
mod secure;
mod sketches;
mod stage;
mod starts;
mod watching;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use cambium_clickhouse::Client;
use cambium_clickhouse::embedded::Child as Engine;
use cambium_kafka::RawRecord;
use cambium_simulate::Record;

/// The program, built once a run of the tests, as they were built; it can be told to die (`FAILPOINTS`).
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let mut build = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()));
        build.args([
            "build",
            "--package",
            "cambium",
            "--bin",
            "cambium-with-failpoints",
            "--features",
            "failpoints",
            "--message-format",
            "json",
        ]);
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        let output = build.stderr(Stdio::inherit()).output().expect("cargo runs");
        assert!(output.status.success(), "the program does not build");
        let lines = String::from_utf8(output.stdout).unwrap();
        let mut executables = lines.lines().filter_map(|line| {
            let message: serde_json::Value = serde_json::from_str(line).ok()?;
            message["executable"].as_str().map(PathBuf::from)
        });
        executables.next_back().expect("cargo names the program")
    })
}

/// Runs a command to its end.
pub fn cambium(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(program())
        .args(arguments)
        .current_dir(directory)
        .env("CAMBIUM_LOG", "warn")
        .output()
        .unwrap()
}

/// A process that is killed when the test is over, however it ends.
pub struct Process(pub Child);

impl Process {
    pub fn start(command: &mut Command) -> Process {
        Process(command.stdin(Stdio::null()).spawn().expect("the program starts"))
    }

    /// Asks it to end, and waits until it has.
    pub fn end(mut self) {
        let id = self.0.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &id])
                .status()
                .unwrap()
                .success()
        );
        let status = self.0.wait().unwrap();
        assert!(status.success(), "the program did not end in order: {status}");
    }

    pub fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn engine(data: &Path) -> Engine {
    Engine::start(program(), data).expect("the embedded ClickHouse starts")
}

pub fn client(url: &str) -> Client {
    Client::new(url, "default", None, "cambium")
}

/// The only number that a query answers.
pub async fn number(client: &Client, query: &str) -> anyhow::Result<i64> {
    let answer = String::from_utf8(client.fetch(query, "TSV").await?)?;
    Ok(answer.trim().parse()?)
}

/// What was read back from a log, as the truth takes it.
pub fn records(read: Vec<RawRecord>) -> Vec<Record> {
    let records = read
        .into_iter()
        .map(|(partition, offset, timestamp, payload)| Record {
            partition,
            offset,
            timestamp,
            payload,
        });
    records.collect()
}

/// What an HTTP server answers, with its head.
pub fn get(address: &str, path: &str) -> std::io::Result<String> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
