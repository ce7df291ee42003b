//! `cambium user`: the number that stands for a user id in the views.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::config::Config;

/// Print the number that stands for a user id in the views.
///
/// Example: cambium user --config cambium.toml u1
#[derive(Args, Debug)]
pub struct Arguments {
    /// The configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The user's id, as the events have it
    id: String,
}

pub fn run(arguments: Arguments) -> Result<()> {
    let key = Config::read(&arguments.config)?.hash_key()?;
    println!("{}", key.user(&arguments.id));
    Ok(())
}
