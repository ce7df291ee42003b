//! The machine that is measured on: which cores it has, and what a process took of it. Linux alone, by `/proc`.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// Linux tells processor time in hundredths of a second.
const TICKS_PER_SECOND: f64 = 100.0;
/// The environment hands cores down to children and to what they start, such as the embedded ClickHouse.
const CONSUMER: &str = "CAMBIUM_BENCH_CONSUMER_CORE";
const SERVERS: &str = "CAMBIUM_BENCH_SERVER_CORES";

/// Who runs where, as `taskset` writes it.
#[derive(Clone, Debug)]
pub struct Cores {
    /// The one core of what is measured.
    pub consumer: String,
    /// Those of the broker, of ClickHouse, and of this program.
    pub servers: String,
}

impl Cores {
    /// The last core that this process may use, and the others. None: there is one core only.
    pub fn of_this_machine() -> Result<Option<Cores>> {
        let status = fs::read_to_string("/proc/self/status").context("cores are found by /proc")?;
        let list = field(&status, "Cpus_allowed_list:").context("/proc does not say which cores")?;
        let mut all = Vec::new();
        for range in list.trim().split(',') {
            let (from, to) = range.split_once('-').unwrap_or((range, range));
            all.extend(from.parse::<u32>()?..=to.parse::<u32>()?);
        }
        let consumer = all.pop().context("/proc names no core")?;
        if all.is_empty() {
            return Ok(None);
        }
        let servers: Vec<String> = all.iter().map(u32::to_string).collect();
        Ok(Some(Cores {
            consumer: consumer.to_string(),
            servers: servers.join(","),
        }))
    }

    /// Puts this process, and whatever it starts, on the servers' cores.
    pub fn take_servers(&self) -> Result<()> {
        pin_this_process(&self.servers)
    }

    /// Tells a child where it and its own children belong.
    pub fn hand_down(&self, command: &mut Command) {
        command.env(CONSUMER, &self.consumer).env(SERVERS, &self.servers);
    }
}

/// What this child process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Consumer,
    Server,
}

/// Goes to the cores that were handed down; to be called before there are threads.
pub fn take_place(role: Role) -> Result<()> {
    let name = match role {
        Role::Consumer => CONSUMER,
        Role::Server => SERVERS,
    };
    match std::env::var(name) {
        Ok(cores) => pin_this_process(&cores),
        Err(_) => Ok(()),
    }
}

fn pin_this_process(cores: &str) -> Result<()> {
    let output = Command::new("taskset")
        .args(["--all-tasks", "--cpu-list", "--pid", cores])
        .arg(std::process::id().to_string())
        .output()
        .context("taskset keeps processes on their cores; it comes with util-linux")?;
    ensure!(
        output.status.success(),
        "taskset: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

/// The rest of the line that begins so.
fn field<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.lines().find_map(|line| line.strip_prefix(name))
}

/// User and system time from a `stat` file of `/proc`, and the name that stands in it.
fn stat(path: &str) -> Result<(String, Duration)> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    // The name may hold anything; what follows its last bracket are numbers.
    let (front, numbers) = text.rsplit_once(')').context("a stat file has a name")?;
    let name = front.split_once('(').map_or("", |(_, name)| name).to_owned();
    let numbers: Vec<&str> = numbers.split_whitespace().collect();
    let ticks = |at: usize| -> Result<f64> {
        let text = numbers
            .get(at)
            .context("a stat file is shorter than it should be")?;
        Ok(text.parse()?)
    };
    let seconds = (ticks(11)? + ticks(12)?) / TICKS_PER_SECOND;
    Ok((name, Duration::from_secs_f64(seconds)))
}

/// Processor time that a process has taken.
pub fn processor_time(process: u32) -> Result<Duration> {
    Ok(stat(&format!("/proc/{process}/stat"))?.1)
}

/// For how long a core has had nothing to do since the machine started.
pub fn idle_time(core: &str) -> Result<Duration> {
    let all = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    let times = field(&all, &format!("cpu{core} ")).context("/proc/stat does not know the core")?;
    // user, nice, system, idle, waiting for a disk, …
    let idle = times.split_whitespace().skip(3).take(2);
    let ticks: f64 = idle.filter_map(|ticks| ticks.parse::<f64>().ok()).sum();
    Ok(Duration::from_secs_f64(ticks / TICKS_PER_SECOND))
}

/// Processor time of a process by the names of its threads, those of one kind together: digits at a name's end are left out.
pub fn thread_times(process: u32) -> Result<BTreeMap<String, Duration>> {
    let mut times = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{process}/task"))? {
        let path = entry?.path().join("stat");
        // A thread may end while it is looked at.
        let Ok((name, time)) = stat(&path.to_string_lossy()) else {
            continue;
        };
        let kind = name.trim_end_matches(|last: char| last.is_ascii_digit() || "[]-".contains(last));
        *times.entry(kind.to_owned()).or_default() += time;
    }
    Ok(times)
}

/// The most memory that a process has had resident, in bytes.
pub fn peak_memory(process: u32) -> Result<u64> {
    memory_of(process, "VmHWM:")
}

/// The memory that a process has resident, in bytes.
pub fn memory(process: u32) -> Result<u64> {
    memory_of(process, "VmRSS:")
}

fn memory_of(process: u32, name: &str) -> Result<u64> {
    let path = format!("/proc/{process}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let text = field(&status, name).context("/proc does not say how much memory")?;
    let kilobytes: u64 = text.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes * 1024)
}

/// A port that nobody listens on.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// The processes that a process has started.
pub fn children(process: u32) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(candidate) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let status = fs::read_to_string(format!("/proc/{candidate}/status")).unwrap_or_default();
        let parent = field(&status, "PPid:").and_then(|text| text.trim().parse::<u32>().ok());
        if parent == Some(process) {
            found.push(candidate);
        }
    }
    Ok(found)
}
