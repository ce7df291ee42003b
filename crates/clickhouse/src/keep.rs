//! How long ClickHouse holds rows: TTLs of the tables, back from the server's clock, by event time.

use anyhow::{Context, Result};

use crate::{Client, tables};

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

/// Rows of a table that are held for some time.
struct Held {
    /// What their time is.
    time: &'static str,
    /// Which rows; none: all.
    only: Option<String>,
    seconds: i64,
}

impl Held {
    /// In the words in which ClickHouse gives it back.
    fn ttl(&self) -> String {
        let Held { time, only, seconds } = self;
        let only = only
            .as_ref()
            .map_or(String::new(), |only| format!(" WHERE {only}"));
        format!("toDateTime(least(toUnixTimestamp({time}) + {seconds}, {END})){only}")
    }

    fn is_past(&self) -> String {
        let Held { time, only, seconds } = self;
        let only = only.as_ref().map_or(String::new(), |only| format!("{only} AND "));
        // As numbers: a time before 1970 would be one far ahead.
        format!("{only}toInt64(toUnixTimestamp({time})) + {seconds} < toInt64(toUnixTimestamp(now()))")
    }
}

impl Keep {
    fn named(&self, key: &str) -> Option<i64> {
        match key {
            "minutes" => self.minutes,
            "hours" => self.hours,
            "days" => self.days,
            "counts" => self.counts,
            "sessions" => self.sessions,
            "rejected" => self.rejected,
            "events" => self.events,
            other => unreachable!("[keep] has no {other}"),
        }
    }

    /// Each table, and which of its rows do not stay for ever.
    fn held(&self) -> Vec<(&'static str, Vec<Held>)> {
        let some = |time, only: Option<String>, ms: Option<i64>| {
            let seconds = ms? / 1000;
            Some(Held { time, only, seconds })
        };
        let all = |time, ms| some(time, None, ms).into_iter().collect();
        let each = |time, column: &str, of: [(&str, Option<i64>); 3]| {
            let parts = of.map(|(of, ms)| some(time, Some(format!("{column} = '{of}'")), ms));
            parts.into_iter().flatten().collect()
        };
        let (minutes, hours, days) = (self.minutes, self.hours, self.days);
        // The numbers of a day are made of its hours.
        let hours_of_days = hours.zip(days).map(|(hours, days)| hours.max(days));
        let grains = [("minute", minutes), ("hour", hours), ("day", days)];
        let slices = [("minute", minutes), ("quarter", hours), ("day", days)];
        let mut held = vec![
            ("rejected_rows", all("at", self.rejected)),
            ("event_rows", all("time", self.events)),
            ("count_rows", all("bucket", self.counts)),
            ("count_sets", all("bucket", self.counts)),
            ("unique_sets", each("bucket", "grain", grains)),
            ("unique_device_rows", each("bucket", "grain", grains)),
            ("rolling_rows", each("at", "slices", slices)),
            ("session_rows", all(DAY, self.sessions)),
            ("funnel_sets", all("bucket", hours_of_days)),
            ("funnel_rows", all("bucket", hours_of_days)),
            ("funnel_time_rows", all(DAY, days)),
        ];
        for table in tables() {
            if let Some((key, time)) = table.held_as() {
                held.push((table.name, all(time, self.named(key))));
            }
        }
        held
    }
}

/// Deletes what is past its time, which ClickHouse does with some later merge. To be called when history was counted again.
pub async fn delete_past(client: &Client, keep: &Keep) -> Result<()> {
    for (table, held) in keep.held() {
        let is_past: Vec<String> = held.iter().map(Held::is_past).collect();
        if is_past.is_empty() {
            continue;
        }
        let is_past = is_past.join(" OR ");
        if client.count(table, &is_past).await? == 0 {
            continue;
        }
        let (stored, everywhere) = (client.stored(table), client.everywhere());
        let delete = format!("DELETE FROM {stored}{everywhere} WHERE {is_past}");
        let done = client.execute_at_length(&delete).await;
        done.with_context(|| format!("[keep]: what is past its time in {table} cannot be deleted"))?;
    }
    Ok(())
}

/// Brings the tables' TTLs to what is wanted; one that is so already is left, since a change rewrites rows.
pub async fn keep(client: &Client, keep: &Keep) -> Result<()> {
    for (table, held) in keep.held() {
        let ttls: Vec<String> = held.iter().map(Held::ttl).collect();
        let wanted = (!ttls.is_empty()).then(|| ttls.join(", "));
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
