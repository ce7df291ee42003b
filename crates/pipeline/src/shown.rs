//! Which definitions the views show.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use cambium_clickhouse::Client;
use cambium_engine::{HashKey, List, Partition, Setup, Topic, quoted};

/// The generation of a definition, by its kind and name.
pub type Generations = BTreeMap<(String, String), u32>;

/// Behind what was said last, also where a clock has been set back since.
fn revision(table: &str) -> String {
    format!("greatest(toUInt64(toUnixTimestamp64Milli(now64(3))), 1 + (SELECT max(revision) FROM {table}))")
}

/// Lets the views show the definitions that are configured, and no others; which generation of them is not said here.
pub async fn show_definitions<L: List>(client: &Client, setup: &Setup, key: HashKey) -> Result<()> {
    let topic = Topic {
        name: String::new(),
        partition: 0,
    };
    let mut partition: Partition<L> = Partition::new(topic, 0, 0, setup.clone(), key)?;
    let mut configured: BTreeMap<String, Vec<(String, String, String)>> = BTreeMap::new();
    let mut changes = Vec::new();
    let query = "SELECT id, kind, name, app, text, id NOT IN (SELECT id FROM definition_states FINAL WHERE NOT shown) AS shown \
                 FROM definition_rows FINAL";
    for row in client.rows(query).await? {
        let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        let app = text("app");
        if !configured.contains_key(&app) {
            let definitions = partition.definitions_of(&app)?.into_iter();
            let texts = definitions.map(|one| (one.kind.to_owned(), one.name, one.text));
            configured.insert(app.clone(), texts.collect());
        }
        let id = row["id"].as_u64().unwrap_or_default();
        let is_configured = configured[&app].contains(&(text("kind"), text("name"), text("text")));
        if (row["shown"].as_u64() == Some(1)) != is_configured {
            changes.push(format!("({id}, {is_configured})"));
        }
    }
    if changes.is_empty() {
        return Ok(());
    }
    let insert = format!(
        "INSERT INTO definition_states SELECT id, {}, shown FROM values('id UInt64, shown Bool', {})",
        revision("definition_states"),
        changes.join(", ")
    );
    client
        .execute(&insert)
        .await
        .context("which definitions are shown cannot be written down")
}

/// A definition that is called otherwise than when it was counted first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renamed {
    pub kind: String,
    /// The name that its rows have, and keep.
    pub was: String,
    /// Empty: all apps.
    pub apps: Vec<String>,
    pub name: String,
}

/// Lets the views show definitions under these names, and all others under those that they were counted under.
pub async fn show_names(client: &Client, renamed: &[Renamed]) -> Result<()> {
    let mut wanted = BTreeMap::new();
    for one in renamed {
        let all = [String::new()];
        let apps = if one.apps.is_empty() { &all[..] } else { &one.apps };
        for app in apps {
            let key = (one.kind.clone(), one.was.clone(), app.clone());
            wanted.insert(key, one.name.clone());
        }
    }
    let query = "SELECT kind, name, app, called FROM definition_names FINAL WHERE called != ''";
    let mut changes = Vec::new();
    let mut change = |(kind, name, app): &(String, String, String), called: &str| {
        let values = [kind, name, app, called].map(quoted).join(", ");
        changes.push(format!("({values})"));
    };
    for row in client.rows(query).await? {
        let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        let key = (text("kind"), text("name"), text("app"));
        match wanted.remove(&key) {
            Some(called) if called == text("called") => {}
            called => change(&key, &called.unwrap_or_default()),
        }
    }
    wanted.iter().for_each(|(key, called)| change(key, called));
    if changes.is_empty() {
        return Ok(());
    }
    let insert = format!(
        "INSERT INTO definition_names SELECT kind, name, app, {}, called FROM values('kind String, name String, app String, called \
         String', {})",
        revision("definition_names"),
        changes.join(", ")
    );
    let put = client.execute(&insert).await;
    put.context("what definitions are called cannot be written down")
}

/// The generations in which a topic's definitions are counted, but for those that nobody sees yet.
pub async fn counted_generations(client: &Client, topic: &str) -> Result<Generations> {
    let of_topic = format!(
        "WHERE id IN (SELECT id FROM origin_rows WHERE topic = {}) AND (kind, name, generation) NOT IN \
         (SELECT kind, name, generation FROM definition_generations FINAL WHERE app = '' AND generation > 0)",
        quoted(topic)
    );
    generations(client, &of_topic).await
}

/// The highest generation of each definition that was ever counted.
pub async fn highest_generations(client: &Client) -> Result<Generations> {
    generations(client, "").await
}

async fn generations(client: &Client, filter: &str) -> Result<Generations> {
    let query = format!(
        "SELECT kind, name, max(generation) AS highest FROM definition_rows {filter} GROUP BY kind, name"
    );
    let rows = client.rows(&query).await?;
    let generations = rows.iter().filter_map(|row| {
        let name = (row["kind"].as_str()?.to_owned(), row["name"].as_str()?.to_owned());
        Some((name, row["highest"].as_u64()? as u32))
    });
    Ok(generations.collect())
}

/// Generations that are being counted: nobody sees them until they are shown.
pub async fn hide_generations(client: &Client, generations: &Generations) -> Result<()> {
    let under_way = generations.iter().map(|((kind, name), generation)| {
        format!(
            "SELECT {} AS kind, {} AS name, '' AS app, {generation} AS generation",
            quoted(kind),
            quoted(name)
        )
    });
    put_generations(client, &under_way.collect::<Vec<_>>().join(" UNION ALL ")).await
}

/// Switches to these generations of definitions, of all and of all apps that have them at one moment.
pub async fn show_generations(client: &Client, generations: &Generations) -> Result<()> {
    let these = generations.iter().map(|((kind, name), generation)| {
        let (kind, name) = (quoted(kind), quoted(name));
        format!(
            "SELECT {kind} AS kind, {name} AS name, '' AS app, 0 AS generation UNION ALL \
             SELECT DISTINCT {kind}, {name}, toString(app), {generation} FROM definition_rows \
             WHERE kind = {kind} AND name = {name} AND generation = {generation}"
        )
    });
    put_generations(client, &these.collect::<Vec<_>>().join(" UNION ALL ")).await
}

async fn put_generations(client: &Client, select: &str) -> Result<()> {
    let insert = format!(
        "INSERT INTO definition_generations (kind, name, app, revision, generation) \
         SELECT kind, name, app, {}, generation FROM ({select})",
        revision("definition_generations")
    );
    client
        .execute(&insert)
        .await
        .context("which generations are shown cannot be written down")
}

/// Which apps of a topic are counted from other logs too, by the same definitions: what is shown of those would change
/// with them.
pub async fn counted_elsewhere(
    client: &Client,
    topic: &str,
    only: &[(String, String)],
) -> Result<Vec<(String, String)>> {
    let names = only
        .iter()
        .map(|(kind, name)| format!("({}, {})", quoted(kind), quoted(name)));
    let of = |comparison: &str| {
        format!(
            "SELECT app, topic FROM origin_rows AS o INNER JOIN (SELECT id, app FROM shown WHERE (kind, first_name) IN ({})) \
             AS s USING (id) WHERE topic {comparison} {}",
            names.clone().collect::<Vec<_>>().join(", "),
            quoted(topic)
        )
    };
    let query = format!(
        "SELECT DISTINCT app, topic FROM ({}) WHERE app IN (SELECT app FROM ({})) ORDER BY app, topic",
        of("!="),
        of("=")
    );
    let rows = client.rows(&query).await?;
    let found = rows
        .iter()
        .filter_map(|row| Some((row["app"].as_str()?.to_owned(), row["topic"].as_str()?.to_owned())));
    Ok(found.collect())
}
