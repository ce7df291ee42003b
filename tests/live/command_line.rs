//! The program as people use it: exit codes, messages, files.

use super::cambium;

#[track_caller]
fn refuses(configuration: &str, says: &str) {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("c.toml"), configuration).unwrap();
    let output = cambium(directory.path(), &["user", "--config", "c.toml", "u1"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains(says), "{said}");
}

#[test]
fn a_wrong_configuration_says_what_and_where() {
    refuses("[time]\nlatenes = \"1 h\"", "did you mean 'lateness'?");
    refuses("[funel]\nx = 1", "did you mean 'funnel'?");
    refuses("[time]\nlateness = \"soon\"", "write it like");
    refuses("[app.shop]\ntime_zone = \"Mars\"", "Mars");
    refuses(
        "[[funnel]]\nname = \"f\"\nsteps = [\"a\", { event = \"b\", where = \"price >\" }]\nwithin = \"1 day\"",
        "^",
    );
    refuses("[[funnel]]\nname = \"f\"\nsteps = [\"a\"]", "within");
    refuses(
        "[[source]]\ntopic = \"t\"\nformat = \"avro-confluent\"",
        "needs registry",
    );
    refuses("[[channel]]\nname = \"c\"\nkind = \"slack\"", "url");
    refuses("[keep]\nsessions = \"soon\"", "forever");
    refuses("[[unique]]\nevent = \"x\"", "needs a name");
    refuses("[[unique]]\nname = \"x\"\nby = [\"event\"]", "no dimension");
    refuses("[[drop]]\nwhere = \"is_bot = true\"", "is_bot = true\n");
}

#[test]
fn every_command_has_help_with_an_example() {
    let directory = tempfile::tempdir().unwrap();
    for command in [
        "demo",
        "run",
        "replay",
        "query",
        "check",
        "rekey",
        "generate",
        "send",
        "user",
        "clickhouse",
    ] {
        let output = cambium(directory.path(), &[command, "--help"]);
        assert!(output.status.success());
        let help = String::from_utf8(output.stdout).unwrap();
        assert!(
            help.contains("Example: ") && help.contains(&format!("cambium {command}")),
            "{help}"
        );
    }
}

/// The demo's numbers are SQL of the views, each of which the engine answers.
#[test]
fn the_demo_shows_numbers_that_are_read_by_sql() {
    let directory = tempfile::tempdir().unwrap();
    let output = cambium(directory.path(), &["demo", "--seconds", "16"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(!said.contains("cannot be read"), "{said}");
    for (name, query) in cambium::commands::demo::NUMBERS {
        assert!(said.contains(query), "{name}: its SQL is not shown");
    }
    let events = said
        .lines()
        .rev()
        .find_map(|line| line.trim().strip_prefix("events today"))
        .unwrap();
    assert!(events.trim().parse::<u64>().unwrap() > 100, "{said}");
    assert!(said.contains("checkout"), "{said}");
}
