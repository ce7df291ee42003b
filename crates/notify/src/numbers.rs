//! A rule's numbers, by SQL of the views.

use anyhow::{Context, Result};
use cambium_alerts::{Kind, Metric, Rule, Series, Value};
use cambium_clickhouse::Client;
use cambium_engine::{Filter, quoted};

use crate::Settings;

/// One number of one series.
#[derive(Clone, Debug, PartialEq)]
pub struct Amount {
    pub app: String,
    /// Of the field that is watched by; '' the whole.
    pub slice: String,
    pub at_ms: i64,
    pub value: Value,
}

/// How a metric's numbers come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub series: Series,
    pub bucket_ms: i64,
    /// What is watched unless the rule says otherwise.
    pub windows_ms: &'static [i64],
    /// How often what is there is sampled, before its bucket is complete; 0: not at all.
    pub sample_ms: i64,
    /// So long after its end a bucket changes little any more.
    pub ripe_ms: i64,
    /// How often it is asked for.
    pub every_ms: i64,
    /// Buckets in which nothing happened are zeros, and not unknown.
    pub has_zeros: bool,
}

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;
/// What is looked back on: four weeks and a day.
pub(crate) const PAST_MS: i64 = 29 * DAY_MS;
/// Conversions that come later than that tell little.
const RIPE_FUNNEL_MS: i64 = 2 * HOUR_MS;

impl Shape {
    pub fn of(rule: &Rule, settings: &Settings) -> Shape {
        let counts = Shape {
            series: Series::Sums,
            bucket_ms: MINUTE_MS,
            windows_ms: &[MINUTE_MS, 2 * MINUTE_MS, 5 * MINUTE_MS, 30 * MINUTE_MS],
            sample_ms: 2000,
            ripe_ms: 20_000,
            every_ms: 2000,
            has_zeros: true,
        };
        match &rule.metric {
            Metric::Events(_) | Metric::Pipeline => counts,
            Metric::SessionsStarted => Shape {
                windows_ms: &[5 * MINUTE_MS, 30 * MINUTE_MS],
                sample_ms: 0,
                every_ms: 30_000,
                ..counts
            },
            Metric::BounceRate => Shape {
                bucket_ms: 5 * MINUTE_MS,
                windows_ms: &[30 * MINUTE_MS],
                sample_ms: 0,
                // Who may come back has not bounced yet.
                ripe_ms: settings.session_gap_ms + MINUTE_MS,
                every_ms: MINUTE_MS,
                has_zeros: false,
                ..counts
            },
            Metric::Funnel { .. } => Shape {
                bucket_ms: HOUR_MS,
                windows_ms: &[5 * MINUTE_MS],
                sample_ms: 10_000,
                ripe_ms: RIPE_FUNNEL_MS,
                every_ms: 10_000,
                has_zeros: false,
                ..counts
            },
            Metric::Unique { window, .. } => {
                let (bucket_ms, windows_ms): (i64, &[i64]) = match window.as_str() {
                    "24h" => (15 * MINUTE_MS, &[15 * MINUTE_MS]),
                    "7d" | "30d" => (DAY_MS, &[DAY_MS]),
                    _ => (MINUTE_MS, &[MINUTE_MS]),
                };
                Shape {
                    series: Series::Level,
                    bucket_ms,
                    windows_ms,
                    sample_ms: 0,
                    ripe_ms: 10_000,
                    every_ms: 20_000,
                    has_zeros: false,
                }
            }
            Metric::Sql(_) => Shape {
                series: Series::Level,
                bucket_ms: rule.over_ms.unwrap_or(MINUTE_MS),
                windows_ms: &[MINUTE_MS],
                sample_ms: 0,
                ripe_ms: 0,
                every_ms: rule.over_ms.unwrap_or(MINUTE_MS),
                has_zeros: false,
            },
        }
    }

    /// The settings of the watches over a rule's series.
    pub fn watch(&self, rule: &Rule) -> cambium_alerts::Settings {
        let mut watch = rule.settings(self.series, self.bucket_ms, self.windows_ms, self.sample_ms);
        if self.windows_ms.len() > 1 && rule.over_ms.is_none() {
            match rule.options.kind {
                // One limit cannot be that of a minute and of half an hour.
                Kind::Threshold | Kind::Change => watch.windows_ms = vec![5 * MINUTE_MS],
                // What lasts for minutes would add up as a leak does.
                Kind::Cusum => watch.windows_ms = vec![30 * MINUTE_MS],
                _ => {}
            }
        }
        if self.series == Series::Level {
            watch.windows_ms = vec![self.bucket_ms];
        }
        watch
    }

    /// How far behind now a query must begin, so that all that may still change is in it.
    pub fn reach_ms(&self) -> i64 {
        self.ripe_ms + 3 * self.bucket_ms
    }
}

/// The settings of the watches over a rule's series.
pub fn watched(rule: &Rule, settings: &Settings) -> cambium_alerts::Settings {
    Shape::of(rule, settings).watch(rule)
}

/// The query for a rule's numbers in buckets from one instant to before another, of the whole or by a field:
/// app, slice, at in seconds, n, and d where the number is a share.
pub(crate) fn query(
    rule: &Rule,
    settings: &Settings,
    by: Option<&str>,
    (from_ms, to_ms): (i64, i64),
) -> Result<String> {
    let (from, to) = (from_ms.div_euclid(1000), to_ms.div_euclid(1000));
    let slice = by.map_or("''".to_owned(), column);
    let mut conditions = Vec::new();
    if !rule.apps.is_empty() {
        conditions.push(one_of("app", &rule.apps));
    }
    if by.is_some() {
        conditions.push("slice != ''".to_owned());
    }
    let between = |column: &str| format!("{column} >= toDateTime({from}) AND {column} < toDateTime({to})");
    let day = |column: &str| format!("day >= toDate(toDateTime({from})) - 1 AND {}", between(column));
    Ok(match &rule.metric {
        Metric::Events(names) => {
            conditions.push(between("bucket"));
            if !names.iter().any(|name| name == "*") {
                conditions.push(one_of("event", names));
            }
            if let Some(filter) = &rule.filter {
                conditions.push(Filter::sql(filter, &settings.counted_by)?);
            }
            grouped(
                &slice,
                "toUnixTimestamp(bucket)",
                "sum(events) AS n",
                "event_counts",
                &conditions,
            )
        }
        Metric::SessionsStarted => {
            conditions.push(day("started_at"));
            let at = "toUnixTimestamp(toStartOfMinute(started_at))";
            grouped(&slice, at, "count() AS n", "sessions", &conditions)
        }
        Metric::BounceRate => {
            conditions.push(day("ended_at"));
            conditions.push("NOT is_open".to_owned());
            let at = "toUnixTimestamp(toStartOfFiveMinutes(ended_at))";
            grouped(
                &slice,
                at,
                "countIf(bounced) AS n, count() AS d",
                "sessions",
                &conditions,
            )
        }
        Metric::Funnel { funnel, step } => {
            let before = settings.steps_before.get(funnel);
            let before = before
                .and_then(|steps| steps.get(usize::from(*step) - 1))
                .copied();
            let before = before.with_context(|| format!("there is no funnel {funnel} with a step {step}"))?;
            conditions.push(format!("grain = 'hour' AND funnel = {}", quoted(funnel)));
            conditions.push(between("bucket"));
            let shares = format!(
                "uniqCombined64MergeIf(users, step = {step}) AS n, uniqCombined64MergeIf(users, step = {before}) AS d"
            );
            grouped(
                &slice,
                "toUnixTimestamp(bucket)",
                &shares,
                "funnel_users",
                &conditions,
            )
        }
        Metric::Unique { metric, window } => {
            // A window reaches back beyond its slice.
            let since = from
                - if window.ends_with('d') {
                    31 * 86_400
                } else {
                    25 * 3600
                };
            conditions.retain(|condition| condition != "slice != ''");
            conditions.push(format!(
                "metric = {} AND window = {}",
                quoted(metric),
                quoted(window)
            ));
            conditions.push(format!(
                "dimension = {}",
                quoted(by.unwrap_or_default().trim_start_matches("properties."))
            ));
            conditions.push(between("at"));
            let table = format!("rolling_since(since = toDateTime({since}, 'UTC'))");
            format!(
                "SELECT app, value AS slice, toUnixTimestamp(at) AS at_s, users AS n FROM {table} WHERE {} ORDER BY at_s",
                conditions.join(" AND ")
            )
        }
        Metric::Sql(_) => format!(
            "SELECT '' AS app, slice, toUnixTimestamp(at) AS at_s, value AS n FROM alert_sample_rows FINAL \
             WHERE rule = {} AND {} ORDER BY at_s",
            quoted(&rule.name),
            between("at")
        ),
        Metric::Pipeline => anyhow::bail!("{} has no numbers in ClickHouse", rule.name),
    })
}

fn grouped(slice: &str, at: &str, numbers: &str, view: &str, conditions: &[String]) -> String {
    format!(
        "SELECT app, toString({slice}) AS slice, {at} AS at_s, {numbers} FROM {view} WHERE {} \
         GROUP BY app, slice, at_s ORDER BY at_s",
        conditions.join(" AND ")
    )
}

fn one_of(column: &str, values: &[String]) -> String {
    let values: Vec<String> = values.iter().map(|value| quoted(value)).collect();
    format!("{column} IN ({})", values.join(", "))
}

/// A field's column, or a property's.
fn column(field: &str) -> String {
    const COLUMNS: [&str; 5] = ["platform", "app_version", "channel", "campaign", "country"];
    if COLUMNS.contains(&field) {
        return field.to_owned();
    }
    format!("properties[{}]", quoted(field.trim_start_matches("properties.")))
}

/// The numbers that a rule's query answers.
pub(crate) async fn ask(client: &Client, rule: &Rule, query: &str) -> Result<Vec<Amount>> {
    let is_share = rule.is_share();
    let rows = client
        .rows(query)
        .await
        .with_context(|| format!("[[alert]] {}", rule.name))?;
    let amounts = rows.iter().map(|row| {
        let number = |name: &str| row[name].as_f64().unwrap_or(0.0);
        Amount {
            app: row["app"].as_str().unwrap_or_default().to_owned(),
            slice: row["slice"].as_str().unwrap_or_default().to_owned(),
            at_ms: number("at_s") as i64 * 1000,
            value: if is_share {
                Value::Share(number("n"), number("d"))
            } else {
                Value::Number(number("n"))
            },
        }
    });
    Ok(amounts.collect())
}

/// What a rule's own query answers now: a number, or rows of a label and a number.
pub(crate) async fn ask_sql(client: &Client, rule: &Rule, query: &str, now_ms: i64) -> Result<Vec<Amount>> {
    let tried = || format!("[[alert]] {}", rule.name);
    let answer = client
        .fetch(query, "JSONCompactEachRow")
        .await
        .with_context(tried)?;
    let mut amounts = Vec::new();
    for line in answer
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        let cells: Vec<serde_json::Value> = serde_json::from_slice(line).with_context(tried)?;
        let (label, number) = match cells.as_slice() {
            [number] => (String::new(), number),
            [label, number] => (text(label), number),
            _ => anyhow::bail!(
                "[[alert]] {}: the query answers {} columns; a number, or a label and a number, are wanted",
                rule.name,
                cells.len()
            ),
        };
        // Whole numbers of 64 bits come as text.
        let number = number.as_f64().or_else(|| number.as_str()?.parse().ok());
        if let Some(number) = number.filter(|number| number.is_finite()) {
            amounts.push(Amount {
                app: String::new(),
                slice: label,
                at_ms: now_ms,
                value: Value::Number(number),
            });
        }
    }
    Ok(amounts)
}

fn text(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
