//! `cambium alerts run`: evaluates the rules, beside whoever consumes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use clap::Args;

use crate::commands::{Where, interrupted, run};
use crate::config::Config;
use crate::http;

/// Evaluate the rules for ever, and tell the channels. `cambium run` does so too; of several processes one
/// evaluates, and another takes over when it ends. Each serves metrics on its own `[http] listen`.
///
/// Example: cambium alerts run --config cambium.toml
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    place: Where,
}

pub async fn run(arguments: Arguments) -> Result<()> {
    let config = Config::read(&arguments.place.config)?;
    let watching = config.watching()?;
    let stop = Arc::new(AtomicBool::new(false));
    let warehouse = tokio::select! {
        opened = run::open(&config, &arguments.place.data) => opened?,
        () = interrupted() => return Ok(()),
    };
    let watched = stop.clone();
    tokio::spawn(async move {
        interrupted().await;
        watched.store(true, Ordering::Relaxed);
    });
    let has_joined = Arc::new(AtomicBool::new(false));
    let joined = has_joined.clone();
    let missing = move || {
        let has_joined = joined.load(Ordering::Relaxed);
        (!has_joined).then_some("the alerts' journal is not joined yet")
    };
    http::serve(&config.http.listen, missing).await?;
    cambium_notify::run(watching, warehouse.client.clone(), stop, has_joined).await
}
