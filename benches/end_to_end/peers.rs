//! Other engines doing the closest they can to the same. They are fetched when they are asked for, and kept in the
//! user's cache; nothing here is part of a build.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use cambium_benches::load::Loaded;
use cambium_benches::machine::Cores;
use cambium_benches::traffic::{Encoding, Settings, Traffic};
use cambium_event::EVENT_SCHEMA;
use clap::ValueEnum;

use crate::report::Figure;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Peer {
    /// Flink SQL reading the same topic; JDK 17 and Maven
    Flink,
    /// ClickHouse with materialised views over the same events in a file; Python 3 with pip
    Clickhouse,
}

/// A peer that does not end is given up; one that would take longer than this is too slow to wait for.
const PATIENCE_SECONDS: u64 = 600;

const FLINK_POM: &str = include_str!("../peers/flink/pom.xml");
const FLINK_PEER: &str = include_str!("../peers/flink/Peer.java");
const CLICKHOUSE_REQUIREMENTS: &str = include_str!("../peers/clickhouse/requirements.txt");
const CLICKHOUSE_PEER: &str = include_str!("../peers/clickhouse/peer.py");

impl Peer {
    /// Fetches what is not there yet; gives the directory that it is in.
    pub fn install(self) -> Result<PathBuf> {
        let (name, manifest, content) = match self {
            Peer::Flink => ("flink-2.2.1", "pom.xml", FLINK_POM),
            Peer::Clickhouse => ("chdb-core-26.9.0", "requirements.txt", CLICKHOUSE_REQUIREMENTS),
        };
        let parent = cache()?;
        let directory = parent.join(name);
        if !directory.is_dir() {
            eprintln!("fetching {name}, once");
            let scratch = tempfile::tempdir_in(&parent)?;
            fs::write(scratch.path().join(manifest), content)?;
            let output = self
                .fetch()
                .current_dir(scratch.path())
                .stdin(Stdio::null())
                .output();
            let output = output.with_context(|| format!("cannot fetch {name}"))?;
            ensure!(
                output.status.success(),
                "cannot fetch {name}: {}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
            fs::rename(scratch.path(), &directory)?;
        }
        // As they are now: a cache may be older.
        fs::write(directory.join("Peer.java"), FLINK_PEER)?;
        fs::write(directory.join("peer.py"), CLICKHOUSE_PEER)?;
        Ok(directory)
    }

    /// What fetches it into the directory that it runs in. Digests are checked.
    fn fetch(self) -> Command {
        let line = match self {
            Peer::Flink => "mvn -q -B -C dependency:copy-dependencies -DoutputDirectory=jars",
            Peer::Clickhouse => {
                "python3 -m pip install --quiet --no-deps --target packages --require-hashes -r requirements.txt"
            }
        };
        let mut words = line.split(' ');
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words);
        command
    }

    pub fn run(self, ground: &Ground<'_>) -> Result<Vec<Figure>> {
        let directory = self.install()?;
        match self {
            Peer::Flink => flink(ground, &directory),
            Peer::Clickhouse => clickhouse(ground, &directory),
        }
    }
}

/// What a peer runs on.
pub struct Ground<'g> {
    pub brokers: &'g str,
    pub cores: Option<&'g Cores>,
    pub loaded: &'g Loaded,
    pub settings: Settings,
}

fn cache() -> Result<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME").filter(|path| !path.is_empty()) {
        Some(path) => PathBuf::from(path),
        None => PathBuf::from(std::env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?)
            .join(".cache"),
    };
    let directory = base.join("cambium/peers");
    fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
    Ok(directory)
}

/// The lines of figures that a process on the consumer's core says.
fn figures(mut command: Command, cores: Option<&Cores>) -> Result<Vec<Figure>> {
    if let Some(cores) = cores {
        let mut pinned = Command::new("taskset");
        pinned
            .args(["--cpu-list", &cores.consumer])
            .arg(command.get_program())
            .args(command.get_args());
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                pinned.env(name, value);
            }
        }
        command = pinned;
    }
    let output = command
        .stdin(Stdio::null())
        .output()
        .context("cannot start a peer")?;
    ensure!(
        output.status.success(),
        "a peer failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let said = String::from_utf8(output.stdout)?;
    let lines = said.lines().filter(|line| line.starts_with('{'));
    lines
        .map(|line| serde_json::from_str(line).with_context(|| format!("no figure: {line}")))
        .collect()
}

fn flink(ground: &Ground<'_>, directory: &Path) -> Result<Vec<Figure>> {
    if ground.loaded.encoding == Encoding::Avro {
        eprintln!(
            "  Flink's Avro format reads no map whose values have several types, as properties have: JSON alone"
        );
        return Ok(Vec::new());
    }
    let mut all = Vec::new();
    for job in ["uniques-and-sessions", "funnel"] {
        let mut command = Command::new("java");
        // Flink's serializers look into these; the JDK has closed them since 17.
        for package in ["util", "lang", "time"] {
            command
                .arg("--add-opens")
                .arg(format!("java.base/java.{package}=ALL-UNNAMED"));
        }
        let jars = directory.join("jars/*");
        command
            .arg("-Xmx4g")
            .arg("-cp")
            .arg(jars)
            .arg(directory.join("Peer.java"));
        command.args([ground.brokers, &ground.loaded.topic, job]);
        command.args([ground.loaded.events, PATIENCE_SECONDS].map(|number| number.to_string()));
        all.extend(figures(command, ground.cores)?);
    }
    Ok(all)
}

fn clickhouse(ground: &Ground<'_>, directory: &Path) -> Result<Vec<Figure>> {
    let scratch = tempfile::tempdir()?;
    let encoding = ground.loaded.encoding;
    let file = scratch.path().join(format!("events.{}", encoding.name()));
    write_file(&file, encoding, ground.settings)?;
    let mut all = Vec::new();
    for step in ["parse", "views", "raw"] {
        let mut command = Command::new("python3");
        command.env("PYTHONPATH", directory.join("packages"));
        command.arg(directory.join("peer.py")).arg(&file);
        command.args([encoding.name(), step, &ground.loaded.events.to_string()]);
        all.extend(figures(command, ground.cores)?);
    }
    Ok(all)
}

/// Events between two marks of a container file.
const BLOCK: usize = 4_000;
/// Any sixteen bytes that hardly come by chance.
const MARK: &[u8; 16] = b"\x8a\x1f\x90\x03marks blocks";

/// The same events as lines, or as an Avro container file.
fn write_file(path: &Path, encoding: Encoding, settings: Settings) -> Result<()> {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    match encoding {
        Encoding::Json => {
            let mut line = Vec::new();
            for behaviour in Traffic::new(settings) {
                line.clear();
                encoding.write(&behaviour, &mut line);
                line.push(b'\n');
                file.write_all(&line)?;
            }
        }
        Encoding::Avro => {
            file.write_all(b"Obj\x01")?;
            let mut head = Vec::new();
            put_length(&mut head, 1);
            put_bytes(&mut head, b"avro.schema");
            put_bytes(&mut head, EVENT_SCHEMA.as_bytes());
            put_length(&mut head, 0);
            head.extend(MARK);
            file.write_all(&head)?;
            let mut traffic = Traffic::new(settings).peekable();
            while traffic.peek().is_some() {
                let (mut block, mut head, mut count) = (Vec::new(), Vec::new(), 0);
                for behaviour in traffic.by_ref().take(BLOCK) {
                    encoding.write(&behaviour, &mut block);
                    count += 1;
                }
                put_length(&mut head, count);
                put_length(&mut head, block.len());
                file.write_all(&head)?;
                file.write_all(&block)?;
                file.write_all(MARK)?;
            }
        }
    }
    file.flush()?;
    Ok(())
}

/// A whole number as Avro writes it.
fn put_length(out: &mut Vec<u8>, length: usize) {
    let mut left = (length as u64) << 1;
    while left >= 0x80 {
        out.push(left as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_length(out, bytes.len());
    out.extend(bytes);
}
