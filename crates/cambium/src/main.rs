//! The program's entry: arguments, logs, exit codes.

use std::process::ExitCode;
use std::time::Duration;

use cambium::commands;
use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

/// Users' states grow a little with every event: an allocator made for many small pieces saves a tenth of the time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Real-time numbers for product operations: behaviour events from Kafka to ClickHouse, exactly once.
#[derive(Parser, Debug)]
#[command(version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Demo(commands::demo::Arguments),
    Run(commands::run::Arguments),
    Replay(commands::replay::Arguments),
    Alerts(commands::alerts::Arguments),
    Check(commands::check::Arguments),
    Plan(commands::plan::Arguments),
    Prune(commands::prune::Arguments),
    Forget(commands::forget::Arguments),
    Export(commands::export::Arguments),
    Rekey(commands::rekey::Arguments),
    Generate(commands::generate::Arguments),
    Query(commands::query::Arguments),
    Send(commands::send::Arguments),
    User(commands::user::Arguments),
    Clickhouse(commands::clickhouse::Arguments),
}

pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_env("CAMBIUM_LOG").unwrap_or_else(|_| {
        // The demo's screen is its own; `replay` and the others speak for themselves.
        EnvFilter::new(if matches!(cli.command, Command::Run(_)) {
            "info"
        } else {
            "warn"
        })
    });
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_writer(std::io::stderr);
    if std::env::var("CAMBIUM_LOG_FORMAT").is_ok_and(|format| format == "json") {
        logs.json().init()
    } else {
        logs.init()
    }
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            // What is wrong with the configuration was found before anything was done.
            let is_configuration = error
                .chain()
                .any(|cause| cause.is::<cambium::config::ConfigError>());
            ExitCode::from(if is_configuration { 2 } else { 1 })
        }
    }
}

/// For work that cannot be interrupted, such as a question to a broker.
const LAST_CHANCE: Duration = Duration::from_secs(3);

fn run(cli: Cli) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        match cli.command {
            Command::Demo(arguments) => commands::demo::run(arguments).await,
            Command::Run(arguments) => commands::run::run(arguments).await,
            Command::Replay(arguments) => commands::replay::run(arguments).await,
            Command::Query(arguments) => commands::query::run(arguments).await,
            Command::Alerts(arguments) => commands::alerts::run(arguments).await,
            Command::Check(arguments) => commands::check::run(arguments).await,
            Command::Plan(arguments) => commands::plan::run(arguments).await,
            Command::Prune(arguments) => commands::prune::run(arguments).await,
            Command::Forget(arguments) => commands::forget::run(arguments).await,
            Command::Export(arguments) => commands::export::run(arguments).await,
            Command::Rekey(arguments) => commands::rekey::run(arguments).await,
            Command::Generate(arguments) => commands::generate::run(arguments).await,
            Command::Send(arguments) => {
                tokio::task::spawn_blocking(|| commands::send::run(arguments)).await?
            }
            Command::User(arguments) => commands::user::run(arguments),
            Command::Clickhouse(arguments) => commands::clickhouse::run(arguments).await,
        }
    });
    // A broker that does not answer is not waited for.
    runtime.shutdown_timeout(LAST_CHANCE);
    ended
}
