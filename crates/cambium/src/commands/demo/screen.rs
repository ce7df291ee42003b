//! What the demo shows: numbers that are read by SQL from the views, and that SQL.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use cambium_clickhouse::Client;

use crate::commands::query::table;

/// Each number with the query that it is.
pub const NUMBERS: [(&str, &str); 6] = [
    (
        "events a second",
        "SELECT round(sum(events) / greatest(1, dateDiff('second', min(bucket), now('UTC'))), 1) FROM event_counts WHERE bucket >= toStartOfMinute(now('UTC')) - INTERVAL 1 MINUTE",
    ),
    (
        "events today",
        "SELECT sum(events) FROM event_counts WHERE day = toDate(now('UTC'))",
    ),
    ("lag, records", "SELECT sum(end_offset - offset) FROM progress"),
    (
        "active users, 5 minutes",
        "SELECT sum(users) FROM rolling_users_now WHERE metric = 'active' AND window = '5m' AND dimension = ''",
    ),
    (
        "active users, today",
        "SELECT sum(users) FROM active_users WHERE metric = 'active' AND grain = 'day' AND day = toDate(now('UTC'))",
    ),
    ("sessions open", "SELECT count() FROM sessions WHERE is_open"),
];

const FUNNEL: &str = "SELECT step, step_name, users, round(100 * from_start, 1) AS percent, ifNull(toString(round(median_seconds, 1)), '') AS median_s \
                      FROM funnels WHERE funnel = 'purchase' AND grain = 'day' AND day = toDate(now('UTC')) ORDER BY step";

/// What is out of the ordinary, or was.
pub const ALERTS: &str = "SELECT rule, state, round(value) AS value, round(expected) AS expected, formatDateTime(started_at, '%T') AS since, \
                          ifNull(formatDateTime(resolved_at, '%T'), '') AS until FROM alerts ORDER BY started_at DESC LIMIT 3";

/// Shows the numbers once a second, for ever.
pub async fn show(
    client: &Client,
    brokers: &str,
    config: &Path,
    broken_ms: Option<(i64, i64)>,
) -> Result<()> {
    let mut out = std::io::stdout();
    let is_terminal = out.is_terminal();
    let pause = Duration::from_secs(if is_terminal { 1 } else { 5 });
    writeln!(out, "{}", hints(brokers, config))?;
    if let Some((from, until)) = broken_ms {
        let at = |ms: i64| jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        writeln!(
            out,
            "Payments break at {:.0} and are repaired at {:.0}.\n",
            at(from),
            at(until)
        )?;
    }
    let mut lines = 0;
    loop {
        tokio::time::sleep(pause).await;
        let text = match numbers(client).await {
            Ok(text) => text,
            Err(error) => format!("the numbers cannot be read: {error:#}\n"),
        };
        if is_terminal && lines > 0 {
            // Back to where the numbers began, and over them.
            write!(out, "\x1b[{lines}A\x1b[J")?;
        }
        lines = text.lines().count();
        write!(out, "{text}")?;
        out.flush()?;
    }
}

async fn numbers(client: &Client) -> Result<String> {
    let mut text = String::new();
    for (name, query) in NUMBERS {
        let answer = client.fetch(query, "TSV").await?;
        text += &format!("{name:>26}  {}\n", String::from_utf8_lossy(&answer).trim());
    }
    let funnel = client.fetch(FUNNEL, "JSONCompactStringsEachRowWithNames").await?;
    text += &format!("\n{}\n", table(&funnel)?);
    let alerts = client.fetch(ALERTS, "JSONCompactStringsEachRowWithNames").await?;
    if alerts.iter().filter(|byte| **byte == b'\n').count() > 1 {
        text += &format!("{}\n", table(&alerts)?);
    }
    Ok(text)
}

fn hints(brokers: &str, config: &Path) -> String {
    let queries: Vec<String> = NUMBERS
        .iter()
        .map(|(name, query)| format!("  -- {name}\n  {query}"))
        .collect();
    format!(
        "A simulated shop publishes to Kafka; its events are counted into ClickHouse. Ctrl-C ends it.\n\n\
         Every number below is SQL:\n{}\n  -- the funnel\n  {FUNNEL}\n  -- alerts, once there are any\n  {ALERTS}\n\n\
         Ask for yourself, in another terminal:\n  cambium query --config {} --data {} \"SELECT * FROM definitions\"\n\n\
         Send an event of your own:\n  echo '{{\"app\":\"shop\",\"event\":\"hello\",\"user_id\":\"me\",\"timestamp\":\"'$(date -u +%FT%TZ)'\"}}' | \
         cambium send --brokers {brokers} --topic {} -\n",
        queries.join("\n"),
        config.display(),
        config.parent().unwrap_or(Path::new(".")).display(),
        super::TOPIC
    )
}
