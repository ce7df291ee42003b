//! A deterministic simulation: real partitions, owners, starts, the real writer and the real snapshots, over models of
//! the log, of ClickHouse and of the place for snapshots, in one thread and without real time. A schedule, made from a
//! seed, says what happens next; when all has come to rest, the numbers must be those of the log.

mod check;
mod clickhouse;
mod log;
mod process;
mod schedule;
mod shrink;
mod store;
mod world;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::time::Instant;

use cambium_engine::{Bug, switch_on};
use cambium_pipeline::StartError;
use fastrand::Rng;

use self::schedule::{Step, schedule};
use self::shrink::shrink;
use self::world::{Seen, World};

const SCHEDULES: u64 = 1000;
/// Every so many schedules one is run twice, to the same bytes.
const TWICE: u64 = 10;

/// So many are told of at most.
const MOST_FAILURES: usize = 3;

/// A schedule that went wrong, and how.
struct Failure {
    seed: u64,
    steps: Vec<Step>,
    message: String,
}

/// Lives through the steps; what was written on the way, and what came about.
fn run(seed: u64, steps: &[Step]) -> Result<(u64, Seen), String> {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(seed);
        steps.iter().for_each(|step| world.happen(*step));
        world.check_claims();
        world.rest();
        world.check();
        world.seen.pasts_taken = world.pasts.len();
        world.seen.lossy = usize::from(world.is_lossy);
        (world.digest(), world.seen)
    }));
    outcome.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_default()
    })
}

fn steps_of(seed: u64) -> Vec<Step> {
    schedule(&mut Rng::with_seed(seed ^ 0x5ced))
}

fn run_seed(seed: u64) -> Result<Seen, Failure> {
    let steps = steps_of(seed);
    let failure = |message| Failure {
        seed,
        steps: steps.clone(),
        message,
    };
    let (digest, seen) = run(seed, &steps).map_err(failure)?;
    if seed.is_multiple_of(TWICE) {
        let (again, _) = run(seed, &steps).map_err(failure)?;
        if digest != again {
            return Err(failure("two runs differ".to_owned()));
        }
    }
    Ok(seen)
}

/// Without the messages of panics that are caught here anyway.
fn quietly<R>(work: impl FnOnce() -> R) -> R {
    thread_local! {
        static IS_QUIET: Cell<bool> = const { Cell::new(false) };
    }
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let told = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !IS_QUIET.get() {
                told(panic);
            }
        }));
    });
    IS_QUIET.set(true);
    let done = work();
    IS_QUIET.set(false);
    done
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[test]
fn schedules_end_in_the_truth() {
    let seeds = match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => {
            let from = number("FROM").unwrap_or(0);
            from..from + number("SCHEDULES").unwrap_or(SCHEDULES)
        }
    };
    let (begun, count) = (Instant::now(), seeds.end - seeds.start);
    let mut seen = Seen::default();
    let mut failures = Vec::new();
    for seed in seeds {
        match quietly(|| run_seed(seed)) {
            Ok(one) => seen.add(&one),
            Err(failure) => failures.push(failure),
        }
        if failures.len() == MOST_FAILURES {
            break;
        }
    }
    let failures: Vec<String> = failures.into_iter().map(told).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    let a_second = count as f64 / begun.elapsed().as_secs_f64();
    println!("{count} schedules, {a_second:.1} a second: {seen:?}");
}

/// A failure with the fewest steps that still fail.
fn told(failure: Failure) -> String {
    let Failure { seed, steps, message } = failure;
    let differs = message == "two runs differ";
    let steps = quietly(|| {
        shrink(steps, |fewer| match (run(seed, fewer), differs) {
            (Err(_), _) => !differs,
            (Ok((digest, _)), true) => run(seed, fewer).is_ok_and(|(again, _)| again != digest),
            (Ok(_), false) => false,
        })
    });
    let mut text = format!(
        "seed {seed} failed: {message}\nSEED={seed} cargo test -p cambium-tests --test all -- crash\nfewest steps:\n"
    );
    for step in &steps {
        text += &format!("  {step:?}\n");
    }
    if let Err(message) = quietly(|| run(seed, &steps)) {
        text += &format!("which end in: {message}");
    }
    text
}

/// Schedules that once went wrong, with the fewest steps that did.
#[test]
fn what_was_mended_stays_so() {
    let take = |process, partition| Step::Take { process, partition };
    let append = |records| Step::Append { records };
    let read = |owner, records| Step::Read {
        owner,
        records,
        again: 0,
    };
    let pass = |process, ms| Step::Pass { process, ms };
    let recreate = |asleep| Step::Recreate { asleep };
    let tick = |owner| Step::Tick { owner };
    // It had gone on over the new log, and ended before its first snapshot there: the next start has to accept once
    // more, and what was journaled in between holds where it held.
    let accepted_twice = vec![
        append(7),
        recreate(0),
        Step::Configure,
        take(2, 0),
        append(7),
        read(0, 5),
        pass(2, 60),
        tick(0),
        pass(2, 60),
        Step::Configure,
    ];
    // An owner of the earlier log, under an earlier setup, leaves its snapshot when the journal is at the new log.
    let late_snapshot = vec![
        take(0, 0),
        Step::Configure,
        append(7),
        read(6, 8),
        recreate(1),
        recreate(0),
        append(6),
        append(11),
    ];
    // Sessions are written, and not yet which partition their origin is of.
    let origin_missing = vec![
        take(0, 0),
        append(2),
        read(2, 9),
        Step::TroubleInserts {
            troubled: 60,
            seed: 2_037_854_722_958_012_243,
        },
        pass(0, 60),
        tick(4),
        pass(0, 15),
        Step::Configure,
        Step::Configure,
    ];
    // A row that a setup would enter before the last event of.
    let row_of_later_event = vec![
        append(8),
        append(7),
        take(0, 1),
        read(3, 8),
        Step::Configure,
        pass(0, 60),
        tick(0),
        Step::TroubleInserts {
            troubled: 20,
            seed: 16_266_028_164_835_251_314,
        },
        pass(0, 60),
        Step::Configure,
    ];
    // A device becomes a user's after the day was over that it was counted on.
    let linked_when_settled = vec![append(11), append(6), append(8)];
    for (seed, steps) in [
        (50_001_781, linked_when_settled),
        (20_004_150, row_of_later_event),
        (199, accepted_twice),
        (2_000_620, late_snapshot),
        (3_000_166, origin_missing),
    ] {
        if let Err(message) = quietly(|| run(seed, &steps)) {
            panic!("seed {seed}: {message}");
        }
    }
}

#[test]
fn a_state_does_not_begin_anew_while_another_owner_goes_on() {
    let mut world = World::new(0);
    for step in [
        Step::Append { records: 20 },
        Step::Take {
            process: 0,
            partition: 0,
        },
        Step::Read {
            owner: 0,
            records: 9,
            again: 0,
        },
        Step::Pass {
            process: 0,
            ms: 90_000,
        },
    ] {
        world.happen(step);
    }
    // A few of its users settle with each.
    for _ in 0..5 {
        world.happen(Step::Tick { owner: 0 });
        world.happen(Step::Pass {
            process: 0,
            ms: 90_000,
        });
    }
    world.clear_snapshots(0);
    world.logs[0].truncate(5);
    world.clickhouse.lock().counted_elsewhere = Some(0);
    let refused = world.try_to_take(1, 0, true).unwrap_err();
    let refused = refused.downcast_ref::<StartError>();
    assert!(
        matches!(refused, Some(StartError::CountedElsewhere { .. })),
        "{refused:?}"
    );
    world.clickhouse.lock().counted_elsewhere = None;
    world.try_to_take(1, 0, true).unwrap();
}

/// Within so many schedules, those that run anyway, each deliberate bug is found.
const FOUND_WITHIN: u64 = 500;

#[test]
fn each_deliberate_bug_is_found() {
    let only = std::env::var("BUG").ok();
    let asked = |bug: &&Bug| only.as_ref().is_none_or(|only| *only == format!("{bug:?}"));
    let mut unseen = Vec::new();
    for bug in Bug::ALL.iter().filter(asked) {
        let found = quietly(|| (0..FOUND_WITHIN).find_map(|seed| failure_with(*bug, seed)));
        switch_on(None);
        match found {
            Some(Failure { seed, message, .. }) => {
                let message = message.lines().next().unwrap_or_default().to_owned();
                println!("{bug:?}: found by seed {seed}: {message:.100}");
            }
            None => unseen.push(bug),
        }
    }
    assert!(unseen.is_empty(), "{unseen:?} are not found");
}

fn failure_with(bug: Bug, seed: u64) -> Option<Failure> {
    switch_on(Some(bug));
    run_seed(seed).err()
}
