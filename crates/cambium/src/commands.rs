//! The commands of the command line, a file each.

pub mod alerts;
pub mod check;
pub mod clickhouse;
pub mod demo;
pub mod export;
pub mod forget;
mod front;
pub mod generate;
mod past;
pub mod plan;
pub mod prune;
pub mod query;
pub mod rekey;
pub mod replay;
pub mod run;
pub mod send;
pub mod user;

use std::path::PathBuf;

use clap::Args;

/// A definition as people call it: `[counts]` and `[session]` have no name.
fn called(kind: &str, name: &str) -> String {
    if name.is_empty() {
        kind.to_owned()
    } else {
        format!("{kind} {name}")
    }
}

/// What most commands are told.
#[derive(Args, Clone, Debug)]
pub struct Where {
    /// The configuration
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Where the embedded engine, snapshots and journals live
    #[arg(long, value_name = "DIR", default_value = "./cambium-data")]
    pub data: PathBuf,
}

/// Resolves when the process is asked to end.
pub async fn interrupted() {
    let interrupt = tokio::signal::ctrl_c();
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = interrupt => {}
                _ = terminate.recv() => {}
            }
            return;
        }
    }
    let _ = interrupt.await;
}
