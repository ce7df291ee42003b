//! Cambium as it runs in earnest: `cambium run` in a process of its own, with its embedded ClickHouse beside it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cambium_benches::load::Loaded;
use cambium_benches::machine::{self, Cores};
use cambium_benches::running::Running;
use cambium_clickhouse::Client;

use crate::report::{ClickHouse, Figure};

/// What a run has taken up to a moment.
struct Times {
    at: Instant,
    program: Duration,
    clickhouse: Duration,
    /// Of the program's core, where it has one of its own.
    idle: Option<Duration>,
}

impl Times {
    fn of(program: u32, clickhouse: u32, cores: Option<&Cores>) -> Result<Times> {
        Ok(Times {
            at: Instant::now(),
            program: machine::processor_time(program)?,
            clickhouse: machine::processor_time(clickhouse)?,
            idle: cores
                .map(|cores| machine::idle_time(&cores.consumer))
                .transpose()?,
        })
    }

    fn since(&self, before: &Times) -> Spent {
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
struct Spent {
    seconds: f64,
    program: f64,
    clickhouse: f64,
    idle: Option<f64>,
}

/// From the first record to the last row that is in ClickHouse.
pub async fn run(brokers: &str, loaded: &Loaded, cores: Option<&Cores>) -> Result<Figure> {
    let directory = tempfile::tempdir()?;
    let mut running = Running::start(brokers, (&loaded.topic, loaded.encoding), cores, directory.path())?;
    running.wait_until_it_reads()?;
    let program = running.process_id();
    let (clickhouse, client) = running.clickhouse()?;
    let before = Times::of(program, clickhouse, cores)?;
    running.wait_until_all_is_written(loaded.events).await?;
    let spent = Times::of(program, clickhouse, cores)?.since(&before);
    explain(&spent, program, &client).await?;
    check(&client, loaded).await?;
    let stored = "SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND database = 'cambium'";
    Ok(Figure {
        who: "Cambium, all processors, into ClickHouse".to_owned(),
        events: loaded.events,
        seconds: spent.seconds,
        processor_seconds: spent.program,
        peak_bytes: machine::peak_memory(program)?,
        clickhouse: Some(ClickHouse {
            processor_seconds: spent.clickhouse,
            peak_bytes: machine::peak_memory(clickhouse)?,
            rows: running.metric("cambium_rows_written_total")? as u64,
            bytes: number(&client, &event("InsertedBytes")).await?,
            stored_bytes: number(&client, stored).await?,
        }),
        is_finished: true,
    })
}

/// What ClickHouse itself has counted since it started.
fn event(name: &str) -> String {
    format!("SELECT sum(value) FROM system.events WHERE event = '{name}'")
}

/// A number that a query answers.
async fn number(client: &Client, query: &str) -> Result<u64> {
    let answer = client.fetch(query, "TSV").await?;
    let text = String::from_utf8_lossy(&answer);
    let number = text.trim().parse();
    number.with_context(|| format!("{query} answers {text}"))
}

/// Where the time went: a core that was idle waited for the broker, or for ClickHouse.
async fn explain(spent: &Spent, program: u32, client: &Client) -> Result<()> {
    let share = |seconds: f64| seconds / spent.seconds * 100.0;
    let idle = spent
        .idle
        .map_or(String::new(), |idle| format!(", {:.0} % idle", share(idle)));
    let (busy, seconds) = (share(spent.program), spent.seconds);
    eprintln!("  {seconds:.1} s: the core was {busy:.0} % busy with it{idle}");
    let mut threads: Vec<_> = machine::thread_times(program)?.into_iter().collect();
    threads.sort_by_key(|(_, time)| std::cmp::Reverse(*time));
    let threads = threads.iter().take(4).map(|(name, time)| {
        let seconds = time.as_secs_f64();
        format!("{name} {seconds:.1} s")
    });
    let threads: Vec<String> = threads.collect();
    eprintln!("  by thread, from its start: {}", threads.join(", "));
    let inserts = number(client, &event("InsertQuery")).await?;
    let merges = number(client, &event("MergeExecuteMilliseconds")).await?;
    eprintln!(
        "  ClickHouse took {:.1} s; merges were {:.1} s of it; {inserts} inserts",
        spent.clickhouse,
        merges as f64 / 1000.0
    );
    Ok(())
}

/// What was counted is what was sent: a contestant that loses events is no contestant.
async fn check(client: &Client, loaded: &Loaded) -> Result<()> {
    let account = "SELECT toUInt64(sum(accepted)) FROM records";
    let accepted = number(client, account).await?;
    let duplicates = number(client, "SELECT toUInt64(sum(duplicate)) FROM records").await?;
    ensure!(
        duplicates == loaded.duplicates && accepted == loaded.events - duplicates,
        "{accepted} events were accepted and {duplicates} were duplicates; {} of {} were sent twice",
        loaded.duplicates,
        loaded.events
    );
    let counted = number(client, "SELECT toUInt64(sum(events)) FROM event_counts").await?;
    ensure!(counted == accepted, "{counted} of {accepted} events were counted");
    let users = "SELECT uniqCombined64Merge(users) FROM unique_users WHERE grain = 'minute'";
    let users = number(client, users).await?;
    ensure!(
        users.abs_diff(loaded.users) <= loaded.users / 50,
        "{users} users were counted; {} came",
        loaded.users
    );
    Ok(())
}
