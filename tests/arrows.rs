//! Which crate may depend on which (ARCHITECTURE.md), and what the program does not hold.

use std::path::Path;
use std::process::Command;

/// Each crate with all the crates of the workspace that it may name.
const ARROWS: [(&str, &[&str]); 18] = [
    ("event", &[]),
    ("engine", &["event"]),
    ("counts", &["event", "engine"]),
    ("uniques", &["event", "engine"]),
    ("sessions", &["event", "engine"]),
    ("funnels", &["event", "engine"]),
    ("retention", &["event", "engine"]),
    ("lifecycle", &["event", "engine"]),
    ("activity", &["event", "engine"]),
    ("acquisition", &["event", "engine"]),
    ("alerts", &[]),
    ("notify", &["alerts", "clickhouse", "engine", "kafka"]),
    ("kafka", &["event", "engine"]),
    ("clickhouse", &["event", "engine"]),
    ("snapshots", &["event", "engine"]),
    ("pipeline", &["event", "engine", "clickhouse", "snapshots"]),
    ("simulate", &["event"]),
    (
        "cambium",
        &[
            "event",
            "engine",
            "counts",
            "uniques",
            "sessions",
            "funnels",
            "retention",
            "lifecycle",
            "activity",
            "acquisition",
            "alerts",
            "notify",
            "kafka",
            "clickhouse",
            "snapshots",
            "pipeline",
            "simulate",
        ],
    ),
];

#[test]
fn arrows_go_one_way() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates");
    let mut found: Vec<String> = std::fs::read_dir(&crates)
        .unwrap()
        .map(|one| one.unwrap().file_name().into_string().unwrap())
        .collect();
    found.sort();
    let mut known = ARROWS.map(|(name, _)| name.to_owned());
    known.sort();
    assert_eq!(
        found, known,
        "a crate is added or gone: say here what it may depend on"
    );
    for (name, allowed) in ARROWS {
        let text = std::fs::read_to_string(crates.join(name).join("Cargo.toml")).unwrap();
        let manifest: toml::Table = text.parse().unwrap();
        for section in ["dependencies", "build-dependencies"] {
            let Some(dependencies) = manifest.get(section).and_then(|one| one.as_table()) else {
                continue;
            };
            for dependency in dependencies.keys().filter_map(|one| one.strip_prefix("cambium-")) {
                assert!(
                    allowed.contains(&dependency),
                    "{name} must not depend on {dependency}"
                );
            }
        }
    }
}

/// Only the tests' program can be told to die.
#[test]
fn the_program_has_no_failpoints() {
    let tree = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--package",
            "cambium",
            "--edges",
            "normal,features",
            "--prefix",
            "none",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let tree = String::from_utf8(tree.stdout).unwrap();
    assert!(tree.contains("fail feature \"default\""), "{tree}");
    assert!(!tree.contains("fail feature \"failpoints\""), "{tree}");
}
