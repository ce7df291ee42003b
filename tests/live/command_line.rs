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
    refuses(
        "[app.shop]\ntime_zone = \"Mars\"",
        "[app.shop]: time_zone: time zone 'Mars' is not known",
    );
    let fields = |fields: &str| format!("[[source]]\ntopic = \"t\"\n[source.fields]\n{fields}");
    refuses(&fields("usr_id = \"x\""), "did you mean 'user_id'?");
    refuses(
        &fields("timestamp = { feld = \"ts\" }"),
        "unknown key 'feld' in fields.timestamp; did you mean 'field'?",
    );
    refuses(&fields("app = { value = \"a\", unit = \"s\" }"), "{ value = … }");
    refuses(
        "[[funnel]]\nname = \"f\"\nsteps = [{ evnt = \"a\" }]\nwithin = \"1 h\"",
        "did you mean 'event'?",
    );
    refuses(
        "[[unique]]\nname = \"u\"\nevent = 5",
        "event is a name or a list of names",
    );
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
    refuses(
        "[[lifecycle]]\nname = \"x\"\nof = \"x\"",
        "there is no [[unique]] 'x'",
    );
}

/// What is wrong with the configuration, and is found only where it is used, is told apart from what fails.
#[test]
fn wrong_use_is_exit_code_2() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let source = "[[source]]\ntopic = \"t\"\n[http]\nlisten = \"\"\n";
    let with = |more: &str| format!("{source}{more}");
    let run = ["run", "--config", "c.toml"].as_slice();
    let replay = ["replay", "--config", "c.toml", "-"].as_slice();
    for (configuration, arguments, says) in [
        (String::new(), run, "no [[source]]"),
        (
            with(source.lines().next().unwrap()) + "\ntopic = \"t\"",
            run,
            "twice",
        ),
        (
            with("[kafka]\nsettings = { \"no.such\" = \"1\" }"),
            run,
            "no.such",
        ),
        (with("[snapshots]\nurl = \"nonsense\""), replay, "no URL"),
        (with("[clickhouse]\nurl = \"nonsense\""), replay, "no URL"),
        (
            "[[source]]\ntopic = \"t\"\nformat = \"avro-confluent\"\nregistry = \"nonsense\"".to_owned(),
            run,
            "no URL",
        ),
        (
            String::new(),
            ["rekey", "--config", "c.toml", "--from", "a", "--to", "a"].as_slice(),
            "itself",
        ),
        (
            String::new(),
            ["generate", "--start", "soon"].as_slice(),
            "--start",
        ),
    ] {
        std::fs::write(path.join("c.toml"), &configuration).unwrap();
        let output = cambium(path, arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{configuration}: {said}");
        assert!(said.contains(says), "{configuration}: {said}");
    }
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
        "plan",
        "prune",
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

/// A manager ends all processes of a group at once: the engine stays until its parent has written all.
#[test]
fn a_group_that_is_ended_ends_in_order() {
    use std::os::unix::process::CommandExt;
    let directory = tempfile::tempdir().unwrap();
    let mut command = std::process::Command::new(super::program());
    command
        .arg("demo")
        .current_dir(directory.path())
        .env("CAMBIUM_LOG", "warn");
    let mut demo = command
        .process_group(0)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(std::time::Duration::from_secs(8));
    let group = format!("-{}", demo.id());
    let ended = std::process::Command::new("kill")
        .args(["-TERM", "--", &group])
        .status()
        .unwrap();
    assert!(ended.success());
    let begun = std::time::Instant::now();
    let status = loop {
        match demo.try_wait().unwrap() {
            Some(status) => break status,
            None if begun.elapsed().as_secs() > 60 => {
                let _ = std::process::Command::new("kill")
                    .args(["-KILL", "--", &group])
                    .status();
                panic!("the demo did not end");
            }
            None => std::thread::sleep(std::time::Duration::from_millis(100)),
        }
    };
    assert!(status.success(), "{status}");
}
