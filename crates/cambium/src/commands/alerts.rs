//! `cambium alerts`: rules and detectors.

pub mod ack;
pub mod list;
pub mod run;
pub mod simulate;
pub mod test;

use anyhow::Result;
use clap::{Args, Subcommand};

/// Evaluate rules, see and answer alerts, and try rules, detectors and channels.
///
/// Example: cambium alerts simulate --csv orders.csv --detector count --output -
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Run(run::Arguments),
    List(list::Arguments),
    Test(test::Arguments),
    Ack(ack::Ack),
    Silence(ack::Quieten),
    Simulate(simulate::Arguments),
}

pub async fn run(arguments: Arguments) -> Result<()> {
    match arguments.command {
        Command::Run(arguments) => run::run(arguments).await,
        Command::List(arguments) => list::run(arguments).await,
        Command::Test(arguments) => test::run(arguments).await,
        Command::Ack(arguments) => ack::ack(arguments).await,
        Command::Silence(arguments) => ack::silence(arguments).await,
        Command::Simulate(arguments) => simulate::run(arguments).await,
    }
}
