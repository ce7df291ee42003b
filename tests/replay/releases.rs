//! Snapshots that earlier releases wrote are gone on from, to the numbers that this release would have come to.
//!
//! `tests/releases/N` holds the snapshots of the N-th form after `a.jsonl` and `b.jsonl`, each replayed by a command of its own
//! with `--as-is`; a release that changes their form adds a directory, and leaves the others.

use std::path::{Path, PathBuf};

use cambium::Processors;
use cambium_clickhouse::tables_with;
use cambium_engine::{HashKey, Partition, Topic};
use cambium_event::Record;
use cambium_snapshots::{Loaded, Store};

use super::model::Model;

fn releases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("releases")
}

/// The snapshots of the only log in a directory, and what that is called.
fn loaded(directory: &Path) -> (Topic, Loaded) {
    let mut logs = std::fs::read_dir(directory).unwrap();
    let name = logs.next().unwrap().unwrap().file_name().into_string().unwrap();
    let topic = Topic { name, partition: 0 };
    let mut snapshots = Store::directory(directory).unwrap().partition(&topic, 1);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (loaded, passed_over) = runtime.block_on(snapshots.load(|_| Ok(()))).unwrap();
    assert_eq!(passed_over, [""; 0]);
    (topic, loaded.unwrap())
}

fn apply(partition: &mut Partition<Processors>, file: &str) {
    let lines = std::fs::read_to_string(releases().join(file)).unwrap();
    for line in lines.lines() {
        let record = Record {
            offset: partition.position(),
            taken_in_at: Some(0),
            payload: Some(line.as_bytes()),
            ..Record::default()
        };
        partition.apply(&record).unwrap();
    }
}

#[test]
fn the_snapshots_of_every_release_are_gone_on_from() {
    let mut forms = Vec::new();
    for form in ["1", "2", "3", "4"] {
        let (topic, loaded) = loaded(&releases().join(form));
        let users = loaded.users.len();
        let mut restored =
            Partition::<Processors>::restore(&loaded.head, loaded.users, HashKey::default()).unwrap();
        let setup = restored.setup().clone();
        let mut counted = Partition::new(topic, 0, 0, setup, HashKey::default()).unwrap();
        apply(&mut counted, "a.jsonl");
        apply(&mut counted, "b.jsonl");
        counted.flush().unwrap();
        assert_eq!((restored.users(), restored.account()), (users, counted.account()));
        let later = |partition: &mut Partition<Processors>| {
            apply(partition, "c.jsonl");
            let mut model = Model::new();
            model.insert(&partition.flush().unwrap());
            let tables = tables_with(&["definition", "origin", "version"]).into_iter();
            let rows = tables.chain(["unique_arrivals"]).map(|table| {
                let rows: Vec<_> = model.rows(table).into_iter().cloned().collect();
                (table, rows)
            });
            rows.filter(|(_, rows)| !rows.is_empty()).collect::<Vec<_>>()
        };
        let (found, expected) = (later(&mut restored), later(&mut counted));
        let kinds = if form < "3" { 6 } else { 9 };
        let tables: Vec<_> = expected.iter().map(|(table, _)| *table).collect();
        assert_eq!(tables.len(), kinds, "{form}: {tables:?}");
        assert_eq!(found, expected);
        assert_eq!(restored.account(), counted.account());
        forms.push(users);
    }
    assert!(
        forms.iter().all(|users| *users > 10 && *users == forms[0]),
        "{forms:?}"
    );
}
