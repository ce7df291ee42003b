//! `alerts simulate`: by the interface's page, over series that are made here.

use std::path::Path;

use super::cambium;

fn simulate(directory: &Path, csv: &str, arguments: &[&str]) -> (i32, String) {
    std::fs::write(directory.join("in.csv"), csv).unwrap();
    let output = cambium(
        directory,
        &[&["alerts", "simulate", "--csv", "in.csv"], arguments].concat(),
    );
    let text = if output.status.success() {
        output.stdout
    } else {
        output.stderr
    };
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

/// The cells of a column, one a row.
fn column(text: &str, name: &str) -> Vec<String> {
    let mut lines = text.lines();
    let place = lines
        .next()
        .unwrap()
        .split(',')
        .position(|column| column == name)
        .unwrap();
    lines
        .map(|line| line.split(',').nth(place).unwrap().to_owned())
        .collect()
}

fn firing_rows(text: &str) -> Vec<usize> {
    let cells = column(text, "firing").into_iter().enumerate();
    cells
        .filter(|(_, cell)| cell == "1")
        .map(|(row, _)| row)
        .collect()
}

#[test]
fn limits_and_changes_are_what_they_say() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path();
    let csv = "time,value\n1700000000,5\n2023-11-14T22:14:20Z,\n1700000120,-1.5\n1700000180,11\n";
    let (_, text) = simulate(
        place,
        csv,
        &["--detector", "threshold", "--set", "low=0", "--set", "high=10"],
    );
    assert_eq!(
        text,
        "time,expected,low,high,score,firing,value\n1700000000,,0,10,0,0,5\n2023-11-14T22:14:20Z,,0,10,,0,\n\
         1700000120,,0,10,1.5,1,-1.5\n1700000180,,0,10,1,1,11\n"
    );
    let (_, text) = simulate(
        place,
        csv,
        &[
            "--detector",
            "threshold",
            "--set",
            "low=0",
            "--for",
            "2/2",
            "--format",
            "json",
        ],
    );
    let rows: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(rows.len(), 4);
    assert!(rows.iter().all(|row| row["firing"] == 0) && rows[1]["value"].is_null());
    assert_eq!(rows[1]["time"], "2023-11-14T22:14:20Z");

    // Days with a weekly season: 100 on Sundays, 10 else; the last Sunday half is missing.
    let day = |day: i64| 1_699_747_200 + day * 86_400;
    let value = |number: i64| match number {
        28 => 50,
        number if number % 7 == 0 => 100,
        _ => 10,
    };
    let lines: String = (0..29)
        .map(|number| format!("{},{}\n", day(number), value(number)))
        .collect();
    let (_, text) = simulate(
        place,
        &format!("time,value\n{lines}"),
        &["--detector", "change", "--set", "percent=40"],
    );
    assert_eq!(firing_rows(&text).last(), Some(&28));
    assert!(
        text.ends_with(&format!("{},100,60,140,-50,1,50\n", day(28))),
        "{text}"
    );
}

/// A day's curve in minutes over three weeks, noise that a seed gives, and an hour without anything.
fn series(noise: impl Fn(i64) -> f64, broken: std::ops::Range<i64>) -> String {
    let minutes = 21 * 288;
    let lines = (0..minutes).map(|step| {
        let phase = (step % 288) as f64 / 288.0 * std::f64::consts::TAU;
        let expected = 300.0 * (1.3 + phase.sin());
        let value = if broken.contains(&step) {
            0.0
        } else {
            (expected + noise(step) * expected.sqrt()).round()
        };
        format!("{},{value}\n", 1_700_006_400 + step * 300)
    });
    format!("time,value\n{}", lines.collect::<String>())
}

fn noise(step: i64) -> f64 {
    // Sums of uniform numbers are near to normal.
    let mut random = fastrand::Rng::with_seed(step as u64);
    (0..12).map(|_| random.f64()).sum::<f64>() - 6.0
}

#[test]
fn what_breaks_is_found_and_what_does_not_is_left_in_peace() {
    let directory = tempfile::tempdir().unwrap();
    let broken = 19 * 288 + 100..19 * 288 + 112;
    for detector in ["count", "season", "robust-z", "cusum"] {
        let whole = series(noise, 0..0);
        let (_, text) = simulate(directory.path(), &whole, &["--detector", detector]);
        assert!(
            firing_rows(&text).len() <= 2,
            "{detector}: {:?}",
            firing_rows(&text)
        );
        let (_, text) = simulate(
            directory.path(),
            &series(noise, broken.clone()),
            &["--detector", detector],
        );
        let fired = firing_rows(&text);
        assert!(
            fired.contains(&(broken.start as usize)) || fired.contains(&(broken.start as usize + 1)),
            "{detector}: {fired:?}"
        );
        // A row is judged from those before it: what comes behind changes nothing.
        let part: Vec<&str> = whole.lines().take(3000).collect();
        let (_, short) = simulate(
            directory.path(),
            &(part.join("\n") + "\n"),
            &["--detector", detector],
        );
        let (_, long) = simulate(directory.path(), &whole, &["--detector", detector]);
        assert!(long.starts_with(&short), "{detector}");
    }
}

#[test]
fn shares_of_few_say_little() {
    let directory = tempfile::tempdir().unwrap();
    let line = |step: i64, numerator: i64, denominator: i64| {
        format!("{},{numerator},{denominator}\n", 1_700_006_400 + step * 3600)
    };
    let mut text = "time,numerator,denominator\n".to_owned();
    for step in 0..400 {
        text += &line(step, 50 + (noise(step) * 6.0) as i64, 1000);
    }
    // None of ten is nothing to speak of; ten of a thousand is; over nothing is no share.
    text += &(line(400, 0, 10) + &line(401, 10, 1000) + &line(402, 0, 0));
    let (_, said) = simulate(directory.path(), &text, &["--detector", "rate"]);
    assert_eq!(firing_rows(&said), [401]);
    assert_eq!(column(&said, "value")[400..], ["0", "0.01", ""]);
}

#[test]
fn silence_is_a_pause_that_does_not_come_by_chance() {
    let directory = tempfile::tempdir().unwrap();
    let mut random = fastrand::Rng::with_seed(7);
    let mut at = 1_700_000_000.0;
    let mut text = "time\n".to_owned();
    for number in 0..20_000 {
        // One event a second, at random; one pause of a minute.
        at += -(1.0 - random.f64()).ln() + if number == 15_000 { 60.0 } else { 0.0 };
        text += &format!("{at:.3}\n");
    }
    let (_, said) = simulate(directory.path(), &text, &["--detector", "silence"]);
    assert_eq!(firing_rows(&said), [15_000]);
    let high: f64 = column(&said, "high")[15_000].parse().unwrap();
    assert!((10.0..40.0).contains(&high), "{high} s are allowed");
    assert_eq!(column(&said, "high")[0], "");
}

#[test]
fn wrong_use_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let csv = "time,value\n1,2\n";
    for (arguments, says) in [
        (["--detector", "threshold", "--for", "1/1"], "low or high"),
        (["--detector", "count", "--set", "z=3"], "it has false_alarms"),
        (["--detector", "count", "--for", "3/2"], "write it like 2/3"),
        (["--detector", "count", "--season", "soon"], "--season"),
        (["--detector", "magic", "--for", "1/1"], "robust-z"),
    ] {
        let (code, said) = simulate(directory.path(), csv, &arguments);
        assert_eq!(code, 2, "{said}");
        assert!(said.contains(says), "{said}");
    }
    let (code, said) = simulate(
        directory.path(),
        "time,value\nyesterday,2\n",
        &["--detector", "count"],
    );
    assert_eq!(code, 1);
    assert!(
        said.contains("line 2") && said.contains("'yesterday' is no time"),
        "{said}"
    );
}

/// Payments of nine days, ten in five minutes, none in the afternoon of the last.
fn payments() -> String {
    let step_s = 300;
    let begin_s = 1_699_833_600;
    let steps = 9 * 288;
    let broken = 8 * 288 + 180..8 * 288 + 216;
    let mut random = fastrand::Rng::with_seed(3);
    let mut lines = String::new();
    for step in (0..steps).filter(|step| !broken.contains(step)) {
        for number in 0..random.i64(8..13) {
            let at_ms = (begin_s + step * step_s + number * 20) * 1000;
            let user = random.u32(0..500);
            lines += &format!(r#"{{"app":"shop","event":"pay","user_id":"u{user}","timestamp":{at_ms}}}"#);
            lines.push('\n');
        }
    }
    lines
}

#[test]
fn a_rule_is_tried_over_its_past() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("events.jsonl"), payments()).unwrap();
    let text = "[[alert]]\nname = \"payments\"\nevent = \"pay\"\nover = \"30 min\"\nseason = \"1 day\"\n";
    std::fs::write(directory.path().join("c.toml"), text).unwrap();
    let run = |arguments: &[&str]| {
        let output = cambium(directory.path(), arguments);
        let said = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(said).unwrap())
    };
    let (code, said) = run(&["replay", "--config", "c.toml", "events.jsonl"]);
    assert_eq!(code, 0, "{said}");
    let simulate = [
        "alerts",
        "simulate",
        "payments",
        "--config",
        "c.toml",
        "--from",
        "2023-11-18",
        "--to",
        "2023-11-22",
    ];
    let (code, said) = run(&[&simulate[..], &["--plot", "payments.png"]].concat());
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("it would have fired 1 times"), "{said}");
    // It broke at three in the afternoon of the 21st, and was back at six.
    assert!(
        said.contains("2023-11-21 15:") && said.contains("2023-11-21 18:"),
        "{said}"
    );
    let picture = std::fs::read(directory.path().join("payments.png")).unwrap();
    assert!(picture.starts_with(b"\x89PNG"));
    let (code, said) = run(&["alerts", "simulate", "payment", "--config", "c.toml"]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("did you mean 'payments'?"), "{said}");
}

#[test]
fn rules_are_checked_before_anything_runs() {
    let directory = tempfile::tempdir().unwrap();
    for (rule, says) in [
        (
            "event = \"pay\"\nunique = \"active\"",
            "one of event, unique, funnel, session and sql",
        ),
        ("event = \"pay\"\nwhere = \"price > 10\"", "'price' is not kept"),
        ("event = \"pay\"\nby = [\"country\"]", "by: 'country' is not kept"),
        ("unique = \"actve\"", "did you mean 'active'?"),
        ("unique = \"active\"\nwindow = \"2h\"", "'2h' is none of 5m"),
        ("funnel = \"purchase\"\nstep = 1", "steps from 2 to 2"),
        (
            "event = \"pay\"\ndetector = \"count\"\nz = 3",
            "it has false_alarms",
        ),
        ("event = \"pay\"\ndetector = \"rate\"", "is of shares"),
        ("event = \"pay\"\nchannels = [\"opps\"]", "did you mean 'ops'?"),
        ("event = \"pay\"\nover = \"90 s\"", "in whole 1 min"),
        ("event = \"pay\"\nfor = \"3/2\"", "not like \"2/3\""),
        ("event = \"pay\"\nquiet_hours = \"at night\"", "22:00-08:00"),
        ("event = \"pay\"\nholidays = [\"xmas\"]", "no day like"),
        ("event = \"pay\"\ndetectr = \"count\"", "did you mean 'detector'?"),
    ] {
        let text = format!(
            "[[funnel]]\nname = \"purchase\"\nsteps = [\"view\", \"pay\"]\nwithin = \"1 h\"\n\
             [[channel]]\nname = \"ops\"\nkind = \"webhook\"\nurl = \"http://127.0.0.1:1\"\n\
             [[alert]]\nname = \"payments\"\n{rule}\n"
        );
        std::fs::write(directory.path().join("c.toml"), text).unwrap();
        let output = cambium(directory.path(), &["user", "--config", "c.toml", "u1"]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{rule}: {said}");
        assert!(said.contains(says), "{rule}: {said}");
    }
}
