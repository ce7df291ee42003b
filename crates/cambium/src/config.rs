//! `cambium.toml`: what is counted, and where everything is.

mod alerts;
mod channels;
mod definitions;
mod names;
mod secrets;
mod sections;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use cambium_alerts::Rule;
use cambium_clickhouse::Keep;
use cambium_engine::{HashKey, Setup};
use cambium_event::{self as event, Decoders, EVENT_SCHEMA, Plan, SchemaText, Schemas};
use cambium_kafka::{Place, Registry};
use cambium_notify::{Channel, Settings as Watching, pipeline_rules};

pub use names::Names;
pub use secrets::in_file;
pub use sections::{Changes, ClickHouse, Format, Http, Kafka, Snapshots, Source, Start, Users};
use sections::{Sections, nearest};

/// Something is wrong with the configuration: exit code 2.
#[derive(Debug)]
pub struct ConfigError(String);

impl ConfigError {
    pub fn new(text: String) -> ConfigError {
        ConfigError(text)
    }
}

impl std::error::Error for ConfigError {}

impl std::fmt::Display for ConfigError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.0)
    }
}

/// The configuration, read and checked.
#[derive(Clone, Debug)]
pub struct Config {
    pub kafka: Kafka,
    pub sources: Vec<Source>,
    pub clickhouse: ClickHouse,
    pub snapshots: Snapshots,
    pub users: Users,
    pub http: Http,
    keep: sections::Keep,
    channels: Vec<channels::Written>,
    pub alerts: alerts::Alerts,
    pub changes: Changes,
    rules: Vec<Rule>,
    pub setup: Setup,
    pub names: Names,
    /// Where the file lies: paths in it are relative to it.
    directory: PathBuf,
}

impl Config {
    pub fn read(path: &Path) -> Result<Config> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            ConfigError(format!(
                "cannot read the configuration {}: {error}",
                path.display()
            ))
        })?;
        let directory = path.parent().unwrap_or(Path::new(".")).to_owned();
        let config = Config::parse(&text, directory);
        Ok(config.map_err(|error| ConfigError(format!("{}: {error:#}", path.display())))?)
    }

    pub fn parse(text: &str, directory: PathBuf) -> Result<Config> {
        let mut table: toml::Table = text.parse().map_err(|error| syntax(text, &error))?;
        let sections = Sections::take(&mut table)?;
        let mut names = std::collections::BTreeSet::new();
        for channel in &sections.channel {
            channel
                .check()
                .with_context(|| format!("[[channel]] {}", channel.name))?;
            anyhow::ensure!(
                names.insert(&channel.name),
                "[[channel]] '{}' is there twice",
                channel.name
            );
        }
        let (setup, named) = definitions::setup(&sections, &mut table)?;
        for (place, source) in sections.source.iter().enumerate() {
            source
                .check()
                .with_context(|| format!("[[source]] {}", source.topic))?;
            let before = &sections.source[..place];
            anyhow::ensure!(
                before.iter().all(|other| other.topic != source.topic),
                "[[source]] '{}' is there twice",
                source.topic
            );
        }
        let channels: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
        let rules = alerts::rules(
            &sections.alert,
            &named.used_in(&setup),
            &sections.alerts,
            &channels,
        )?;
        sections.clickhouse.check()?;
        if let Some(topic) = &sections.changes.topic {
            let is_source = sections.source.iter().any(|source| source.topic == *topic);
            anyhow::ensure!(
                !is_source,
                "[changes] topic: '{topic}' is a [[source]]: changes are no events of the app"
            );
        }
        if let Some(unknown) = table.keys().next() {
            let kinds = definitions::kinds();
            let known = Sections::NAMES
                .iter()
                .copied()
                .chain(kinds.iter().map(|kind| kind.kind));
            bail!("unknown section [{unknown}]{}", nearest(unknown, known));
        }
        Ok(Config {
            kafka: sections.kafka,
            sources: sections.source,
            clickhouse: sections.clickhouse,
            snapshots: sections.snapshots,
            users: sections.users,
            http: sections.http,
            keep: sections.keep,
            channels: sections.channel,
            alerts: sections.alerts,
            changes: sections.changes,
            rules,
            setup,
            names: named,
            directory,
        })
    }

    /// Where what becomes of alerts is written down.
    pub fn alerts_journal(&self) -> Result<Place> {
        let usual = || format!("{}-alerts", self.kafka.group);
        Ok(Place {
            brokers: self.kafka.brokers.clone(),
            settings: self.kafka_settings()?,
            topic: self.alerts.topic.clone().unwrap_or_else(usual),
            group: usual(),
        })
    }

    /// A rule by its name.
    pub fn rule(&self, name: &str) -> Result<&Rule> {
        let found = self.rules.iter().find(|rule| rule.name == name);
        Ok(found.ok_or_else(|| {
            let names = self.rules.iter().map(|rule| rule.name.as_str());
            ConfigError(format!("there is no [[alert]] '{name}'{}", nearest(name, names)))
        })?)
    }

    /// What is watched, and whom to tell, with the channels' secrets.
    pub fn watching(&self) -> Result<Watching> {
        let channels: Result<Vec<Channel>> = self
            .channels
            .iter()
            .map(|channel| self.channel(&channel.name))
            .collect();
        let zones = self.setup.apps.iter().filter_map(|(name, app)| {
            let zone = jiff::tz::TimeZone::get(&app.zone).ok()?;
            Some((name.clone(), zone))
        });
        let mut rules = self.rules.clone();
        rules.extend(pipeline_rules());
        Ok(Watching {
            rules,
            channels: channels?,
            zones: zones.collect(),
            topics: self.sources.iter().map(|source| source.topic.clone()).collect(),
            journal: self.alerts_journal()?,
            counted_by: alerts::counted_by(&self.setup),
            session_gap_ms: alerts::session_gap_ms(&self.setup),
            steps_before: alerts::steps_before(&self.names.used_in(&self.setup))?,
        })
    }

    /// A channel by its name, with its secrets.
    pub fn channel(&self, name: &str) -> Result<Channel> {
        let Some(written) = self.channels.iter().find(|channel| channel.name == name) else {
            let names = self.channels.iter().map(|channel| channel.name.as_str());
            let text = format!("there is no [[channel]] '{name}'{}", nearest(name, names));
            return Err(ConfigError(text).into());
        };
        written
            .open(&self.directory)
            .with_context(|| format!("[[channel]] {name}"))
    }

    /// How long ClickHouse holds rows.
    pub fn keep(&self) -> Keep {
        Keep {
            minutes: self.keep.minutes.0,
            hours: self.keep.hours.0,
            days: self.keep.days.0,
            counts: self.keep.counts.0,
            sessions: self.keep.sessions.0,
            rejected: self.keep.rejected.0,
            events: self.keep.events.0,
        }
    }

    /// The setup of a source's partitions: how its records are read is the source's own.
    pub fn setup_of(&self, source: &Source) -> Result<Setup> {
        let format = match source.format {
            Format::Json => event::Format::Json,
            Format::AvroConfluent => event::Format::AvroConfluent,
            Format::Avro => event::Format::Avro(SchemaText {
                schema: match &source.schema {
                    None => EVENT_SCHEMA.to_owned(),
                    Some(file) => self.read_file(&format!("[[source]] {} schema", source.topic), file)?,
                },
                references: Vec::new(),
            }),
        };
        // A schema that cannot be used is said before anything is read.
        let plan = Plan::new(&source.fields, &[]);
        Decoders::new(plan, format.clone(), &Schemas::new())
            .map_err(|error| ConfigError(format!("[[source]] {}: {error}", source.topic)))?;
        Ok(Setup {
            fields: source.fields.clone(),
            format,
            ..self.whole_setup()?
        })
    }

    /// The setup, with the key under which users are hashed, and as this release counts it.
    pub fn whole_setup(&self) -> Result<Setup> {
        let kinds = definitions::kinds().into_iter();
        let semantics =
            kinds.map(|info| (info.kind.to_owned(), info.semantics + of_later_release(info.kind)));
        Ok(Setup {
            semantics: semantics.collect(),
            hash_key: Some(self.hash_key()?.fingerprint()),
            ..self.setup.clone()
        })
    }

    fn read_file(&self, key: &str, file: &str) -> Result<String> {
        secrets::read_file(key, file, &self.directory)
    }

    /// The key under which user ids are hashed.
    pub fn hash_key(&self) -> Result<HashKey> {
        let Some(file) = &self.users.hash_key_file else {
            return Ok(HashKey::default());
        };
        let text = self.read_file("[users] hash_key_file", file)?;
        let text = text.trim();
        let parsed = (text.len() == 32 && text.is_ascii())
            .then(|| {
                Some((
                    u64::from_str_radix(&text[..16], 16).ok()?,
                    u64::from_str_radix(&text[16..], 16).ok()?,
                ))
            })
            .flatten();
        match parsed {
            Some((high, low)) => Ok(HashKey(high, low)),
            None => Err(ConfigError(format!(
                "[users] hash_key_file: {file} does not hold 32 hexadecimal digits"
            ))
            .into()),
        }
    }

    /// Any settings of librdkafka, with what their files and variables hold now.
    pub fn kafka_settings(&self) -> Result<BTreeMap<String, String>> {
        secrets::settings(&self.kafka.settings, &self.directory)
    }

    /// The names of secrets that stand in the configuration itself.
    pub fn open_secrets(&self) -> impl Iterator<Item = &str> {
        secrets::open_secrets(&self.kafka.settings)
    }

    pub fn clickhouse_password(&self) -> Result<Option<String>> {
        let ClickHouse {
            password_file,
            password_env,
            ..
        } = &self.clickhouse;
        secrets::password("[clickhouse] ", (password_file, password_env), &self.directory)
    }

    /// The schema registry of a source, where it has one.
    pub fn registry(&self, source: &Source) -> Result<Option<Registry>> {
        let Some(url) = &source.registry else {
            return Ok(None);
        };
        let written = (&source.registry_password_file, &source.registry_password_env);
        let password = secrets::password("[[source]] registry_", written, &self.directory)?;
        let registry = Registry::new(url, source.registry_user.as_deref(), password);
        Ok(Some(registry.map_err(|error| ConfigError(format!("{error:#}")))?))
    }
}

/// By how much the tests have a later release count a kind otherwise.
fn of_later_release(_kind: &str) -> u32 {
    #[cfg(feature = "failpoints")]
    fail::fail_point!("later-release", |counted| u32::from(
        counted.as_deref() == Some(_kind)
    ));
    0
}

/// What is no TOML, and where. The line itself is not shown where a secret may stand in it.
fn syntax(text: &str, error: &toml::de::Error) -> anyhow::Error {
    let at = error.span().map_or(0, |span| span.start.min(text.len()));
    let lines = text.as_bytes()[..at]
        .iter()
        .filter(|byte| **byte == b'\n')
        .count();
    let line = text.lines().nth(lines).unwrap_or_default();
    let is_secret = ["password", "secret", "url", "settings"]
        .iter()
        .any(|word| line.contains(word));
    match is_secret {
        true => anyhow::anyhow!("line {}: {}", lines + 1, error.message()),
        false => anyhow::anyhow!("{error}"),
    }
}
