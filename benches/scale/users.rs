//! What an event costs by how many users are known: the same traffic of the same people, over a state of others who
//! were there two days ago.

use std::time::Instant;

use anyhow::Result;
use cambium::Processors;
use cambium_benches::packed::{Packed, count};
use cambium_benches::traffic::{Behaviour, EVENTS_PER_SECOND, Encoding, Settings, Traffic};
use cambium_benches::{CONFIGURATION, partition_of};
use cambium_engine::Partition;

const KNOWN: [u32; 3] = [10_000, 100_000, 1_000_000];
const KNOWN_WITH_PATIENCE: u32 = 10_000_000;
/// Who is active; all of them are known.
const ACTIVE: u32 = 10_000;
const EVENTS: u64 = 500_000;
const LASTS_MS: i64 = (EVENTS as f64 / EVENTS_PER_SECOND * 1000.0) as i64;
const HOUR_MS: i64 = 3_600_000;
const START_MS: i64 = 1_700_000_000_000;
/// Records that stand in memory at once while users become known.
const PIECE: usize = 100_000;

pub fn measure(encoding: Encoding, full: bool) -> Result<()> {
    println!(
        "ns an event by known users, of whom {ACTIVE} are active, {}:",
        encoding.name()
    );
    let all = KNOWN.into_iter().chain(full.then_some(KNOWN_WITH_PATIENCE));
    for known in all {
        let mut partition = partition_of(CONFIGURATION, encoding.format())?;
        introduce(&mut partition, known, encoding)?;
        let warm_up = traffic(1, START_MS + 80 * HOUR_MS, encoding);
        // Right behind, so that who is at rest by then is not part of it.
        let measured = traffic(2, START_MS + 80 * HOUR_MS + LASTS_MS, encoding);
        count(&mut partition, &warm_up)?;
        let begun = Instant::now();
        count(&mut partition, &measured)?;
        let each = begun.elapsed().as_nanos() as f64 / measured.len() as f64;
        println!("  {known:>10} users {each:>8.0} ns");
    }
    Ok(())
}

fn traffic(seed: u64, end_ms: i64, encoding: Encoding) -> Packed {
    let settings = Settings {
        seed,
        events: EVENTS,
        users: ACTIVE,
        events_per_second: EVENTS_PER_SECOND,
        end_ms,
    };
    Packed::of(Traffic::new(settings), encoding)
}

/// Everybody comes once within a day; three days later all are cold.
pub fn introduce(partition: &mut Partition<Processors>, known: u32, encoding: Encoding) -> Result<()> {
    let mut piece = Packed::default();
    for user in 0..known {
        let time_ms = START_MS + i64::from(user) * 24 * HOUR_MS / i64::from(known);
        piece.push(&Behaviour::first(user, time_ms), encoding);
        if piece.len() == PIECE {
            count(partition, &std::mem::take(&mut piece))?;
        }
    }
    // A state lays users aside while it is captured, some of them each hour.
    for hour in 72..76 {
        piece.push(&Behaviour::first(0, START_MS + hour * HOUR_MS), encoding);
        count(partition, &std::mem::take(&mut piece))?;
        drop(partition.capture()?);
    }
    Ok(())
}
