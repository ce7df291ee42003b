//! Cambium as it runs in earnest: `cambium run` in a process of its own, with its embedded ClickHouse beside it.

use anyhow::{Context, Result, ensure};
use cambium_benches::load::Loaded;
use cambium_benches::machine::{self, Cores};
use cambium_benches::running::{Running, Spent, Times};
use cambium_clickhouse::Client;

use crate::report::{ClickHouse, Figure};

/// From the first record to the last row that is in ClickHouse.
pub async fn run(brokers: &str, loaded: &Loaded, cores: Option<&Cores>) -> Result<Figure> {
    let directory = tempfile::tempdir()?;
    let mut running = Running::start(brokers, (&loaded.topic, loaded.encoding), cores, directory.path())?;
    running.wait_until_it_reads()?;
    let program = running.process_id();
    let (clickhouse, client) = running.clickhouse()?;
    let before = Times::of(&running, cores)?;
    running.wait_until_all_is_written(loaded.events).await?;
    let spent = Times::of(&running, cores)?.since(&before);
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

/// Where the time went.
async fn explain(spent: &Spent, program: u32, client: &Client) -> Result<()> {
    eprintln!("  {spent}");
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
    let (clickhouse, merges) = (spent.clickhouse, merges as f64 / 1000.0);
    eprintln!("  of ClickHouse's {clickhouse:.1} s merges were {merges:.1} s; {inserts} inserts");
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
