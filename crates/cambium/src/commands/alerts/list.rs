//! `cambium alerts list`: what is out of the ordinary.

use anyhow::Result;
use clap::Args;

use crate::commands::{Where, query};
use crate::config::Config;
use crate::warehouse::Warehouse;

/// List the alerts that are on, newest first.
///
/// Example: cambium alerts list --config cambium.toml --all
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    place: Where,
    /// Those that are over too
    #[arg(long)]
    all: bool,
}

pub async fn run(arguments: Arguments) -> Result<()> {
    let config = Config::read(&arguments.place.config)?;
    let warehouse = Warehouse::open(&config, &arguments.place.data).await?;
    let which = if arguments.all {
        ""
    } else {
        "WHERE state != 'resolved'"
    };
    let sql = format!(
        "SELECT id, rule, slice, state, severity, round(value, 4) AS value, round(expected, 4) AS expected, \
         formatDateTime(started_at, '%F %T') AS started, ifNull(formatDateTime(resolved_at, '%F %T'), '') AS resolved \
         FROM alerts {which} ORDER BY started_at DESC LIMIT 1000"
    );
    let answer = warehouse
        .client
        .fetch(&sql, "JSONCompactStringsEachRowWithNames")
        .await?;
    println!("{}", query::table(&answer)?);
    Ok(())
}
