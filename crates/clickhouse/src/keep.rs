//! How long ClickHouse holds rows: TTLs of the tables, back from the server's clock, by event time.

use anyhow::{Context, Result};

use crate::Client;

/// Milliseconds; none: for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    pub minutes: Option<i64>,
    pub hours: Option<i64>,
    pub days: Option<i64>,
    pub counts: Option<i64>,
    pub sessions: Option<i64>,
    pub rejected: Option<i64>,
    pub events: Option<i64>,
}

/// An end that a DateTime can hold: a sum beyond it would begin at 1970 again.
const END: &str = "4294967295";
const DAY: &str = "toDateTime(day, 'UTC')";

impl Keep {
    /// Each table with its TTL, in the words in which ClickHouse gives it back; none: rows stay.
    fn ttls(&self) -> Vec<(&'static str, Option<String>)> {
        let by = |column: &str, ms: Option<i64>, only: &str| {
            let seconds = ms? / 1000;
            Some(format!(
                "toDateTime(least(toUnixTimestamp({column}) + {seconds}, {END})){only}"
            ))
        };
        let all = |parts: [Option<String>; 3]| {
            let parts: Vec<String> = parts.into_iter().flatten().collect();
            (!parts.is_empty()).then(|| parts.join(", "))
        };
        let grain = |column: &str, of: &str, ms| by("bucket", ms, &format!(" WHERE {column} = '{of}'"));
        let slice = |of: &str, ms| by("at", ms, &format!(" WHERE slices = '{of}'"));
        // The numbers of a day are made of its hours.
        let hours_of_days = self.hours.zip(self.days).map(|(hours, days)| hours.max(days));
        vec![
            ("rejected_rows", by("at", self.rejected, "")),
            ("event_rows", by("time", self.events, "")),
            ("count_rows", by("bucket", self.counts, "")),
            ("count_sets", by("bucket", self.counts, "")),
            (
                "unique_sets",
                all([
                    grain("grain", "minute", self.minutes),
                    grain("grain", "hour", self.hours),
                    grain("grain", "day", self.days),
                ]),
            ),
            (
                "rolling_rows",
                all([
                    slice("minute", self.minutes),
                    slice("quarter", self.hours),
                    slice("day", self.days),
                ]),
            ),
            ("session_rows", by(DAY, self.sessions, "")),
            ("funnel_sets", by("bucket", hours_of_days, "")),
            ("funnel_rows", by("bucket", hours_of_days, "")),
            ("funnel_time_rows", by(DAY, self.days, "")),
        ]
    }
}

/// Brings the tables' TTLs to what is wanted; one that is so already is left, since a change rewrites rows.
pub async fn keep(client: &Client, keep: &Keep) -> Result<()> {
    for (table, wanted) in keep.ttls() {
        let stored = client.stored(table);
        let query = format!(
            "SELECT create_table_query AS text FROM system.tables WHERE database = currentDatabase() AND name = '{stored}'"
        );
        let rows = client.rows(&query).await?;
        let text = rows
            .first()
            .and_then(|row| row["text"].as_str())
            .unwrap_or_default();
        let present = text
            .split_once(" TTL ")
            .map(|(_, ttl)| ttl.split(" SETTINGS ").next().unwrap_or(ttl));
        if present == wanted.as_deref() {
            continue;
        }
        let change = match &wanted {
            Some(ttl) => format!("MODIFY TTL {ttl}"),
            None => "REMOVE TTL".to_owned(),
        };
        let statement = format!("ALTER TABLE {stored}{} {change}", client.everywhere());
        client
            .execute(&statement)
            .await
            .with_context(|| format!("[keep]: the TTL of {table} cannot be set"))?;
    }
    Ok(())
}
