//! How long a partition with many users takes from its snapshot to its next record.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use cambium::Processors;
use cambium_benches::machine::peak_memory;
use cambium_benches::packed::{Packed, count};
use cambium_benches::traffic::{Behaviour, Encoding};
use cambium_benches::{CONFIGURATION, partition_of};
use cambium_engine::{HashKey, Partition, Topic};
use cambium_snapshots::{Snapshots, Store};

const HOUR_MS: i64 = 3_600_000;
const START_MS: i64 = 1_700_000_000_000;
const PIECE: usize = 100_000;

pub fn measure(encoding: Encoding, users: u32) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let made = make(directory.path(), encoding, users, &runtime)?;
    println!("restart with {users} users, {}:", encoding.name());
    println!(
        "  captured in {:.2} s, published in {:.1} s",
        made.captured, made.published
    );
    let stored = size_of(directory.path())?;
    println!(
        "  snapshot: {:.0} MB, {:.0} bytes a user",
        stored as f64 / 1e6,
        stored as f64 / f64::from(users)
    );

    let begun = Instant::now();
    let (loaded, passed_over) = runtime.block_on(snapshots(directory.path())?.load(|_| Ok(())))?;
    ensure!(passed_over.is_empty(), "{passed_over:?}");
    let loaded = loaded.context("there is no snapshot")?;
    let read = begun.elapsed();
    let mut partition: Partition<Processors> =
        Partition::restore(&loaded.head, loaded.users, HashKey::default())?;
    let restored = begun.elapsed();
    let mut next = Packed::default();
    next.push(&Behaviour::first(0, START_MS + 25 * HOUR_MS), encoding);
    count(&mut partition, &next)?;
    let live = begun.elapsed();
    ensure!(
        partition.users() == users as usize,
        "{} users came back",
        partition.users()
    );
    println!(
        "  live after {:.2} s: {:.2} s to read and merge, {:.2} s to restore",
        live.as_secs_f64(),
        read.as_secs_f64(),
        (restored - read).as_secs_f64()
    );
    println!(
        "  peak memory, making the snapshot too: {:.0} MB",
        peak_memory(std::process::id())? as f64 / 1e6
    );
    Ok(())
}

/// In seconds.
struct Made {
    captured: f64,
    published: f64,
}

/// A partition whose users came within a day, saved as `cambium run` saves it.
fn make(directory: &Path, encoding: Encoding, users: u32, runtime: &tokio::runtime::Runtime) -> Result<Made> {
    let mut partition = partition_of(CONFIGURATION, encoding.format())?;
    let mut piece = Packed::default();
    for user in 0..users {
        let time_ms = START_MS + i64::from(user) * 24 * HOUR_MS / i64::from(users);
        piece.push(&Behaviour::first(user, time_ms), encoding);
        if piece.len() == PIECE || user == users - 1 {
            count(&mut partition, &std::mem::take(&mut piece))?;
        }
    }
    let begun = Instant::now();
    let capture = partition.capture()?;
    let captured = begun.elapsed().as_secs_f64();
    drop(partition);
    let begun = Instant::now();
    let mut snapshots = snapshots(directory)?;
    let publication = snapshots.prepare(capture)?;
    runtime.block_on(snapshots.publish(&publication))?;
    Ok(Made {
        captured,
        published: begun.elapsed().as_secs_f64(),
    })
}

fn snapshots(directory: &Path) -> Result<Snapshots> {
    let topic = Topic {
        name: "events".to_owned(),
        partition: 0,
    };
    Ok(Store::directory(directory)?.partition(&topic, 1))
}

/// Bytes of all files below a directory.
fn size_of(directory: &Path) -> Result<u64> {
    let mut size = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let known = entry.metadata()?;
        size += if known.is_dir() {
            size_of(&entry.path())?
        } else {
            known.len()
        };
    }
    Ok(size)
}
