//! How it grows: with threads, with users, with definitions; and how long a restart takes.
//!
//!     cargo bench --package cambium-benches --bench scale
//!     cargo bench --package cambium-benches --bench scale -- threads users --full
//!     cargo bench --package cambium-benches --bench scale -- restart --users 5000000
//!
//! Partitions count records that lie in memory, and their rows are thrown away: Kafka and ClickHouse are measured
//! end to end.

mod definitions;
mod restart;
mod threads;
mod users;

use anyhow::Result;
use cambium_benches::traffic::Encoding;
use clap::{Parser, ValueEnum};

/// As in `cambium`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Cli {
    /// What is measured; left out: everything
    parts: Vec<Part>,
    /// Ten million known users too, which takes some gigabytes
    #[arg(long)]
    full: bool,
    /// How many users the restarted partition has
    #[arg(long, value_name = "N", default_value_t = 5_000_000)]
    users: u32,
    /// How events are written
    #[arg(long, value_name = "FORMAT", default_value = "avro")]
    format: Encoding,
    /// As cargo says to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    Threads,
    Users,
    Definitions,
    Restart,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    let parts = if cli.parts.is_empty() {
        Part::value_variants()
    } else {
        &cli.parts
    };
    for part in parts {
        match part {
            Part::Threads => threads::measure(cli.format)?,
            Part::Users => users::measure(cli.format, cli.full)?,
            Part::Definitions => definitions::measure(cli.format)?,
            Part::Restart => restart::measure(cli.format, cli.users)?,
        }
        println!();
    }
    Ok(())
}
