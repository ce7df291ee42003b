//! `cambium plan`: what a changed configuration would do, before it is taken.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};
use cambium_clickhouse::Client;
use cambium_engine::{Partition, Setup, Topic};
use cambium_snapshots::Entry;
use clap::Args;
use serde_json::Value;

use super::{Where, called};
use crate::Processors;
use crate::config::Config;
use crate::warehouse::Warehouse;

/// Say what would begin anew with a configuration, what stays, and what would no longer be counted; nothing is changed.
///
/// Example: cambium plan --config cambium.toml
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    place: Where,
}

pub async fn run(arguments: Arguments) -> Result<()> {
    let config = Config::read(&arguments.place.config)?;
    let warehouse = Warehouse::open(&config, &arguments.place.data).await?;
    let shown = shown(&warehouse.client).await?;
    for line in compare(&config, &shown)? {
        println!("{line}");
    }
    for line in judged(&config, &arguments.place.data).await? {
        println!("{line}");
    }
    Ok(())
}

/// A definition by its app, kind and the name that it was counted under first.
type Key = (String, String, String);

/// A definition that is shown now.
struct Shown {
    name: String,
    text: String,
}

/// What is shown now; nothing where nothing was ever counted.
async fn shown(client: &Client) -> Result<BTreeMap<Key, Shown>> {
    let there = format!(
        "SELECT count() AS tables FROM system.tables WHERE database = '{}' AND name = 'definitions'",
        client.database().replace('\'', "\\'")
    );
    let tables = client.clone().in_no_database().rows(&there).await?;
    if tables.first().and_then(|row| row["tables"].as_u64()) != Some(1) {
        return Ok(BTreeMap::new());
    }
    let query = "SELECT app, kind, first_name, name, text FROM shown";
    let rows = client
        .rows(query)
        .await
        .context("what is counted cannot be asked; start `cambium run` of this release once")?;
    let text = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
    let definitions = rows.iter().map(|row| {
        let key = (text(row, "app"), text(row, "kind"), text(row, "first_name"));
        let (name, text) = (text(row, "name"), text(row, "text"));
        (key, Shown { name, text })
    });
    Ok(definitions.collect())
}

/// A line for each definition of each app that was seen.
fn compare(config: &Config, shown: &BTreeMap<Key, Shown>) -> Result<Vec<String>> {
    let topic = Topic {
        name: String::new(),
        partition: 0,
    };
    let mut partition: Partition<Processors> =
        Partition::new(topic, 0, 0, config.whole_setup()?, config.hash_key()?)?;
    let apps: BTreeSet<&str> = shown.keys().map(|(app, ..)| app.as_str()).collect();
    let mut lines = Vec::new();
    let mut say = |what: &str, (app, kind, _): &Key, name: &str, more: &str| {
        lines.push(format!("{what:<18} {} ({app}){more}", called(kind, name)));
    };
    if apps.is_empty() {
        let definitions = config.setup.definitions.len();
        return Ok(vec![format!(
            "nothing is counted yet: all {definitions} definitions begin"
        )]);
    }
    for app in apps {
        let mut configured = BTreeMap::new();
        for definition in partition.definitions_of(app)? {
            let key = (app.to_owned(), definition.kind.to_owned(), definition.name);
            configured.insert(key, definition.text);
        }
        for (key, text) in &configured {
            let name = config.names.of(&key.1, &key.2, app);
            match shown.get(key) {
                Some(counted) if counted.text == *text && counted.name == name => say("stays", key, name, ""),
                Some(counted) if counted.text == *text => {
                    say(
                        "is renamed",
                        key,
                        name,
                        &format!(": it was called {}", counted.name),
                    );
                }
                Some(counted) => {
                    let changed = changed(&counted.text, text).join(", ");
                    say("begins anew", key, name, &format!(": {changed}"));
                }
                None => say("is new", key, name, ""),
            }
        }
        let gone = shown
            .iter()
            .filter(|(key, _)| key.0 == app && !configured.contains_key(key));
        for (key, counted) in gone {
            let stay = ": its rows stay, hidden, until `cambium prune`";
            say("no longer counted", key, &counted.name, stay);
        }
    }
    lines.sort();
    Ok(lines)
}

/// What differs between two texts of a definition.
fn changed(before: &str, after: &str) -> Vec<String> {
    let parse = |text| serde_json::from_str::<Value>(text).unwrap_or_default();
    let (before, after) = (parse(before), parse(after));
    let mut changed = Vec::new();
    let members = |value: &Value| value.as_object().cloned().unwrap_or_default();
    let keys = |one: &Value, other: &Value| -> BTreeSet<String> {
        let one = members(one);
        one.keys()
            .cloned()
            .chain(members(other).keys().cloned())
            .collect()
    };
    for part in keys(&before, &after) {
        if before[&part] == after[&part] {
            continue;
        }
        match part.as_str() {
            "definition" => {
                let (before, after) = (&before[&part], &after[&part]);
                let differ = keys(before, after)
                    .into_iter()
                    .filter(|key| before[key] != after[key]);
                changed.extend(differ.map(|key| format!("{key} was {}, is {}", before[&key], after[&key])));
            }
            "semantics" => changed.push("this release counts it otherwise".to_owned()),
            "session" => changed.push("[session] is another".to_owned()),
            "hash_key" => changed.push("[users] hash_key_file is another".to_owned()),
            "zone" => changed.push(format!("time_zone was {}, is {}", before[&part], after[&part])),
            _ => changed.push(format!("{part} was {}, is {}", before[&part], after[&part])),
        }
    }
    changed
}

/// How records are read and judged, where that changes.
async fn judged(config: &Config, data: &Path) -> Result<Vec<String>> {
    let store = Warehouse::store(config, data)?;
    let mut lines = Vec::new();
    for source in &config.sources {
        let topic = Topic {
            name: source.topic.clone(),
            partition: 0,
        };
        let journal = store.partition(&topic, 1).journal().await?;
        let Some(before) = journal.iter().rev().find_map(Entry::setup) else {
            continue;
        };
        let after = config.setup_of(source)?;
        let parts = differences(before, &after);
        if !parts.is_empty() {
            lines.push(format!(
                "records of {} are read or judged otherwise from a written-down offset on: {}. End every process before one is \
                 started with it",
                source.topic,
                parts.join(", ")
            ));
        }
    }
    Ok(lines)
}

fn differences(before: &Setup, after: &Setup) -> Vec<&'static str> {
    let apps: BTreeSet<&String> = before.apps.keys().chain(after.apps.keys()).collect();
    let times = apps.into_iter().any(|app| before.time(app) != after.time(app)) || before.time != after.time;
    let parts = [
        ("[time] lateness, skew or horizon", times),
        ("[[drop]]", before.drop != after.drop),
        ("[source.fields]", before.fields != after.fields),
        ("format", before.format != after.format),
        ("max_values", before.max_values != after.max_values),
    ];
    let differ = parts.into_iter().filter(|(_, differs)| *differs);
    differ.map(|(part, _)| part).collect()
}
