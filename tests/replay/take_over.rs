//! A definition that is given its past is as if it had been there from the start.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use cambium::Processors;
use cambium::config::Config;
use cambium_engine::{HashKey, Partition, Setup, Topic};
use cambium_event::Record;
use fastrand::Rng;

use super::case::Case;
use super::check::{account, check};
use super::model::{Model, definition};

const CASES: u64 = 250;

#[test]
fn a_definition_with_a_past_was_there_from_the_start() {
    let seeds = std::env::var("CAMBIUM_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let mut by_kind = BTreeMap::<String, usize>::new();
    for seed in seeds.map_or(0..CASES, |seed: u64| seed..seed + 1) {
        println!("CAMBIUM_SEED={seed} cargo test -p cambium-tests take_over");
        for (kind, _) in run(&mut Rng::with_seed(seed)) {
            *by_kind.entry(kind).or_default() += 1;
        }
    }
    println!("{by_kind:?}");
    assert!(
        seeds.is_some() || by_kind.values().all(|cases| *cases > CASES as usize / 4) && by_kind.len() == 4
    );
}

/// Of which log, and what is counted: at first the definitions as they were, later as they are.
struct World {
    case: Case,
    topic: Topic,
    before: Setup,
    after: Setup,
    past: Setup,
}

fn run(random: &mut Rng) -> Vec<(String, String)> {
    let case = Case::new(random);
    let after = Config::parse(&case.configuration, PathBuf::new()).unwrap().setup;
    let (mut before, mut changed) = (after.clone(), Vec::new());
    for spec in &mut before.definitions {
        if random.bool() {
            // Another generation is another definition.
            spec.generation += 1;
            changed.push((spec.kind.clone(), spec.name.clone()));
        }
    }
    let past = Setup {
        only: Some(changed.clone()),
        ..after.clone()
    };
    let mut world = World {
        topic: Topic {
            name: "t".to_owned(),
            partition: 0,
        },
        case,
        before,
        after,
        past,
    };
    let (mut model, mut accounts) = (Model::new(), BTreeMap::new());
    let mut ids = BTreeSet::new();
    for partition in 0..world.case.partitions {
        world.topic.partition = partition;
        let mut ended = world.live(random, &mut model);
        for app in ["s", "t"] {
            let definitions = ended.definitions_of(app).unwrap();
            ids.extend(definitions.into_iter().map(|definition| definition.id));
        }
        accounts.insert(partition, account(&ended));
    }
    model.retain(|row| definition(row).is_none_or(|id| ids.contains(&id)));
    check(&world.case, &model, &accounts);
    changed
}

/// A partition, and all users as they were saved last.
pub struct Life {
    pub partition: Partition<Processors>,
    users: BTreeMap<(u32, u64), Vec<u8>>,
}

/// Reads the records of a partition up to an offset, with flushes and ends on the way.
pub fn read(
    life: &mut Life,
    records: &[&cambium_simulate::Record],
    end: i64,
    (random, model): (&mut Rng, &mut Model),
) {
    let position = life.partition.position();
    for record in records
        .iter()
        .filter(|record| (position..end).contains(&record.offset))
    {
        let record = Record {
            offset: record.offset,
            timestamp: record.timestamp,
            payload: Some(&record.payload),
            ..Record::default()
        };
        life.partition.apply(&record).unwrap();
        match random.u8(..20) {
            0 => life.begin_again(model),
            1..5 => model.insert(&life.partition.flush().unwrap()),
            _ => {}
        }
    }
}

impl Life {
    pub fn new(partition: Partition<Processors>) -> Life {
        Life {
            partition,
            users: BTreeMap::new(),
        }
    }

    /// What is saved is all that is left of it.
    fn begin_again(&mut self, model: &mut Model) {
        model.insert(&self.partition.flush().unwrap());
        let capture = self.partition.capture().unwrap();
        for (app, user, state) in capture.users {
            match state {
                Some(state) => self.users.insert((app, user), state),
                None => self.users.remove(&(app, user)),
            };
        }
        let users = self.users.iter();
        let users = users.map(|((app, user), state)| (*app, *user, state.clone().into_boxed_slice()));
        self.partition = Partition::restore(&capture.head, users, HashKey::default()).unwrap();
    }
}

impl World {
    fn begin(&self, setup: &Setup) -> Life {
        let partition = Partition::new(self.topic.clone(), 0, 0, setup.clone(), HashKey::default());
        Life::new(partition.unwrap())
    }

    fn records(&self) -> Vec<&cambium_simulate::Record> {
        let records = self.case.records.iter();
        records
            .filter(|record| record.partition == self.topic.partition)
            .collect()
    }

    fn live(&self, random: &mut Rng, model: &mut Model) -> Partition<Processors> {
        let records = self.records();
        let offsets: Vec<i64> = records.iter().map(|record| record.offset + 1).collect();
        let mut main = self.begin(&self.before);
        // A partition may be empty.
        let at = random.choice(&offsets).copied().unwrap_or(0);
        let mut past = self.begin(&self.past);
        read(&mut main, &records, at, (random, model));
        read(&mut past, &records, at, (random, model));
        if random.bool() {
            past.begin_again(model);
        }
        let taken = main.partition.take_over(self.after.clone(), past.partition);
        taken.unwrap();
        if random.bool() {
            main.begin_again(model);
        }
        read(&mut main, &records, i64::MAX, (random, model));
        model.insert(&main.partition.flush().unwrap());
        main.partition
    }
}
