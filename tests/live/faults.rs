//! What breaks, and what must happen then: the table that RELIABILITY.md shows.
//!
//! All rows share one Kafka and one ClickHouse; each has a topic, a group, a database and snapshots of its own. Most of
//! them wait for the most part, so several go on at a time.

mod brokers;
mod clocks;
mod deaths;
mod everything;
mod group;
mod proxy;
mod records;
mod registry;
mod releases;
mod shop;
mod snapshots;
mod topics;
mod truth;
mod warehouse;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::Semaphore;

use self::proxy::Mood;
use self::shop::{Measured, Shop};
use super::program;
use super::stage::Ground;

/// So many rows go on at a time.
const AT_A_TIME: usize = 8;

/// One row: what is done to a system that runs, and what must happen.
struct Fault {
    what: &'static str,
    must: &'static str,
    happens: Box<dyn FnOnce(Place) -> BoxFuture<'static, Measured> + Send>,
}

/// Where a row happens.
pub struct Place {
    ground: Arc<Ground>,
    name: String,
}

impl Place {
    /// A shop whose topic has so many partitions.
    pub async fn shop(&self, partitions: i32) -> Shop {
        self.shop_on(&self.ground.url(), partitions).await
    }

    /// The same, with a ClickHouse of its own.
    pub async fn shop_on(&self, clickhouse: &str, partitions: i32) -> Shop {
        Shop::open(&self.ground.kafka.brokers(), clickhouse, &self.name, partitions).await
    }

    /// One whose topic is there, or will be.
    pub fn shop_named(&self, name: &str) -> Shop {
        Shop::at(&self.ground.kafka.brokers(), &self.ground.url(), name)
    }
}

fn fault<H: Future<Output = Measured> + Send + 'static>(
    what: &'static str,
    must: &'static str,
    happens: impl FnOnce(Place) -> H + Send + 'static,
) -> Fault {
    Fault {
        what,
        must,
        happens: Box::new(move |place| happens(place).boxed()),
    }
}

/// The process that was killed is started again, and goes on.
const GOES_ON: &str = "the next process goes on";
const WAITS: &str = "waits, and says so";
const STOPS_AND_REFUSES: &str = "stops; a start is refused; accepted, goes on";
const GOES_ON_WITHOUT: &str = "goes on without, and says so";

fn faults() -> Vec<Fault> {
    let dies = |what, point| fault(what, GOES_ON, move |place| deaths::while_counting(place, point));
    let hands_over = |what, point| fault(what, GOES_ON, move |place| deaths::handing_over(place, point));
    let mood = |what, mood| fault(what, WAITS, move |place| warehouse::in_a_mood(place, mood));
    vec![
        // Those that take longest come first.
        fault(
            "processes, ClickHouse and the broker are killed, one after the other",
            "all wait, and go on",
            everything::at_once,
        ),
        fault(
            "the leader of three brokers is killed",
            "goes on",
            brokers::the_leader_of_three,
        ),
        fault(
            "the only broker is killed, and started again",
            WAITS,
            brokers::the_only_one,
        ),
        dies("killed before a flush is sent", "before-flush=6*off->panic"),
        dies(
            "killed between two tables' inserts",
            "between-inserts=12*off->panic",
        ),
        dies(
            "killed before an insert is acknowledged",
            "before-acknowledgement=3*off->panic",
        ),
        dies(
            "killed before `progress` is written",
            "before-progress=3*off->panic",
        ),
        dies(
            "killed after `progress` is written",
            "after-progress=3*off->panic",
        ),
        dies(
            "killed before a snapshot is captured",
            "before-capture=3*off->panic",
        ),
        dies(
            "killed before a snapshot is published",
            "before-publishing=3*off->panic",
        ),
        dies(
            "killed in the middle of writing a snapshot",
            "torn-snapshot=4*off->return;after-snapshot=4*off->panic",
        ),
        dies(
            "killed after a snapshot is written",
            "after-snapshot=4*off->panic",
        ),
        dies("killed before old snapshots are deleted", "before-deleting=panic"),
        dies(
            "killed while old snapshots are deleted",
            "while-deleting=2*off->panic",
        ),
        fault(
            "killed at the first start, before the first record",
            GOES_ON,
            deaths::at_the_start,
        ),
        hands_over(
            "killed before a partition is handed over",
            "before-hand-over=panic",
        ),
        hands_over(
            "killed when a partition is about to be given up",
            "after-hand-over=panic",
        ),
        mood("ClickHouse refuses connections", Mood::Refuses),
        mood("ClickHouse hangs", Mood::Hangs),
        mood("ClickHouse answers 500", Mood::Fails),
        mood("ClickHouse does it, and the answer is lost", Mood::LosesAnswers),
        mood(
            "ClickHouse does it, and answers when it is too late",
            Mood::Dawdles(Duration::from_secs(7)),
        ),
        fault("ClickHouse hangs at the start", WAITS, |place| {
            warehouse::in_a_mood_at_the_start(place, Mood::Hangs)
        }),
        fault("ClickHouse answers 500 at the start", WAITS, |place| {
            warehouse::in_a_mood_at_the_start(place, Mood::Fails)
        }),
        fault("ClickHouse is killed", WAITS, warehouse::killed),
        fault(
            "stopped for twice a session, then woken",
            "another takes over; it joins again",
            group::stopped_and_woken,
        ),
        fault(
            "upgraded one after the other to a release that counts otherwise, and back",
            "goes on; what begins anew is given its past",
            releases::upgraded_and_back,
        ),
        fault(
            "ten join and leave, one behind the other",
            "goes on",
            group::joins_and_leaves,
        ),
        fault(
            "the topic is deleted and created again under a process",
            STOPS_AND_REFUSES,
            topics::created_again_while_it_is_read,
        ),
        fault(
            "the same between two runs",
            "is refused; accepted, goes on",
            topics::created_again_between_runs,
        ),
        fault(
            "records are deleted that were not read yet",
            STOPS_AND_REFUSES,
            topics::records_are_deleted,
        ),
        fault(
            "partitions are added under a process",
            "stops; `rekey` leads out",
            topics::grows_while_it_is_read,
        ),
        fault(
            "partitions are added between two runs",
            "is refused",
            topics::grows_between_runs,
        ),
        fault("the snapshots' disk is full", GOES_ON_WITHOUT, snapshots::full),
        fault(
            "the snapshots' directory cannot be written",
            GOES_ON_WITHOUT,
            snapshots::read_only,
        ),
        fault(
            "the snapshots are lost",
            "counts again, the same numbers",
            snapshots::lost,
        ),
        fault(
            "the snapshots are lost, and the log's beginning",
            "is refused; accepted, goes on behind what was counted",
            snapshots::lost_with_the_beginning,
        ),
        fault(
            "the newest snapshots are torn",
            "reads on from older ones",
            snapshots::torn,
        ),
        fault(
            "the schema registry is away, and does not know a schema",
            WAITS,
            registry::is_down,
        ),
        fault(
            "one record in ten is broken, one has 5 MB, some are of 1970 or tomorrow",
            "rejects, goes on",
            records::broken,
        ),
        fault(
            "a process's clock is set back by a day",
            "goes on",
            clocks::of_the_process,
        ),
        fault(
            "ClickHouse's clock is set back by a day",
            "goes on",
            clocks::of_clickhouse,
        ),
    ]
}

/// `FAULT=hangs` lets those rows alone happen that say so.
fn is_asked_for(fault: &Fault) -> bool {
    std::env::var("FAULT").map_or(true, |asked| fault.what.contains(&asked))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn what_breaks_loses_nothing_and_counts_nothing_twice() {
    tokio::task::block_in_place(program);
    let begun = Instant::now();
    let ground = Arc::new(Ground::start().await);
    let turns = Arc::new(Semaphore::new(AT_A_TIME));
    let rows = faults().into_iter().filter(is_asked_for).enumerate();
    let rows: Vec<_> = rows
        .map(|(number, fault)| {
            let place = Place {
                ground: ground.clone(),
                name: format!("fault_{number}"),
            };
            let turns = turns.clone();
            let row = async move {
                let _turn = turns.acquire().await.unwrap();
                let begun = Instant::now();
                let measured = AssertUnwindSafe((fault.happens)(place)).catch_unwind().await;
                (measured.ok(), begun.elapsed())
            };
            (fault.what, fault.must, tokio::spawn(row))
        })
        .collect();
    let mut table = "\n| fault | what must happen | lost | counted twice | recovered after | took |\n\
                     |---|---|---|---|---|---|\n"
        .to_owned();
    let mut failed = Vec::new();
    for (what, must, row) in rows {
        let (measured, took) = row.await.unwrap();
        let told = match measured {
            None => "? | ? | never".to_owned(),
            Some(measured) => format!(
                "{} | {} | {:.1} s",
                measured.lost,
                measured.twice,
                measured.recovery.as_secs_f64()
            ),
        };
        table += &format!("| {what} | {must} | {told} | {:.0} s |\n", took.as_secs_f64());
        if !measured.is_some_and(|measured| measured.lost == 0 && measured.twice == 0) {
            failed.push(what);
        }
    }
    println!("{table}");
    println!("all of it took {:.0} s", begun.elapsed().as_secs_f64());
    assert!(failed.is_empty(), "these rows do not hold: {failed:#?}");
}
