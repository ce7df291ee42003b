//! `cambium check`: configuration, topics, keys, ClickHouse, before anything runs.

mod keeping;
pub mod keys;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};
use cambium_kafka::{Held, sample};
use clap::Args;

use super::Where;
use crate::config::{Config, Source};
use crate::reader::Reader;
use crate::warehouse::Warehouse;
use keys::Keys;

/// Look at the configuration, the topics and their keys, ClickHouse and the snapshots; say what is wrong.
///
/// Example: cambium check --config cambium.toml
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    place: Where,
    /// The newest records of each partition that are looked at
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    records: i64,
}

/// What was found, a line each.
#[derive(Default)]
struct Findings {
    failures: usize,
}

impl Findings {
    fn ok(&self, text: impl AsRef<str>) {
        println!("ok    {}", text.as_ref());
    }

    fn warn(&self, text: impl AsRef<str>) {
        println!("warn  {}", text.as_ref());
    }

    fn fail(&mut self, text: impl AsRef<str>) {
        self.failures += 1;
        println!("FAIL  {}", text.as_ref());
    }
}

pub async fn run(arguments: Arguments) -> Result<()> {
    let config = Config::read(&arguments.place.config)?;
    let mut findings = Findings::default();
    let definitions = config.setup.definitions.len();
    findings.ok(format!(
        "configuration: {definitions} definitions, {} sources",
        config.sources.len()
    ));
    config.hash_key()?;
    if config.users.hash_key_file.is_none() {
        findings.warn("[users] hash_key_file is not set: users are numbered with a published key, so that whoever has an id can find its numbers");
    }
    for name in config.open_secrets() {
        findings.warn(format!("[kafka] settings: {name} stands in the configuration itself; {{ file = \"…\" }} or {{ env = \"…\" }} keeps it out"));
    }
    let held = topics(&config, arguments.records, &mut findings).await;
    clickhouse(&config, &arguments.place, &mut findings).await;
    match Warehouse::store(&config, &arguments.place.data) {
        Ok(store) => match store.check().await {
            Ok(()) => {
                findings.ok("snapshots: can be written and read");
                keeping::check(&config, &store, &held, &mut findings).await;
            }
            Err(error) => findings.fail(format!("snapshots: {error:#}")),
        },
        Err(error) => findings.fail(format!("snapshots: {error:#}")),
    }
    match findings.failures {
        0 => Ok(()),
        failures => bail!("{failures} found that must be mended"),
    }
}

async fn clickhouse(config: &Config, place: &Where, findings: &mut Findings) {
    let asked = async {
        let warehouse = Warehouse::open(config, &place.data).await?;
        let sql = "SELECT version() AS version, toUnixTimestamp64Milli(now64(3)) AS now";
        let answer = warehouse.server().fetch(sql, "JSONEachRow").await?;
        let row: serde_json::Value = serde_json::from_slice(&answer)?;
        anyhow::Ok((warehouse.client.url().to_owned(), row))
    };
    let (url, row) = match asked.await {
        Ok(answer) => answer,
        Err(error) => return findings.fail(format!("ClickHouse: {error:#}")),
    };
    findings.ok(format!(
        "ClickHouse {} at {url}",
        row["version"].as_str().unwrap_or("?")
    ));
    let theirs = row["now"]
        .as_str()
        .and_then(|text| text.parse::<i64>().ok())
        .or(row["now"].as_i64());
    let ours = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as i64);
    if let Some(apart) = theirs.map(|theirs| theirs.abs_diff(ours))
        && apart > 5_000
    {
        findings.warn(format!(
            "the clocks of ClickHouse and of this machine are {} s apart: what is open or running is worked out from the former",
            apart / 1000
        ));
    }
}

/// Looks at every configured topic; apps that come through several are found beside.
async fn topics(config: &Config, records: i64, findings: &mut Findings) -> BTreeMap<String, Vec<Held>> {
    if config.sources.is_empty() {
        findings.warn("there is no [[source]]: `run` has nothing to consume, `replay` has files");
    }
    let mut all_held = BTreeMap::new();
    let mut topics_of: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in &config.sources {
        let looked = tokio::task::block_in_place(|| topic(config, source, records, findings));
        match looked {
            Ok((apps, held)) => {
                all_held.insert(source.topic.clone(), held);
                for app in apps {
                    topics_of.entry(app).or_default().insert(source.topic.clone());
                }
            }
            Err(error) => findings.fail(format!("topic {}: {error:#}", source.topic)),
        }
    }
    for (app, topics) in topics_of.into_iter().filter(|(_, topics)| topics.len() > 1) {
        let topics: Vec<String> = topics.into_iter().collect();
        findings.fail(format!(
            "app {app} comes through the topics {}: sessions and funnels cannot span them; `cambium rekey` merges topics",
            topics.join(" and ")
        ));
    }
    all_held
}

/// What the newest records of a topic tell; the apps that are in it, and what its partitions hold.
fn topic(
    config: &Config,
    source: &Source,
    records: i64,
    findings: &mut Findings,
) -> Result<(BTreeSet<String>, Vec<Held>)> {
    let name = &source.topic;
    let mut reader = Reader::new(config, Some(source))?;
    let mut keys = Keys::new()?;
    let mut apps = BTreeSet::new();
    let mut rejected: BTreeMap<&str, (u64, String)> = BTreeMap::new();
    let mut looked_at = 0u64;
    let hash_key = config.hash_key()?;
    let settings = config.kafka_settings()?;
    let held = sample(&config.kafka.brokers, &settings, name, records, |original| {
        looked_at += 1;
        let read = reader.read(original, |event| {
            if !apps.contains(event.app) {
                apps.insert(event.app.to_owned());
            }
            keys.add(hash_key.user(event.user()), event.user(), original);
            let links = config.setup.link_within_ms(event.app).is_some();
            if links && !event.user_id.is_empty() && !event.anonymous_id.is_empty() {
                keys.link(hash_key.user(event.anonymous_id), original.partition);
            }
        })?;
        if let Err(rejection) = read {
            let place = format!(
                "{} at {}[{}]",
                rejection.detail, original.partition, original.offset
            );
            rejected.entry(rejection.reason.name()).or_insert((0, place)).0 += 1;
        }
        Ok(())
    })?;
    let total: i64 = held.iter().map(|held| held.end - held.earliest).sum();
    let bad: u64 = rejected.values().map(|(count, _)| count).sum();
    let text = format!(
        "topic {name}: {} partitions, {total} records; of the newest {looked_at} are {} events of about {} users",
        held.len(),
        looked_at - bad,
        keys.users()
    );
    if bad > 0 && bad == looked_at {
        findings.fail(format!("{text}: are format and [source.fields] right?"));
    } else {
        findings.ok(text);
    }
    for (reason, (count, example)) in rejected {
        findings.warn(format!(
            "topic {name}: {count} are rejected as {reason}, for example {example}"
        ));
    }
    match keys.complaint(held.len() as i32) {
        Some(complaint) => findings.fail(format!("topic {name}: {complaint}")),
        None if looked_at > bad => findings.ok(format!("topic {name}: each user is on one partition")),
        None => {}
    }
    if let Some(complaint) = keys.complaint_of_devices() {
        findings.fail(format!("topic {name}: {complaint}"));
    }
    Ok((apps, held))
}
