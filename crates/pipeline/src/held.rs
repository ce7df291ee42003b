//! What ClickHouse holds of a partition, as far as a start asks.

use std::ops::Range;

use anyhow::Result;
use cambium_clickhouse::{Client, tables_with};
use cambium_engine::{Topic, quoted};

/// What `progress` says last.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    pub version: u64,
    /// Tells the last record that was counted from any other.
    pub last_record: u64,
    /// In milliseconds since 1970.
    pub flushed_at: i64,
}

/// Who knows which rows are held: ClickHouse, or a model of it under which starts are simulated.
pub trait Held: Sync {
    /// The highest version of any row of the partition, of these origins and of those that are held; 0 where there is
    /// none.
    fn highest_version(&self, topic: &Topic, origins: &[u64]) -> impl Future<Output = Result<u64>> + Send;

    /// What `progress` says, where a record was counted by then.
    fn progress(&self, topic: &Topic) -> impl Future<Output = Result<Option<Progress>>> + Send;

    /// Where the first of the definitions that are counted began.
    fn first_origin(&self, topic: &Topic) -> impl Future<Output = Result<Option<i64>>> + Send;

    /// Writes down that these offsets are lost.
    fn put_gap(
        &self,
        topic: &Topic,
        offsets: Range<i64>,
        reason: &str,
    ) -> impl Future<Output = Result<()>> + Send;
}

/// The tables whose rows have a definition, an origin and a version.
pub fn versioned_tables() -> Vec<&'static str> {
    tables_with(&["definition", "origin", "version"])
}

impl Held for Client {
    async fn highest_version(&self, topic: &Topic, origins: &[u64]) -> Result<u64> {
        let of_topic = of(topic);
        let journaled = origins.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
        let origins = format!(
            "SELECT origin FROM origin_rows WHERE {of_topic} \
             UNION ALL SELECT arrayJoin(CAST([{journaled}], 'Array(UInt64)'))"
        );
        let mut parts: Vec<String> = versioned_tables()
            .iter()
            .map(|table| format!("SELECT max(version) AS v FROM {table} WHERE origin IN ({origins})"))
            .collect();
        parts.push(format!(
            "SELECT max(version) AS v FROM record_rows WHERE {of_topic}"
        ));
        let highest = format!("SELECT max(v) AS version FROM ({})", parts.join(" UNION ALL "));
        let rows = self.rows(&highest).await?;
        Ok(rows.first().and_then(|row| row["version"].as_u64()).unwrap_or(0))
    }

    async fn progress(&self, topic: &Topic) -> Result<Option<Progress>> {
        let query = format!(
            "SELECT version, last_record, toUnixTimestamp64Milli(flushed_at) AS at FROM progress_rows FINAL WHERE {} AND last_record != 0",
            of(topic)
        );
        let rows = self.rows(&query).await?;
        Ok(rows.first().and_then(|row| {
            Some(Progress {
                version: row["version"].as_u64()?,
                last_record: row["last_record"].as_u64()?,
                flushed_at: row["at"].as_i64()?,
            })
        }))
    }

    async fn first_origin(&self, topic: &Topic) -> Result<Option<i64>> {
        let query = format!(
            "SELECT min(start) AS start FROM origin_rows WHERE {} HAVING count() > 0",
            of(topic)
        );
        let rows = self.rows(&query).await?;
        Ok(rows.first().and_then(|row| row["start"].as_i64()))
    }

    async fn put_gap(&self, topic: &Topic, offsets: Range<i64>, reason: &str) -> Result<()> {
        let statement = format!(
            "INSERT INTO gap_rows SELECT {}, {}, {}, {}, {}, now64(3)",
            quoted(&topic.name),
            topic.partition,
            offsets.start,
            offsets.end,
            quoted(reason)
        );
        self.execute(&statement).await
    }
}

fn of(topic: &Topic) -> String {
    format!(
        "topic = {} AND partition = {}",
        quoted(&topic.name),
        topic.partition
    )
}
