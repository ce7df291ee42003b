//! A release that counts otherwise: what was counted before stays as it was, and what is counted from there on is the
//! new definitions', which begin with nothing.

use std::collections::BTreeSet;
use std::path::PathBuf;

use cambium::Processors;
use cambium::config::Config;
use cambium_engine::{HashKey, List, Partition, Setup, Topic};
use cambium_simulate::Truth;
use fastrand::Rng;

use super::case::Case;
use super::check::check_sums_and_users;
use super::model::{Model, definition};
use super::take_over::{Life, read};

const CASES: u64 = 80;

#[test]
fn a_release_that_counts_otherwise_leaves_what_was() {
    let seed = std::env::var("CAMBIUM_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    for seed in seed.map_or(0..CASES, |seed: u64| seed..seed + 1) {
        println!("CAMBIUM_SEED={seed} cargo test -p cambium-tests semantics");
        run(&mut Rng::with_seed(seed));
    }
}

fn run(random: &mut Rng) {
    let mut case = Case::new(random);
    // Where devices are linked otherwise, records are judged otherwise: a duplicate is one of a user.
    if case.rules.link_within_ms.is_some() {
        return;
    }
    let before = Config::parse(&case.configuration, PathBuf::new()).unwrap().setup;
    let mut after = before.clone();
    let mut kinds = Vec::new();
    Processors::kinds(&mut kinds);
    after.semantics = kinds
        .iter()
        .map(|kind| (kind.kind.to_owned(), kind.semantics + 1))
        .collect();
    let changes_at: Vec<i64> = (0..case.partitions).map(|_| random.i64(0..40)).collect();
    let mut model = Model::new();
    let (mut old, mut new) = (BTreeSet::new(), BTreeSet::new());
    for partition in 0..case.partitions {
        let records = case.records.iter().filter(|record| record.partition == partition);
        let records: Vec<_> = records.collect();
        let mut life = begin(partition, &before);
        let at = changes_at[partition as usize];
        read(&mut life, &records, at, (random, &mut model));
        old.extend(ids(&mut life.partition));
        // No record may lie just before it.
        life.partition.pass_to(at);
        life.partition.change_setup(after.clone()).unwrap();
        new.extend(ids(&mut life.partition));
        read(&mut life, &records, i64::MAX, (random, &mut model));
        model.insert(&life.partition.flush().unwrap());
    }
    assert!(old.is_disjoint(&new));
    let is_before = |partition: i32, offset: i64| offset < changes_at[partition as usize];
    // What comes later is judged by what came before.
    let truth = Truth::new(&case.records, &case.rules);
    let accepted: BTreeSet<_> = truth
        .events
        .iter()
        .map(|event| (event.partition, event.offset))
        .collect();
    let (was, mut is) = (case.records.clone(), case.records.clone());
    is.retain(|record| {
        let place = (record.partition, record.offset);
        accepted.contains(&place) && !is_before(record.partition, record.offset)
    });
    case.records = was;
    case.records
        .retain(|record| is_before(record.partition, record.offset));
    for (ids, records) in [(old, None), (new, Some(is))] {
        case.records = records.unwrap_or(case.records);
        let mut of_ids = model.clone();
        of_ids.retain(|row| definition(row).is_none_or(|id| ids.contains(&id)));
        check_sums_and_users(&case, &of_ids);
    }
}

fn begin(partition: i32, setup: &Setup) -> Life {
    let topic = Topic {
        name: "t".to_owned(),
        partition,
    };
    Life::new(Partition::new(topic, 0, 0, setup.clone(), HashKey::default()).unwrap())
}

fn ids(partition: &mut Partition<Processors>) -> Vec<u64> {
    let definitions = ["s", "t"].map(|app| partition.definitions_of(app).unwrap());
    definitions.into_iter().flatten().map(|one| one.id).collect()
}
