//! `cambium alerts`: rules and detectors.

pub mod simulate;
pub mod test;

use anyhow::Result;
use clap::{Args, Subcommand};

/// Try detectors on a series, and channels.
///
/// Example: cambium alerts simulate --csv orders.csv --detector count --output -
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Simulate(simulate::Arguments),
    Test(test::Arguments),
}

pub async fn run(arguments: Arguments) -> Result<()> {
    match arguments.command {
        Command::Simulate(arguments) => simulate::run(arguments),
        Command::Test(arguments) => test::run(arguments).await,
    }
}
