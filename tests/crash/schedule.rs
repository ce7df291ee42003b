//! What happens to a world, step by step, made from a seed.

use fastrand::Rng;

use super::store::Lists;

/// One thing that happens. Which process or owner it happens to is a number that wraps around those there are, so that
/// a step means something whatever was left out before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The log takes the next records.
    Append {
        records: usize,
    },
    /// An owner takes the next records.
    Read {
        owner: usize,
        records: usize,
        /// So many are handed over that it took before.
        again: usize,
    },
    Tick {
        owner: usize,
    },
    /// A process works on, or has slept, for so long.
    Pass {
        process: usize,
        ms: u64,
    },
    /// A process takes a partition, whoever else believes to own it.
    Take {
        process: usize,
        partition: usize,
    },
    /// An owner gives its partition up in order.
    GiveUp {
        owner: usize,
    },
    Crash {
        process: usize,
    },
    /// From now on so many of 100 inserts end otherwise than they should.
    TroubleInserts {
        troubled: u8,
        seed: u64,
    },
    /// ClickHouse is away, or back.
    Outage {
        is_away: bool,
    },
    /// Inserts arrive that were given up long ago.
    Arrive {
        inserts: usize,
    },
    /// From now on so many of 100 snapshots end otherwise than they should.
    TroubleSnapshots {
        troubled: u8,
        seed: u64,
    },
    /// From now on snapshots are listed so.
    List {
        lists: Lists,
    },
    /// All snapshots of a partition are gone; its journal is not.
    LoseSnapshots {
        partition: usize,
    },
    /// The log forgets what lies before the newest snapshot.
    Truncate {
        partition: usize,
    },
    /// All comes to rest, and the topic is created again. So many processes sleep through it.
    Recreate {
        asleep: usize,
    },
    /// The next setup is there for those who start from now on; who counts already goes on under the one before.
    Configure,
    /// Definitions that were added are counted beside from the beginning, for one partition; the process that does it may
    /// end on the way.
    GivePast {
        process: usize,
        partition: usize,
        is_cut_off: bool,
    },
    /// Somebody asks to be forgotten.
    Forget,
    /// The topic gets one more partition.
    Grow,
    /// Somebody asks how far the numbers are, and whether they are.
    Ask,
}

/// Between a flush and the next, a little, much, and far more than anything waits.
const PAUSES_MS: [u64; 7] = [1, 4, 15, 60, 250, 1100, 90_000];

pub fn schedule(random: &mut Rng) -> Vec<Step> {
    let steps = random.usize(40..120);
    let first = [0, 1].map(|process| Step::Take {
        process,
        partition: process,
    });
    let more = (0..steps).map(|_| step(random));
    first.into_iter().chain(more).collect()
}

fn step(random: &mut Rng) -> Step {
    let (owner, process, partition) = (random.usize(..8), random.usize(..3), random.usize(..3));
    let troubled = [0, 0, 20, 60][random.usize(..4)];
    let seed = random.u64(..);
    match random.u8(..100) {
        0..12 => Step::Append {
            records: random.usize(1..12),
        },
        12..35 => Step::Read {
            owner,
            records: random.usize(1..10),
            again: random.usize(..12).saturating_sub(9),
        },
        56 | 57 if seed.is_multiple_of(2) => Step::GivePast {
            process,
            partition,
            is_cut_off: seed.is_multiple_of(4),
        },
        54 | 55 if seed % 8 == 1 => Step::Forget,
        35..58 => Step::Tick { owner },
        58..76 => Step::Pass {
            process,
            ms: PAUSES_MS[random.usize(..PAUSES_MS.len())],
        },
        76..82 => Step::Take { process, partition },
        82..84 => Step::GiveUp { owner },
        84..88 => Step::Crash { process },
        88..90 => Step::TroubleInserts { troubled, seed },
        90 => Step::Outage {
            is_away: random.u8(..3) == 0,
        },
        91..93 => Step::Arrive {
            inserts: random.usize(1..6),
        },
        93 | 94 => Step::TroubleSnapshots { troubled, seed },
        95 => Step::List {
            lists: [Lists::Prompt, Lists::Stale, Lists::Slow][random.usize(..3)],
        },
        96 if random.bool() => Step::LoseSnapshots { partition },
        96 => Step::Truncate { partition },
        97 if random.bool() => Step::Recreate {
            asleep: random.usize(..2),
        },
        97 if random.bool() => Step::Grow,
        97 => Step::Ask,
        _ => Step::Configure,
    }
}
