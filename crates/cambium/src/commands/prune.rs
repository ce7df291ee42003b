//! `cambium prune`: the rows of definitions that nobody sees any more are deleted.

use anyhow::Result;
use cambium_pipeline::versioned_tables;
use clap::Args;

use super::{Where, called};
use crate::config::Config;
use crate::warehouse::Warehouse;

/// Delete the rows of definitions that are hidden: those that are no longer configured, or were counted anew since.
///
/// Example: cambium prune --config cambium.toml
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    place: Where,
    /// Say what would be deleted, and delete nothing
    #[arg(long)]
    dry_run: bool,
}

/// The tables whose rows have a definition and no version.
const SETS: [&str; 3] = ["count_sets", "unique_sets", "funnel_sets"];

pub async fn run(arguments: Arguments) -> Result<()> {
    let config = Config::read(&arguments.place.config)?;
    let warehouse = Warehouse::open_for_writing(&config, &arguments.place.data).await?;
    let client = &warehouse.client;
    // What is being counted is not shown yet either.
    let query = "SELECT toString(id) AS id, app, kind, name, generation FROM called WHERE id NOT IN (SELECT id FROM shown) \
                 AND (kind, first_name, generation) NOT IN (SELECT kind, name, generation FROM definition_generations FINAL WHERE app = '' AND generation > 0) \
                 ORDER BY app, kind, name, generation";
    let mut ids = Vec::new();
    for row in client.rows(query).await? {
        let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        println!(
            "{} ({}), generation {}",
            called(&text("kind"), &text("name")),
            text("app"),
            row["generation"]
        );
        ids.push(text("id"));
    }
    if ids.is_empty() {
        println!("nothing is hidden: there is nothing to delete");
        return Ok(());
    }
    if arguments.dry_run {
        return Ok(());
    }
    let ids = ids.join(", ");
    let versioned = versioned_tables();
    let of_definition = versioned.iter().chain(&SETS).map(|table| (*table, "definition"));
    // What says which rows they are is deleted last: cut off before, the next try finds the rest.
    let by_id = ["origin_rows", "definition_states", "definition_rows"].map(|table| (table, "id"));
    for (table, column) in of_definition.chain(by_id) {
        let (stored, everywhere) = (client.stored(table), client.everywhere());
        let delete = format!("DELETE FROM {stored}{everywhere} WHERE {column} IN ({ids})");
        client.execute_at_length(&delete).await?;
    }
    println!("deleted");
    Ok(())
}
