//! The program as people use it: exit codes, messages, files.

use std::path::Path;
use std::process::{Command, Output};

use super::program;

fn cambium(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(program())
        .args(arguments)
        .current_dir(directory)
        .env("CAMBIUM_LOG", "warn")
        .output()
        .unwrap()
}

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
    refuses("[[unique]]\nevent = \"x\"", "needs a name");
    refuses("[[unique]]\nname = \"x\"\nby = [\"event\"]", "no dimension");
    refuses("[[drop]]\nwhere = \"is_bot = true\"", "is_bot = true\n");
}

#[test]
fn files_are_counted_once_and_users_can_be_found() {
    let directory = tempfile::tempdir().unwrap();
    let line = |user: &str, time: i64| {
        format!(r#"{{"app":"a","event":"e","user_id":"{user}","timestamp":{time},"platform":"ios"}}"#) + "\n"
    };
    let hour = 3_600_000;
    // In order of users, not of time: the last lines lie days before the first.
    let first = line("u1", 1_700_000_000_000 + 96 * hour) + &line("u2", 1_700_000_000_000) + "no event\n";
    std::fs::write(directory.path().join("first.jsonl"), first).unwrap();
    std::fs::write(
        directory.path().join("second.jsonl"),
        line("u3", 1_700_000_000_000 + 97 * hour),
    )
    .unwrap();
    std::fs::write(directory.path().join("c.toml"), "").unwrap();
    let replay = |file: &str| {
        let output = cambium(directory.path(), &["replay", "--config", "c.toml", file]);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(
        replay("first.jsonl"),
        "read 3 = accepted 2 + duplicate 0 + late 0 + rejected 1 + dropped 0\n"
    );
    assert_eq!(
        replay("second.jsonl"),
        "read 1 = accepted 1 + duplicate 0 + late 0 + rejected 0 + dropped 0\n"
    );
    assert_eq!(
        replay("first.jsonl"),
        "read 0 = accepted 0 + duplicate 0 + late 0 + rejected 0 + dropped 0\n"
    );
    let query = |sql: &str| {
        let output = cambium(directory.path(), &["query", "--config", "c.toml", sql]);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(
        query("SELECT sum(events), uniqCombined64Merge(users) FROM event_counts"),
        "3\t3\n"
    );
    assert_eq!(
        query("SELECT reason, payload FROM rejected_events"),
        "unreadable\tno event\n"
    );
    let user = cambium(directory.path(), &["user", "--config", "c.toml", "u2"]);
    let user = String::from_utf8(user.stdout).unwrap();
    assert_eq!(
        query(&format!("SELECT count() FROM sessions WHERE user = {user}")),
        "1\n"
    );
    assert_eq!(
        query(
            "SELECT user = sipHash64Keyed((toUInt64(0), toUInt64(0)), 'u2') FROM sessions ORDER BY started_at LIMIT 1"
        ),
        "1\n"
    );
}

#[test]
fn every_command_has_help_with_an_example() {
    let directory = tempfile::tempdir().unwrap();
    for command in ["demo", "run", "replay", "query", "send", "user", "clickhouse"] {
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
