//! Changes of people, told to a topic: who came to another level, got a badge, or has been away for too long.
//!
//! They are read from ClickHouse, where they are as soon as they are true: also those that a day brings on which nothing
//! comes. Each is told at least once, under an id that is the same whenever it is told again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use cambium_clickhouse::Client;
use cambium_engine::quoted;
use cambium_kafka::Producer;
use serde_json::Value;

use crate::config::Config;
use crate::health::Health;
use crate::workers::is_away;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(2);
/// What was written so shortly ago may not be seen yet.
const UNSETTLED_MS: i64 = 10_000;
/// The broker takes what was sent in this time, or it is sent again.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who tells, and what to.
pub struct Changes {
    client: Client,
    brokers: String,
    settings: BTreeMap<String, String>,
    topic: String,
    /// The topics whose partitions' clocks say what is due.
    sources: Vec<String>,
}

/// How far it was told.
struct Told {
    producer: Arc<Producer>,
    /// All that came to be true up to then, in ClickHouse's time.
    until_ms: i64,
    /// What was told behind that.
    ids: BTreeMap<String, i64>,
}

impl Changes {
    /// None: the configuration has no `[changes] topic`.
    pub fn new(config: &Config, client: &Client) -> Result<Option<Changes>> {
        let Some(topic) = &config.changes.topic else {
            return Ok(None);
        };
        Ok(Some(Changes {
            client: client.clone(),
            brokers: config.kafka.brokers.clone(),
            settings: config.kafka_settings()?,
            topic: topic.clone(),
            sources: config.sources.iter().map(|source| source.topic.clone()).collect(),
        }))
    }

    /// Tells for ever, while the process is the first of all.
    pub async fn tell(self, health: Arc<Health>) {
        let mut told = None;
        loop {
            tokio::time::sleep(EVERY).await;
            if !health.is_first() {
                told = None;
                continue;
            }
            if let Err(error) = self.look(&mut told).await {
                // Begun anew where it was: what is told twice has the same id.
                told = None;
                match is_away(&error) {
                    true => tracing::debug!("[changes]: {error:#}; trying again"),
                    false => tracing::warn!("[changes]: {error:#}; trying again"),
                }
            }
        }
    }

    async fn look(&self, told: &mut Option<Told>) -> Result<()> {
        let told = match told {
            Some(told) => told,
            None => told.insert(self.begin().await?),
        };
        let (now_ms, clock_ms) = self.clocks().await?;
        let mut new = Vec::new();
        for query in [LEVELS, BADGES, CHURN] {
            let query = query.replace("{since}", &format!("fromUnixTimestamp64Milli({})", told.until_ms));
            new.extend(
                self.client
                    .rows(&query)
                    .await?
                    .into_iter()
                    .filter_map(Change::new),
            );
        }
        new.retain(|change| !told.ids.contains_key(&change.id));
        for change in &new {
            let sent = told.producer.send_raw(
                &self.topic,
                Some(change.user.as_bytes()),
                change.text.as_bytes(),
                None,
            );
            sent?;
            metrics::counter!("cambium_changes_total", "kind" => change.kind.clone()).increment(1);
        }
        if !new.is_empty() {
            let producer = told.producer.clone();
            let flushed = tokio::task::spawn_blocking(move || producer.flush(PATIENCE)).await;
            flushed.context("sending ended")??;
        }
        told.ids
            .extend(new.into_iter().map(|change| (change.id, change.became_ms)));
        let until_ms = clock_ms.min(now_ms - UNSETTLED_MS);
        if until_ms > told.until_ms {
            self.write(until_ms).await?;
            told.until_ms = until_ms;
            told.ids.retain(|_, became_ms| *became_ms > until_ms);
        }
        Ok(())
    }

    /// Goes on where it was told up to; the very first time that is now.
    async fn begin(&self) -> Result<Told> {
        cambium_kafka::create_topic(&self.brokers, &self.settings, &self.topic, 1).await?;
        let query = format!(
            "SELECT toUnixTimestamp64Milli(until) AS ms FROM published_rows FINAL WHERE topic = {}",
            quoted(&self.topic)
        );
        let known = self.client.rows(&query).await?;
        let until_ms = match known.first().and_then(|row| row["ms"].as_i64()) {
            Some(known) => known,
            None => {
                let (now_ms, _) = self.clocks().await?;
                self.write(now_ms).await?;
                now_ms
            }
        };
        Ok(Told {
            producer: Arc::new(Producer::new(&self.brokers, &self.settings)?),
            until_ms,
            ids: BTreeMap::new(),
        })
    }

    /// ClickHouse's own, and that of the partition which is furthest behind.
    async fn clocks(&self) -> Result<(i64, i64)> {
        let topics: BTreeSet<String> = self.sources.iter().map(|topic| quoted(topic)).collect();
        let topics: Vec<String> = topics.into_iter().collect();
        let query = format!(
            "SELECT toUnixTimestamp64Milli(now64(3)) AS now_ms, min(clock_ms) AS clock_ms FROM partition_clocks WHERE topic IN ({})",
            topics.join(", ")
        );
        let rows = self.client.rows(&query).await?;
        let ms = |name: &str| rows.first().and_then(|row| row[name].as_i64());
        Ok((
            ms("now_ms").context("ClickHouse does not say what time it is")?,
            ms("clock_ms").unwrap_or(0),
        ))
    }

    async fn write(&self, until_ms: i64) -> Result<()> {
        let topic = quoted(&self.topic);
        let insert =
            format!("INSERT INTO published_rows SELECT {topic}, fromUnixTimestamp64Milli({until_ms})");
        self.client.execute(&insert).await
    }
}

/// One, as it is told.
struct Change {
    id: String,
    kind: String,
    user: String,
    /// When it came to be true and was written.
    became_ms: i64,
    text: String,
}

impl Change {
    fn new(mut row: Value) -> Option<Change> {
        let members = row.as_object_mut()?;
        let became_ms = members.remove("became_ms")?.as_i64()?;
        let text = |row: &Value, name: &str| Some(row[name].as_str()?.to_owned());
        Some(Change {
            id: text(&row, "id")?,
            kind: text(&row, "kind")?,
            user: text(&row, "user")?,
            became_ms,
            text: row.to_string(),
        })
    }
}

/// Of users whose levels changed, or whose change fell due: what came to be true last, and where they are now. One that a late
/// event took back is a change too, to where they were before.
const LEVELS: &str = "
SELECT lower(hex(sipHash128('level_changed', app, name, user, cause.day, cause.version))) AS id, 'level_changed' AS kind, app, name, toString(user) AS user,
    toString(cause.day) AS day, cause.was AS was, now_on AS is, toInt64(cause.became_ms) AS became_ms
FROM
(
    SELECT app, name, user, any(rows) AS of_user,
        arrayFilter(one -> one.begins_ms <= one.clock_ms, of_user) AS due,
        arrayLast(one -> one.became_ms > toUnixTimestamp64Milli({since}), arraySort(one -> (one.became_ms, one.version, one.day), due)) AS cause,
        arrayLast(one -> NOT one.gone, arraySort(one -> one.day, due)).to_level AS now_on
    FROM
    (
        SELECT d.app AS app, d.name AS name, r.user AS user,
            groupArray(CAST((r.day, r.version, r.gone, if(r.gone, r.to_level, r.from_level), r.to_level, r.begins_ms,
                greatest(r.begins_ms, r.written_ms), c.clock_ms),
                'Tuple(day Date, version UInt64, gone Bool, was String, to_level String, begins_ms Int64, became_ms Int64, clock_ms Int64)')) AS rows
        FROM
        (
            SELECT definition, origin, user, day, max(l.version) AS version, argMax(l.deleted, l.version) = 1 AS gone,
                argMax(l.from_level, l.version) AS from_level, argMax(l.to_level, l.version) AS to_level,
                toInt64(toUnixTimestamp(argMax(l.begins, l.version))) * 1000 AS begins_ms,
                toUnixTimestamp64Milli(argMax(l.written_at, l.version)) AS written_ms
            FROM level_user_rows AS l
            WHERE definition IN (SELECT id FROM shown WHERE kind = 'level') AND (definition, user) GLOBAL IN
                (SELECT definition, user FROM level_user_rows
                WHERE definition IN (SELECT id FROM shown WHERE kind = 'level') AND begins <= now() AND greatest(written_at, toDateTime64(begins, 3)) > {since})
            GROUP BY definition, origin, user, day
        ) AS r
        INNER JOIN (SELECT id, app, name FROM shown WHERE kind = 'level') AS d ON r.definition = d.id
        LEFT JOIN origin_clocks AS c ON r.origin = c.origin
        GROUP BY app, name, user
    )
    GROUP BY app, name, user
)
WHERE cause.version > 0 AND cause.was != now_on
ORDER BY became_ms, user";

const BADGES: &str = "
SELECT lower(hex(sipHash128('badge_granted', r.app, d.name, r.user))) AS id, 'badge_granted' AS kind, r.app AS app, d.name AS name, toString(r.user) AS user,
    toString(r.day) AS day, greatest(toInt64(toUnixTimestamp(begins)) * 1000, toUnixTimestamp64Milli(written_at)) AS became_ms
FROM
(
    SELECT definition, app, user, day, begins, written_at FROM badge_user_rows FINAL
    WHERE definition IN (SELECT id FROM shown WHERE kind = 'badge') AND written_at > {since}
) AS r
INNER JOIN (SELECT id, name FROM shown WHERE kind = 'badge') AS d ON r.definition = d.id
ORDER BY became_ms, user";

const CHURN: &str = "
SELECT lower(hex(sipHash128('churn_risk', r.app, d.name, r.user, r.last_day))) AS id, 'churn_risk' AS kind, r.app AS app, d.name AS name, toString(r.user) AS user,
    toString(r.at_risk) AS day, toString(last_day) AS last_day, if(usual_half_days = 0, NULL, usual_half_days / 2) AS usual_days,
    platform, app_version, channel, campaign, country, properties, e.earned AS earned,
    greatest(toInt64(toUnixTimestamp(begins)) * 1000, toUnixTimestamp64Milli(written_at)) AS became_ms
FROM
(
    SELECT definition, origin, app, user, last_day, usual_half_days, at_risk, begins, platform, app_version, channel, campaign, country, properties, written_at
    FROM churn_user_rows FINAL
    WHERE definition IN (SELECT id FROM shown WHERE kind = 'churn') AND begins <= now() AND greatest(written_at, toDateTime64(begins, 3)) > {since}
) AS r
INNER JOIN (SELECT id, name FROM shown WHERE kind = 'churn') AS d ON r.definition = d.id
LEFT JOIN origin_clocks AS c ON r.origin = c.origin
LEFT JOIN earned_points AS e ON r.app = e.app AND r.user = e.user
WHERE toInt64(toUnixTimestamp(begins)) * 1000 <= c.clock_ms
ORDER BY became_ms, user";
