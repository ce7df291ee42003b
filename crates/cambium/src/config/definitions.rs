//! From the sections of processors to definitions. Which sections there are, the list of processors says.

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow, bail};
use cambium_engine::{AppSetup, Beside, HashKey, KindInfo, List, Partition, Setup, Spec, Topic, Zone};
use cambium_event::{Fields, Format};
use serde_json::{Map, Value};

use super::names::{self, Names};
use super::sections::{DEFAULT_TIME, Sections, Time, explain, nearest};
use crate::Processors;

pub fn kinds() -> Vec<KindInfo> {
    let mut kinds = Vec::new();
    Processors::kinds(&mut kinds);
    kinds
}

/// Takes the processors' sections out of the file, and checks that they can be counted. In the setup definitions have the
/// names that they were counted under first.
pub fn setup(sections: &Sections, table: &mut toml::Table) -> Result<(Setup, Names)> {
    let mut definitions = Vec::new();
    let mut names = Names::default();
    let mut single = BTreeMap::new();
    for kind in kinds() {
        let written = table.remove(kind.kind);
        if kind.is_single {
            let is_there = written.is_some() || kind.built_in.contains(&"");
            let keys = single_keys(kind.kind, written)?;
            single.insert(kind.kind, keys.clone());
            // What is written for some apps alone counts those.
            let of_apps = sections
                .apps
                .iter()
                .filter(|(_, keys)| keys.contains_key(kind.kind));
            let apps: Vec<String> = of_apps.map(|(name, _)| name.clone()).collect();
            if is_there || !apps.is_empty() {
                let apps = if is_there { Vec::new() } else { apps };
                definitions.push(spec(&kind, ("", ""), apps, keys)?);
            }
        } else {
            definitions.extend(named(&kind, written, &mut names)?);
        }
    }
    definitions.iter_mut().for_each(|spec| names.rest_on_first(spec));
    let time = sections.time.rules(DEFAULT_TIME);
    let mut apps = BTreeMap::new();
    for (name, keys) in &sections.apps {
        let app = app(keys, time, &single).with_context(|| format!("[app.{name}]"))?;
        apps.insert(name.clone(), app);
    }
    let setup = Setup {
        time,
        week_start: sections.time.week_start.unwrap_or_default(),
        apps,
        drop: sections.drop.iter().map(|drop| drop.filter.clone()).collect(),
        definitions,
        fields: sections
            .source
            .first()
            .map_or_else(Fields::default, |source| source.fields.clone()),
        format: Format::Json,
        beside: Beside {
            rejected_payload: sections.rejected.payload,
            events: sections.events_table.on,
            raw_ids: sections.users.raw_ids,
        },
        max_values: sections.max_values,
        hash_key: None,
        semantics: Default::default(),
        forgotten: Vec::new(),
        only: None,
    };
    check(&names.used_in(&setup))?;
    Ok((setup, names))
}

/// Compiles everything once: what is wrong shows before anything runs.
fn check(setup: &Setup) -> Result<()> {
    let topic = Topic {
        name: String::new(),
        partition: 0,
    };
    for (name, time) in setup
        .apps
        .iter()
        .map(|(name, app)| (name.as_str(), app.time))
        .chain([("", setup.time)])
    {
        if time.horizon_ms < time.lateness_ms {
            bail!(
                "[time] horizon must not be shorter than lateness{}",
                if name.is_empty() { "" } else { " (of an app)" }
            );
        }
    }
    Partition::<Processors>::new(topic, 0, 0, setup.clone(), HashKey::default())
        .map(|_| ())
        .map_err(|error| anyhow!("{error}"))
}

fn single_keys(kind: &str, written: Option<toml::Value>) -> Result<Map<String, Value>> {
    match written.map(to_json).transpose()? {
        None => Ok(Map::new()),
        Some(Value::Object(keys)) => Ok(keys),
        Some(_) => bail!("[{kind}] is one section, written with single brackets"),
    }
}

fn named(kind: &KindInfo, written: Option<toml::Value>, names: &mut Names) -> Result<Vec<Spec>> {
    let written = match written.map(to_json).transpose()? {
        None => Vec::new(),
        Some(Value::Array(all)) => all,
        Some(_) => bail!("[[{}]] is a list, written with double brackets", kind.kind),
    };
    let mut specs: Vec<(String, Spec)> = Vec::new();
    for keys in written {
        let Value::Object(mut keys) = keys else {
            bail!("[[{}]] holds keys", kind.kind)
        };
        let name = match keys.remove("name") {
            Some(Value::String(name)) if !name.is_empty() => name,
            _ => bail!("[[{}]] needs a name", kind.kind),
        };
        let apps = apps_of(keys.remove("app")).with_context(|| format!("[[{}]] {name}", kind.kind))?;
        let was = match keys.remove("was") {
            None => name.clone(),
            Some(Value::String(was)) if !was.is_empty() => was,
            Some(_) => bail!(
                "[[{}]] {name}: was is the name that it was counted under before",
                kind.kind
            ),
        };
        let spec = spec(kind, (&name, &was), apps, keys)?;
        specs.push((name, spec));
    }
    names::check(kind.kind, &specs)?;
    specs.iter().for_each(|(name, spec)| names.add(spec, name));
    let mut specs: Vec<Spec> = specs.into_iter().map(|(_, spec)| spec).collect();
    for name in kind.built_in {
        if !specs.iter().any(|spec| spec.name == *name) {
            specs.push(spec(kind, (name, name), Vec::new(), Map::new())?);
        }
    }
    Ok(specs)
}

fn apps_of(written: Option<Value>) -> Result<Vec<String>> {
    Ok(match written {
        None => Vec::new(),
        Some(Value::String(app)) => vec![app],
        Some(list) => {
            serde_json::from_value(list).map_err(|_| anyhow!("app: is a name or a list of names"))?
        }
    })
}

/// A definition by the name that it has, and the one that it was counted under first.
fn spec(
    kind: &KindInfo,
    (name, first): (&str, &str),
    apps: Vec<String>,
    keys: Map<String, Value>,
) -> Result<Spec> {
    let title = if name.is_empty() {
        format!("[{}]", kind.kind)
    } else {
        format!("[[{}]] {name}", kind.kind)
    };
    let body =
        (kind.complete)(first, keys).map_err(|error| anyhow!("{title}: {}", explain(&error.to_string())))?;
    Ok(Spec {
        kind: kind.kind.to_owned(),
        name: first.to_owned(),
        apps,
        body,
        generation: 0,
    })
}

/// An app's own section: a zone, times, and single sections laid over the general ones.
fn app(
    keys: &toml::Table,
    general: cambium_engine::TimeRules,
    single: &BTreeMap<&'static str, Map<String, Value>>,
) -> Result<AppSetup> {
    let mut app = AppSetup {
        zone: "UTC".to_owned(),
        week_start: None,
        time: general,
        overrides: BTreeMap::new(),
    };
    for (key, value) in keys {
        match key.as_str() {
            "time_zone" => {
                app.zone = value
                    .as_str()
                    .context("time_zone: is a name like \"Asia/Shanghai\"")?
                    .to_owned();
                Zone::new(&app.zone).map_err(|error| anyhow!("time_zone: {error}"))?;
            }
            "time" => {
                let time: Time = value
                    .clone()
                    .try_into()
                    .map_err(|error: toml::de::Error| anyhow!("time: {}", explain(&error.to_string())))?;
                app.time = time.rules(general);
                app.week_start = time.week_start;
            }
            kind => {
                let kinds = kinds();
                let Some(info) = kinds.iter().find(|info| info.is_single && info.kind == kind) else {
                    let known = kinds.iter().filter(|info| info.is_single).map(|info| info.kind);
                    bail!(
                        "unknown key '{kind}'{}",
                        nearest(kind, known.chain(["time_zone", "time"]))
                    );
                };
                let mut merged = single.get(kind).cloned().unwrap_or_default();
                merged.extend(single_keys(kind, Some(value.clone()))?);
                let body = (info.complete)("", merged)
                    .map_err(|error| anyhow!("{kind}: {}", explain(&error.to_string())))?;
                app.overrides.insert(kind.to_owned(), body);
            }
        }
    }
    Ok(app)
}

fn to_json(value: toml::Value) -> Result<Value> {
    serde_json::to_value(value).context("the configuration holds a value that is none")
}
