//! Two partitions on two threads, against the same two one after the other.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use cambium_benches::packed::{Packed, count};
use cambium_benches::traffic::{EVENTS_PER_SECOND, Encoding, Settings, Traffic};
use cambium_benches::{CONFIGURATION, partition_of};

const EVENTS: u64 = 1_000_000;
/// The best of so many: whatever else the machine does can only slow it down.
const ROUNDS: usize = 3;

pub fn measure(encoding: Encoding) -> Result<()> {
    let settings = Settings {
        seed: 11,
        events: EVENTS,
        users: 200_000,
        events_per_second: EVENTS_PER_SECOND,
        end_ms: 1_700_000_000_000,
    };
    let mut halves = [Packed::default(), Packed::default()];
    for behaviour in Traffic::new(settings) {
        halves[behaviour.user as usize % 2].push(&behaviour, encoding);
    }
    let (mut alone, mut together) = (Duration::MAX, Duration::MAX);
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        for half in &halves {
            run(half, encoding)?;
        }
        alone = alone.min(begun.elapsed());
        let begun = Instant::now();
        std::thread::scope(|scope| {
            let threads = halves.each_ref().map(|half| scope.spawn(|| run(half, encoding)));
            threads.into_iter().try_for_each(|thread| {
                let ran = thread.join();
                ran.map_err(|_| anyhow!("a partition's thread panicked"))?
            })
        })?;
        together = together.min(begun.elapsed());
    }
    let a_second = |took: Duration| EVENTS as f64 / took.as_secs_f64() / 1000.0;
    println!("two partitions of {EVENTS} events, {}:", encoding.name());
    println!("  on one thread    {:>8.0} k events/s", a_second(alone));
    println!("  on two threads   {:>8.0} k events/s", a_second(together));
    println!(
        "  two against one  {:>8.2}",
        alone.as_secs_f64() / together.as_secs_f64()
    );
    Ok(())
}

fn run(records: &Packed, encoding: Encoding) -> Result<()> {
    let mut partition = partition_of(CONFIGURATION, encoding.format())?;
    count(&mut partition, records)
}
