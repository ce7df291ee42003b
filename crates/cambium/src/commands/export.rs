//! `cambium export`: everything that is held of a person.

use anyhow::Result;
use cambium_clickhouse::{Client, tables_with};
use cambium_engine::quoted;
use clap::Args;
use serde_json::json;

use super::Where;
use crate::config::Config;
use crate::warehouse::Warehouse;

/// Print everything that is held of a person, as lines of JSON: the rows that are theirs, and which snapshots know them.
///
/// Example: cambium export --config cambium.toml u1
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    place: Where,
    /// Their id, as the events have it
    #[arg(value_name = "USER")]
    id: String,
}

/// The tables whose rows are one user's.
pub(super) fn keyed_by_user() -> Vec<&'static str> {
    tables_with(&["user"])
}

/// Those that a query of its own tells of.
const TOLD: [&str; 3] = ["session_rows", "funnel_rows", "event_rows"];

pub async fn run(arguments: Arguments) -> Result<()> {
    let config = Config::read(&arguments.place.config)?;
    let warehouse = Warehouse::open_for_writing(&config, &arguments.place.data).await?;
    let client = &warehouse.client;
    let user = config.hash_key()?.user(&arguments.id);
    let id = &arguments.id;
    let store = Warehouse::store(&config, &arguments.place.data)?;
    let is_forgotten = store.forgotten().await?.binary_search(&user).is_ok();
    println!(
        "{}",
        json!({ "id": id, "user": user, "is_forgotten": is_forgotten })
    );
    let of_funnels = format!(
        "SELECT app, name AS funnel, bucket, arrayMap(bit -> bit + 1, bitPositionsToArray(steps)) AS steps, \
         platform, app_version, channel, campaign, country, properties FROM funnel_rows AS f FINAL \
         INNER JOIN (SELECT id, name FROM called) AS c ON f.definition = c.id WHERE user = {user} ORDER BY funnel, bucket"
    );
    for (view, query) in [
        (
            "sessions",
            format!("SELECT * FROM sessions WHERE user = {user} ORDER BY started_at"),
        ),
        ("funnels", of_funnels),
        (
            "events",
            format!("SELECT * FROM events WHERE user = {user} ORDER BY time"),
        ),
        (
            "rejected_events",
            format!(
                "SELECT * FROM rejected_events WHERE {} ORDER BY at",
                speaks_of(id)
            ),
        ),
    ] {
        print_rows(client, view, &query).await?;
    }
    for table in keyed_by_user().into_iter().filter(|table| !TOLD.contains(table)) {
        let query = format!(
            "SELECT c.kind AS kind, c.name AS name, r.* EXCEPT (definition, origin, version, deleted) FROM {table} AS r FINAL \
             INNER JOIN (SELECT id, kind, name FROM called) AS c ON r.definition = c.id WHERE user = {user}"
        );
        print_rows(client, table, &query).await?;
    }
    for topic in store.topics().await? {
        let snapshots = store.partition(&topic, 1);
        for (snapshot, bytes) in snapshots.states_of(user).await? {
            let row = json!({ "topic": topic.name, "partition": topic.partition, "snapshot": snapshot, "bytes": bytes });
            println!("{}", json!({ "in": "snapshots", "row": row }));
        }
    }
    Ok(())
}

async fn print_rows(client: &Client, view: &str, query: &str) -> Result<()> {
    for row in client.rows_at_length(query).await? {
        println!("{}", json!({ "in": view, "row": row }));
    }
    Ok(())
}

/// Whether a rejected record's bytes hold an id, and not only as a piece of a longer one.
pub(super) fn speaks_of(id: &str) -> String {
    const OF_ID: &str = r"[^\\pL\\pN_-]";
    let id = quoted(id);
    format!("match(payload, concat('(^|{OF_ID})', regexpQuoteMeta({id}), '({OF_ID}|$)'))")
}
