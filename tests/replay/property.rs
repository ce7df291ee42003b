//! The property: whatever happened on the way, the views are the naive truth.

use std::collections::BTreeMap;

use cambium::Processors;
use cambium_engine::{Capture, HashKey, Partition, Rows, Setup, Topic};
use cambium_event::Record;
use cambium_simulate::{Account, LatenessChange};
use fastrand::Rng;

use super::case::{Case, HOUR, setup};
use super::check::{account, check};
use super::model::{Model, Row, number};

const CASES: u64 = 1000;

/// What the cases reached; each in at least 5 % of them.
#[derive(Debug, Default)]
pub struct Seen {
    late_events_that_join_sessions: usize,
    late_events_that_undo_a_try: usize,
    crashes: usize,
    second_owners: usize,
    devices_that_became_users: usize,
    longer_lateness: usize,
}

#[test]
fn views_are_the_naive_truth() {
    let mut seen = Seen::default();
    for seed in 0..CASES {
        // A panic names its seed: run that one alone by setting `CAMBIUM_SEED`.
        let seed = std::env::var("CAMBIUM_SEED")
            .ok()
            .and_then(|seed| seed.parse().ok())
            .unwrap_or(seed);
        let outcome = std::panic::catch_unwind(|| {
            let mut seen = Seen::default();
            run(seed, &mut seen);
            seen
        });
        match outcome {
            Ok(one) => seen.add(&one),
            Err(_) => panic!("seed {seed} failed: CAMBIUM_SEED={seed} cargo test -p cambium-tests views_are"),
        }
    }
    println!("{seen:?} in {CASES} cases");
    let least = CASES as usize / 20;
    for (what, count) in [
        (
            "late events that join sessions",
            seen.late_events_that_join_sessions,
        ),
        ("late events that undo a try", seen.late_events_that_undo_a_try),
        ("crashes", seen.crashes),
        ("second owners", seen.second_owners),
        ("devices that became users", seen.devices_that_became_users),
        ("the lateness became longer", seen.longer_lateness),
    ] {
        assert!(count >= least, "{what}: in {count} of {CASES} cases only");
    }
}

impl Seen {
    fn add(&mut self, other: &Seen) {
        self.late_events_that_join_sessions += other.late_events_that_join_sessions.min(1);
        self.late_events_that_undo_a_try += other.late_events_that_undo_a_try.min(1);
        self.crashes += other.crashes.min(1);
        self.second_owners += other.second_owners.min(1);
        self.devices_that_became_users += other.devices_that_became_users.min(1);
        self.longer_lateness += other.longer_lateness.min(1);
    }
}

fn run(seed: u64, seen: &mut Seen) {
    let (case, model, accounts) = live_through(seed, seen);
    check(&case, &model, &accounts);
}

/// Lives through one case; what ClickHouse would hold in the end.
pub fn live_through(seed: u64, seen: &mut Seen) -> (Case, Model, BTreeMap<i32, Account>) {
    let mut random = Rng::with_seed(seed);
    let mut case = Case::new(&mut random);
    let now = setup(&case.configuration);
    // Drawn aside, so that the cases of earlier seeds stay what they are.
    let mut aside = Rng::with_seed(!seed);
    let later_hours = [1, 12, 48][aside.usize(..3)];
    let later = setup(&case.with_lateness(&case.configuration, later_hours));
    let changes = aside.u8(..4) == 0;
    let mut model = Model::new();
    let mut accounts = BTreeMap::new();
    for partition in 0..case.partitions {
        let records: Vec<_> = case
            .records
            .iter()
            .filter(|record| record.partition == partition)
            .cloned()
            .collect();
        let change = aside
            .choice(&records)
            .filter(|_| changes)
            .map(|record| LatenessChange {
                partition,
                from: record.offset,
                lateness_ms: later_hours * HOUR,
            });
        seen.longer_lateness += usize::from(change.is_some_and(|to| to.lateness_ms > case.rules.lateness_ms));
        case.rules.lateness_changes.extend(change);
        let log = Log {
            topic: Topic {
                name: format!("t{seed}"),
                partition,
            },
            records,
            setup: now.clone(),
            later: change.map(|change| (change.from, later.clone())),
        };
        accounts.insert(partition, log.live(&mut random, &mut model, seen));
    }
    seen.late_events_that_join_sessions = model.sessions_gone;
    seen.late_events_that_undo_a_try = model.steps_undone;
    let of_device = |row: &&Row| row.contains_key("user") && number(row, "deleted") == 1;
    seen.devices_that_became_users = model.newest("unique_device_rows").filter(of_device).count();
    (case, model, accounts)
}

/// A published state: what a restart may begin from.
#[derive(Clone, Default)]
struct Published {
    position: i64,
    head: Vec<u8>,
    users: BTreeMap<(u32, u64), Vec<u8>>,
}

struct Log {
    topic: Topic,
    records: Vec<cambium_simulate::Record>,
    setup: Setup,
    /// From an offset on.
    later: Option<(i64, Setup)>,
}

impl Log {
    fn begin(&self, from: &Published) -> Partition<Processors> {
        if from.head.is_empty() {
            return Partition::new(self.topic.clone(), 0, 0, self.setup.clone(), HashKey::default()).unwrap();
        }
        let users = from
            .users
            .iter()
            .map(|((app, user), state)| (*app, *user, state.clone().into_boxed_slice()));
        Partition::restore(&from.head, users, HashKey::default()).unwrap()
    }

    fn apply(&self, partition: &mut Partition<Processors>, count: usize) {
        let position = partition.position();
        for record in self
            .records
            .iter()
            .filter(|record| record.offset >= position)
            .take(count)
        {
            if let Some((from, later)) = &self.later
                && record.offset >= *from
                && partition.setup() != later
            {
                partition.change_setup(later.clone()).unwrap();
            }
            partition
                .apply(&Record {
                    offset: record.offset,
                    timestamp: record.timestamp,
                    payload: Some(&record.payload),
                    ..Record::default()
                })
                .unwrap();
        }
    }

    /// Lives through the log with flushes, snapshots, crashes and second owners in any order.
    fn live(&self, random: &mut Rng, model: &mut Model, seen: &mut Seen) -> Account {
        let mut published = vec![Published::default()];
        let mut base = Published::default();
        let mut owner = self.begin(&base);
        let mut crashes_left = 4;
        let mut late_rows: Vec<Rows> = Vec::new();
        let end = self.records.last().map_or(0, |record| record.offset + 1);
        while owner.position() < end {
            let step = random.usize(1..12);
            self.apply(&mut owner, step);
            match random.u8(..8) {
                0..3 => model.insert(&owner.flush().unwrap()),
                3..5 => {
                    let rows = owner.flush().unwrap();
                    let capture = owner.capture().unwrap();
                    // Published only when the rows are there (rule 3); a crash may come before.
                    if random.u8(..4) > 0 {
                        model.insert(&rows);
                        base = merge(&base, capture);
                        published.push(base.clone());
                    } else {
                        if random.bool() {
                            model.insert(&rows);
                        }
                        seen.crashes += 1;
                        base = published[random.usize(..published.len())].clone();
                        owner = self.begin(&base);
                    }
                }
                5 if crashes_left > 0 => {
                    crashes_left -= 1;
                    seen.crashes += 1;
                    base = published[random.usize(..published.len())].clone();
                    owner = self.begin(&base);
                }
                6 => {
                    seen.second_owners += 1;
                    let mut other = self.begin(&published[random.usize(..published.len())]);
                    for _ in 0..random.u8(1..4) {
                        self.apply(&mut other, random.usize(1..20));
                        late_rows.push(other.flush().unwrap());
                    }
                }
                _ => {}
            }
            // What a second owner wrote may arrive at any time, in any order.
            while !late_rows.is_empty() && random.bool() {
                model.insert(&late_rows.swap_remove(random.usize(..late_rows.len())));
            }
        }
        model.insert(&owner.flush().unwrap());
        late_rows.iter().for_each(|rows| model.insert(rows));
        account(&owner)
    }
}

fn merge(base: &Published, capture: Capture) -> Published {
    let mut merged = Published {
        position: capture.position,
        head: capture.head,
        users: base.users.clone(),
    };
    for (app, user, state) in capture.users {
        match state {
            Some(state) => merged.users.insert((app, user), state),
            None => merged.users.remove(&(app, user)),
        };
    }
    assert!(merged.position >= base.position);
    merged
}
