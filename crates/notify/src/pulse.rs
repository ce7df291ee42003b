//! Whether the numbers are those of now: a drop is not a lag. Every evaluation reads `progress`; where the
//! pipeline is behind, metric alerts are held, and a pipeline alert says so.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use anyhow::{Context, Result};
use cambium_alerts::{Judgement, Look, Verdict};
use cambium_clickhouse::Client;
use cambium_engine::quoted;

/// A query that takes longer is a ClickHouse that is away.
const PATIENCE: Duration = Duration::from_secs(5);
/// Progress is written once a second; older than that, partitions are at a stand.
const STALE_MS: i64 = 6_000;
/// A back-log that takes longer to work off, at the pace of the last half minute, is a lag.
const BEHIND_MS: f64 = 10_000.0;
const PACE_MS: i64 = 30_000;
/// How long a state must last before it is said.
const LASTS_MS: i64 = 15_000;
const CLICKHOUSE_LASTS_MS: i64 = 8_000;
/// After ClickHouse was away, what had gathered is written first.
const RECOVERY_MS: i64 = 30_000;
/// Events that are this much older than now come from a back-log or a wrong clock, and are no measure of now.
const OLD_MS: i64 = 600_000;
/// Rejected and ahead: so many records, and such a share of them, in so long.
const SHARE_OVER_MS: i64 = 300_000;
const LEAST_RECORDS: f64 = 20.0;
const LEAST_SHARE: f64 = 0.05;

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    offset: i64,
    end_offset: i64,
    watermark_ms: i64,
    flushed_ms: i64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    read: f64,
    rejected: f64,
    ahead: f64,
}

/// What is known of the pipeline at an evaluation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Health {
    /// The numbers are those of this instant; none: of none that is worth judging.
    pub as_of_ms: Option<i64>,
    /// But for records that are not read yet: how long they take.
    pub unread_ms: i64,
    /// By the rule that watches it; none: it cannot be said now.
    pub behind: Option<Verdict>,
    pub clickhouse: Verdict,
    pub rejected: Option<Verdict>,
    pub ahead: Option<Verdict>,
}

/// Looks at the pipeline.
#[derive(Default)]
pub(crate) struct Pulse {
    /// Offsets of the last half minute, to know the pace.
    paces: BTreeMap<(String, i32), VecDeque<(i64, i64)>>,
    totals: VecDeque<(i64, Totals)>,
    away_since: Option<i64>,
    back_at: Option<i64>,
    behind_since: Option<i64>,
}

impl Pulse {
    /// Asks how far the pipeline is.
    pub async fn look(&mut self, client: &Client, topics: &[String], now_ms: i64) -> Health {
        match tokio::time::timeout(PATIENCE, ask(client, topics)).await {
            Ok(Ok((partitions, totals))) => {
                if self.away_since.take().is_some() {
                    self.back_at = Some(now_ms);
                }
                self.judge(&partitions, totals, now_ms)
            }
            Ok(Err(error)) => {
                tracing::debug!("alerts: {error:#}");
                self.judge_away(now_ms)
            }
            Err(_) => self.judge_away(now_ms),
        }
    }

    fn judge_away(&mut self, now_ms: i64) -> Health {
        let since = *self.away_since.get_or_insert(now_ms);
        self.behind_since = None;
        Health {
            clickhouse: lasting(now_ms - since, CLICKHOUSE_LASTS_MS),
            ..Health::default()
        }
    }

    fn judge(&mut self, partitions: &BTreeMap<(String, i32), Seen>, totals: Totals, now_ms: i64) -> Health {
        let mut health = Health {
            clickhouse: lasting(0, CLICKHOUSE_LASTS_MS),
            ..Health::default()
        };
        health.rejected = self.share(totals, now_ms, |totals| totals.rejected);
        health.ahead = self.share(totals, now_ms, |totals| totals.ahead);
        self.totals.push_back((now_ms, totals));
        while self
            .totals
            .get(1)
            .is_some_and(|(at, _)| *at <= now_ms - SHARE_OVER_MS)
        {
            self.totals.pop_front();
        }
        let Some(flushed_ms) = partitions.values().map(|seen| seen.flushed_ms).min() else {
            return health;
        };
        let stale_ms = now_ms - flushed_ms;
        let behind_ms = partitions
            .iter()
            .map(|(key, seen)| self.behind_ms(key, *seen, now_ms))
            .fold(0.0, f64::max);
        let is_behind = stale_ms > STALE_MS || behind_ms > BEHIND_MS;
        let is_recovering = self.back_at.is_some_and(|at| now_ms - at < RECOVERY_MS);
        if !is_behind || is_recovering {
            self.behind_since = None;
        } else {
            self.behind_since.get_or_insert(now_ms);
        }
        let lasted_ms = self.behind_since.map_or(0, |since| now_ms - since);
        let worst_s = (stale_ms as f64).max(behind_ms) / 1000.0;
        health.behind = Some(judged(
            worst_s,
            STALE_MS as f64 / 1000.0,
            lasted_ms >= LASTS_MS,
            is_behind,
        ));
        // What comes with old times says nothing of now.
        let is_old = partitions
            .values()
            .all(|seen| seen.watermark_ms < now_ms - OLD_MS);
        let is_moving = partitions.keys().any(|key| self.is_moving(key));
        let is_of_now = !is_old || !is_moving;
        if is_of_now && !is_behind {
            health.as_of_ms = Some(flushed_ms);
            health.unread_ms = behind_ms as i64;
        }
        health
    }

    /// How long the records that are not read yet take, at the present pace.
    fn behind_ms(&mut self, key: &(String, i32), seen: Seen, now_ms: i64) -> f64 {
        let pace = self.paces.entry(key.clone()).or_default();
        pace.push_back((now_ms, seen.offset));
        while pace.get(1).is_some_and(|(at, _)| *at <= now_ms - PACE_MS) {
            pace.pop_front();
        }
        let lag = (seen.end_offset - seen.offset).max(0) as f64;
        let Some((first_at, first)) = pace.front().copied() else {
            return 0.0;
        };
        let (elapsed_ms, read) = ((now_ms - first_at) as f64, (seen.offset - first) as f64);
        if lag == 0.0 || elapsed_ms < 1000.0 {
            0.0
        } else if read <= 0.0 {
            elapsed_ms
        } else {
            lag * elapsed_ms / read
        }
    }

    fn is_moving(&self, key: &(String, i32)) -> bool {
        let pace = self.paces.get(key);
        pace.and_then(|pace| pace.front().zip(pace.back()))
            .is_some_and(|((_, first), (_, last))| last > first)
    }

    /// The share of the last minutes' records that ended so, against that of all before.
    fn share(&self, now: Totals, now_ms: i64, part: impl Fn(&Totals) -> f64) -> Option<Verdict> {
        let (first_at, first) = self.totals.front()?;
        if now_ms - first_at < SHARE_OVER_MS / 10 || now.read <= first.read {
            return None;
        }
        let (parts, read) = (part(&now) - part(first), now.read - first.read);
        let usual = if first.read > 0.0 {
            part(first) / first.read
        } else {
            0.0
        };
        let share = parts / read;
        let high = LEAST_SHARE.max(2.0 * usual);
        let breaches = share > high && parts >= LEAST_RECORDS;
        let mut verdict = judged(share, high, breaches, breaches);
        if let Some(look) = verdict.looks.first_mut() {
            look.window_ms = now_ms - first_at;
            look.judgement.expected = Some(usual);
        }
        Some(verdict)
    }
}

/// Of something that has lasted for so long.
pub(crate) fn lasting(lasted_ms: i64, allowed_ms: i64) -> Verdict {
    let breaches = lasted_ms >= allowed_ms;
    let mut verdict = judged(
        lasted_ms as f64 / 1000.0,
        allowed_ms as f64 / 1000.0,
        breaches,
        breaches,
    );
    if let Some(look) = verdict.looks.first_mut() {
        look.window_ms = lasted_ms;
    }
    verdict
}

/// `is_back` goes by whether it is still bad, and not by whether it is bad enough to be said.
fn judged(value: f64, high: f64, fires: bool, is_bad: bool) -> Verdict {
    let judgement = Judgement {
        value: Some(value),
        high: Some(high),
        breaches: is_bad,
        ..Judgement::default()
    };
    Verdict {
        looks: vec![Look {
            window_ms: 0,
            judgement,
        }],
        breaches: fires,
        fires,
    }
}

async fn ask(client: &Client, topics: &[String]) -> Result<(BTreeMap<(String, i32), Seen>, Totals)> {
    let topics: Vec<String> = topics.iter().map(|topic| quoted(topic)).collect();
    let topics = topics.join(", ");
    let query = format!(
        "SELECT topic, partition, offset, end_offset, toUnixTimestamp64Milli(watermark) AS watermark, \
         toUnixTimestamp64Milli(flushed_at) AS flushed FROM progress WHERE topic IN ({topics})"
    );
    let rows = client.rows(&query).await.context("progress cannot be read")?;
    let mut partitions = BTreeMap::new();
    for row in &rows {
        let number = |name: &str| row[name].as_i64().unwrap_or(0);
        let key = (
            row["topic"].as_str().unwrap_or_default().to_owned(),
            number("partition") as i32,
        );
        partitions.insert(
            key,
            Seen {
                offset: number("offset"),
                end_offset: number("end_offset"),
                watermark_ms: number("watermark"),
                flushed_ms: number("flushed"),
            },
        );
    }
    let query = format!(
        "SELECT sum(read) AS read, sum(rejected) AS rejected, sum(ahead) AS ahead FROM records WHERE topic IN ({topics})"
    );
    let rows = client.rows(&query).await.context("records cannot be read")?;
    let number = |name: &str| rows.first().and_then(|row| row[name].as_f64()).unwrap_or(0.0);
    let totals = Totals {
        read: number("read"),
        rejected: number("rejected"),
        ahead: number("ahead"),
    };
    Ok((partitions, totals))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_read_yet_takes_its_time() {
        let mut pulse = Pulse::default();
        let mut look = |second: i64, offset: i64, end_offset: i64| {
            let seen = Seen {
                offset,
                end_offset,
                watermark_ms: second * 1000,
                flushed_ms: second * 1000,
            };
            let partitions = BTreeMap::from([(("events".to_owned(), 0), seen)]);
            let health = pulse.judge(&partitions, Totals::default(), second * 1000);
            (health.as_of_ms, health.unread_ms)
        };
        assert_eq!(look(0, 0, 0), (Some(0), 0));
        // A hundred a second are read, and all of them.
        assert_eq!(look(10, 1000, 1000), (Some(10_000), 0));
        // As many as come in two seconds wait.
        assert_eq!(look(20, 2000, 2200), (Some(20_000), 2000));
        // What takes longer than ten seconds is a lag, and nothing is of now.
        assert_eq!(look(30, 3000, 5000), (None, 0));
    }
}
