//! The sections that say where everything is, and how time is taken.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow, bail, ensure};
use cambium_engine::{DAY_MS, Duration, MINUTE_MS, RejectedPayload, TimeRules, WeekStart, duration_ms};
use cambium_event::Fields;
use serde::Deserialize;

use super::alerts::{Alerts, Written as Alert};
use super::channels::Written as Channel;
use super::secrets::Setting;
use serde::de::DeserializeOwned;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Kafka {
    pub brokers: String,
    pub group: String,
    pub settings: BTreeMap<String, Setting>,
}

impl Default for Kafka {
    fn default() -> Self {
        Kafka {
            brokers: "localhost:9092".to_owned(),
            group: "cambium".to_owned(),
            settings: BTreeMap::new(),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    #[default]
    Earliest,
    Latest,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    #[default]
    Json,
    Avro,
    AvroConfluent,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    pub topic: String,
    #[serde(default)]
    pub format: Format,
    /// Of avro-confluent, as are the three below.
    pub registry: Option<String>,
    pub registry_user: Option<String>,
    pub registry_password_file: Option<String>,
    pub registry_password_env: Option<String>,
    /// Of avro: a file; left out: Cambium's own.
    pub schema: Option<String>,
    #[serde(default)]
    pub start: Start,
    #[serde(default)]
    pub fields: Fields,
}

impl Source {
    /// Whether the keys fit together.
    pub fn check(&self) -> Result<()> {
        match (self.format, &self.registry, &self.schema) {
            (Format::AvroConfluent, None, _) => {
                bail!("format = \"avro-confluent\" needs registry = \"http://…\"")
            }
            (Format::Json | Format::Avro, Some(_), _) => {
                bail!("registry: is of format = \"avro-confluent\" alone")
            }
            _ if self.registry_password_file.is_some() && self.registry_password_env.is_some() => {
                bail!("one of registry_password_file and registry_password_env is enough")
            }
            _ if self.registry.is_none() && self.registry_user.is_some() => {
                bail!("registry_user: is of a registry = \"http://…\"")
            }
            (Format::Json | Format::AvroConfluent, _, Some(_)) => {
                bail!("schema: is of format = \"avro\" alone")
            }
            _ => Ok(()),
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClickHouse {
    pub url: Option<String>,
    pub user: String,
    pub password_file: Option<String>,
    pub password_env: Option<String>,
    pub database: String,
    pub cluster: Option<String>,
}

impl ClickHouse {
    pub fn check(&self) -> Result<()> {
        let both = self.password_file.is_some() && self.password_env.is_some();
        ensure!(
            !both,
            "[clickhouse] one of password_file and password_env is enough"
        );
        let Some(text) = &self.url else {
            return Ok(());
        };
        let url = url::Url::parse(text).ok();
        let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let Some(url) = url else {
            bail!(
                "[clickhouse] url: '{text}' is no URL of ClickHouse's HTTP interface; write it like \"http://localhost:8123\""
            );
        };
        ensure!(
            url.username().is_empty() && url.password().is_none(),
            "[clickhouse] url: names a user; that is [clickhouse] user, and the password lies in password_file"
        );
        Ok(())
    }
}

impl Default for ClickHouse {
    fn default() -> Self {
        ClickHouse {
            url: None,
            user: "default".to_owned(),
            password_file: None,
            password_env: None,
            database: "cambium".to_owned(),
            cluster: None,
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Snapshots {
    pub url: Option<String>,
    pub every: Duration,
    pub keep: usize,
}

impl Default for Snapshots {
    fn default() -> Self {
        Snapshots {
            url: None,
            every: Duration(MINUTE_MS),
            keep: 3,
        }
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Users {
    pub hash_key_file: Option<String>,
    pub raw_ids: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    pub listen: String,
}

impl Default for Http {
    fn default() -> Self {
        Http {
            listen: "127.0.0.1:8080".to_owned(),
        }
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rejected {
    pub payload: RejectedPayload,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EventsTable {
    pub on: bool,
}

/// `[keep]`: how long ClickHouse holds rows.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Keep {
    pub minutes: KeepFor,
    pub hours: KeepFor,
    pub days: KeepFor,
    pub counts: KeepFor,
    pub sessions: KeepFor,
    pub rejected: KeepFor,
    pub events: KeepFor,
}

impl Default for Keep {
    fn default() -> Self {
        Keep {
            minutes: KeepFor(None),
            hours: KeepFor(None),
            days: KeepFor(None),
            counts: KeepFor(None),
            sessions: KeepFor(None),
            rejected: KeepFor(Some(7 * DAY_MS)),
            events: KeepFor(Some(30 * DAY_MS)),
        }
    }
}

/// A duration in milliseconds, or for ever.
#[derive(Clone, Copy, Debug)]
pub struct KeepFor(pub Option<i64>);

impl<'de> Deserialize<'de> for KeepFor {
    fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let text = String::deserialize(input)?;
        if text == "forever" {
            return Ok(KeepFor(None));
        }
        let ms = duration_ms(&text)
            .map_err(|error| serde::de::Error::custom(format!("{error}, or \"forever\"")))?;
        if ms < 1000 {
            return Err(serde::de::Error::custom("rows are kept for a second at least"));
        }
        Ok(KeepFor(Some(ms)))
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drop {
    #[serde(rename = "where")]
    pub filter: String,
}

/// `[time]`, and `[app.NAME.time]` over it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Time {
    lateness: Option<Duration>,
    skew: Option<Duration>,
    horizon: Option<Duration>,
    pub week_start: Option<WeekStart>,
}

impl Time {
    pub fn rules(&self, general: TimeRules) -> TimeRules {
        TimeRules {
            lateness_ms: self.lateness.map_or(general.lateness_ms, |duration| duration.0),
            skew_ms: self.skew.map_or(general.skew_ms, |duration| duration.0),
            horizon_ms: self.horizon.map_or(general.horizon_ms, |duration| duration.0),
        }
    }
}

/// `[changes]`: where changes of people are told.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Changes {
    /// Left out: nowhere.
    pub topic: Option<String>,
}

pub const DEFAULT_TIME: TimeRules = TimeRules {
    lateness_ms: DAY_MS,
    skew_ms: 5 * MINUTE_MS,
    horizon_ms: 400 * DAY_MS,
};

/// One app: its zone, and sections that override the general ones.
pub type Apps = BTreeMap<String, toml::Table>;

pub struct Sections {
    pub kafka: Kafka,
    pub source: Vec<Source>,
    pub clickhouse: ClickHouse,
    pub snapshots: Snapshots,
    pub users: Users,
    pub http: Http,
    pub rejected: Rejected,
    pub events_table: EventsTable,
    pub keep: Keep,
    pub channel: Vec<Channel>,
    pub alert: Vec<Alert>,
    pub alerts: Alerts,
    pub changes: Changes,
    /// The first values of a `by` field that are kept, on each partition.
    pub max_values: usize,
    pub time: Time,
    pub drop: Vec<Drop>,
    pub apps: Apps,
}

impl Sections {
    pub const NAMES: [&'static str; 17] = [
        "kafka",
        "source",
        "clickhouse",
        "snapshots",
        "users",
        "http",
        "rejected",
        "events_table",
        "keep",
        "channel",
        "alert",
        "alerts",
        "changes",
        "max_values",
        "time",
        "drop",
        "app",
    ];

    /// Takes these sections out of the file.
    pub fn take(table: &mut toml::Table) -> Result<Sections> {
        Ok(Sections {
            kafka: section(table, "kafka")?,
            source: section(table, "source")?,
            clickhouse: section(table, "clickhouse")?,
            snapshots: section(table, "snapshots")?,
            users: section(table, "users")?,
            http: section(table, "http")?,
            rejected: section(table, "rejected")?,
            events_table: section(table, "events_table")?,
            keep: section(table, "keep")?,
            channel: section(table, "channel")?,
            alert: section(table, "alert")?,
            alerts: section(table, "alerts")?,
            changes: section(table, "changes")?,
            max_values: max_values(table)?,
            time: section(table, "time")?,
            drop: section(table, "drop")?,
            apps: section(table, "app")?,
        })
    }
}

const MAX_VALUES: usize = 10_000;

fn max_values(table: &mut toml::Table) -> Result<usize> {
    match table.remove("max_values") {
        None => Ok(MAX_VALUES),
        Some(toml::Value::Integer(count)) if count > 0 => Ok(usize::try_from(count)?),
        Some(_) => bail!("max_values: is a number above 0"),
    }
}

pub fn section<T: DeserializeOwned + Default>(table: &mut toml::Table, name: &str) -> Result<T> {
    match table.remove(name) {
        None => Ok(T::default()),
        Some(value) => value
            .try_into()
            .map_err(|error: toml::de::Error| anyhow!("[{name}]: {}", explain(&error.to_string()))),
    }
}

/// An error of a key that is not known, with the nearest one that is.
pub fn explain(error: &str) -> String {
    let error = error.trim().replace('\n', " ");
    let quoted =
        |text: &str| -> Vec<String> { text.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    if !error.contains("unknown field") {
        return error;
    }
    // Where it is, stands behind: "… in `fields.timestamp`".
    let (error, place) = match error.rsplit_once(" in `") {
        Some((error, place)) => (error, format!(" in {}", place.trim_end_matches('`'))),
        None => (error.as_str(), String::new()),
    };
    let names = quoted(error);
    let Some((unknown, known)) = names.split_first() else {
        return error.to_owned();
    };
    format!(
        "unknown key '{unknown}'{place}{}",
        nearest(unknown, known.iter().map(String::as_str))
    )
}

/// "; did you mean …?", where something is near.
pub fn nearest<'k>(unknown: &str, known: impl Iterator<Item = &'k str>) -> String {
    let known: Vec<&str> = known.collect();
    let best = known.iter().max_by(|left, right| {
        strsim::jaro_winkler(unknown, left).total_cmp(&strsim::jaro_winkler(unknown, right))
    });
    match best {
        Some(best) if strsim::jaro_winkler(unknown, best) > 0.7 => format!("; did you mean '{best}'?"),
        _ => format!("; known are {}", known.join(", ")),
    }
}
