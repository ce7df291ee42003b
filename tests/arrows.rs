//! Which crate may depend on which (ARCHITECTURE.md), and what the program does not hold.

use std::path::Path;
use std::process::Command;

/// What each crate of the workspace may name. The program may name all; one that is not here is a processor's.
const ARROWS: [(&str, &[&str]); 9] = [
    ("event", &[]),
    ("engine", &["event"]),
    ("alerts", &[]),
    ("notify", &["alerts", "clickhouse", "engine", "kafka"]),
    ("kafka", &["event", "engine"]),
    ("clickhouse", &["event", "engine"]),
    ("snapshots", &["event", "engine"]),
    ("pipeline", &["event", "engine", "clickhouse", "snapshots"]),
    ("simulate", &["event"]),
];
const PROCESSOR: &[&str] = &["event", "engine"];
const PROGRAM: &str = "cambium";

#[test]
fn arrows_go_one_way() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates");
    for one in std::fs::read_dir(&crates).unwrap() {
        let name = one.unwrap().file_name().into_string().unwrap();
        if name == PROGRAM {
            continue;
        }
        let arrow = ARROWS.iter().find(|(known, _)| *known == name);
        let allowed = arrow.map_or(PROCESSOR, |(_, allowed)| *allowed);
        let text = std::fs::read_to_string(crates.join(&name).join("Cargo.toml")).unwrap();
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
