//! A definition that is given its past is as if it had been there from the start.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use cambium::Processors;
use cambium::config::Config;
use cambium_engine::{HashKey, Identity, List, Partition, Processor, Setup, Topic};
use cambium_event::Record;
use fastrand::Rng;

use super::case::Case;
use super::check::{account, check, check_sums_and_users};
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
    let mut kinds = Vec::new();
    Processors::kinds(&mut kinds);
    // Whose an event is has no past of its own.
    assert!(
        seeds.is_some()
            || by_kind.values().all(|cases| *cases > CASES as usize / 4) && by_kind.len() == kinds.len() - 1
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
    for spec in before
        .definitions
        .iter_mut()
        .filter(|spec| spec.kind != Identity::KIND)
    {
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

/// With records of before the log in front of it, all of them are counted as one log.
#[test]
fn what_lies_in_front_of_a_log_comes_first() {
    for seed in 0..CASES / 3 {
        println!("seed {seed}");
        run_with_front(&mut Rng::with_seed(seed));
    }
}

fn run_with_front(random: &mut Rng) {
    let mut case = Case::new(random);
    let after = Config::parse(&case.configuration, PathBuf::new()).unwrap().setup;
    let mut before = after.clone();
    let definitions = before.definitions.iter_mut();
    definitions
        .filter(|spec| spec.kind != Identity::KIND)
        .for_each(|spec| spec.generation += 1);
    let names = after.definitions.iter();
    let past_setup = Setup {
        only: Some(names.map(|spec| (spec.kind.clone(), spec.name.clone())).collect()),
        ..after.clone()
    };
    let mut model = Model::new();
    let mut ids = BTreeSet::new();
    for partition in 0..case.partitions {
        let of_partition = case.records.iter_mut();
        let mut records: Vec<_> = of_partition.filter(|one| one.partition == partition).collect();
        let cut = random.usize(..=records.len());
        // Files have no Kafka timestamps.
        records[..cut]
            .iter_mut()
            .for_each(|record| record.timestamp = None);
        let records: Vec<_> = records.into_iter().map(|record| &*record).collect();
        let (front, log) = records.split_at(cut);
        let begins = log.first().map_or(front.len() as i64, |record| record.offset);
        let begin = |setup: &Setup| {
            let topic = Topic {
                name: "t".to_owned(),
                partition,
            };
            let begun = Partition::new(topic, begins, 0, setup.clone(), HashKey::default());
            Life::new(begun.unwrap())
        };
        let (mut main, mut past) = (begin(&before), begin(&past_setup));
        for record in front {
            past.partition
                .apply_in_front(&record_in_front(record, begins))
                .unwrap();
            if random.u8(..10) == 0 {
                model.insert(&past.partition.flush().unwrap());
            }
        }
        model.insert(&past.partition.flush_front().unwrap());
        // Names that come with the front have other numbers there, which what comes later must not tell. By what lies in
        // front a record may be late, or a duplicate, that is none by the log alone: up to the last such both read.
        let judged = |setup: &Setup, front: &[&cambium_simulate::Record]| {
            let mut partition = begin(setup).partition;
            for record in front {
                partition
                    .apply_in_front(&record_in_front(record, begins))
                    .unwrap();
            }
            partition.flush_front().unwrap();
            let outcomes = log
                .iter()
                .map(|record| partition.apply(&record_of(record)).unwrap());
            outcomes.collect::<Vec<_>>()
        };
        let (whole, alone) = (judged(&past_setup, front), judged(&before, &[]));
        let same = whole
            .iter()
            .zip(&alone)
            .rev()
            .take_while(|(one, other)| one == other);
        let same = &log[log.len() - same.count()..];
        // What a device did in front, the two do not know together: no later link reaches it.
        let same = if case.rules.link_within_ms.is_none() {
            same
        } else {
            &[]
        };
        let at = random.choice(same).map_or(i64::MAX, |record| record.offset);
        read(&mut past, log, at, (random, &mut model));
        read(&mut main, log, at, (random, &mut model));
        main.partition.take_over(after.clone(), past.partition).unwrap();
        read(&mut main, log, i64::MAX, (random, &mut model));
        model.insert(&main.partition.flush().unwrap());
        for app in ["s", "t"] {
            let definitions = main.partition.definitions_of(app).unwrap();
            ids.extend(definitions.into_iter().map(|definition| definition.id));
        }
    }
    model.retain(|row| definition(row).is_none_or(|id| ids.contains(&id)));
    check_sums_and_users(&case, &model);
}

fn record_of(sent: &cambium_simulate::Record) -> Record<'_> {
    Record {
        offset: sent.offset,
        timestamp: sent.timestamp,
        payload: Some(&sent.payload),
        ..Record::default()
    }
}

/// One of before a log that begins at an offset.
fn record_in_front(sent: &cambium_simulate::Record, begins: i64) -> Record<'_> {
    Record {
        offset: begins,
        payload: Some(&sent.payload),
        ..Record::default()
    }
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
        life.partition.apply(&record_of(record)).unwrap();
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
