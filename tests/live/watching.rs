//! Alerts as they run: found in seconds, told once, whoever dies; and a lag is no drop.
//!
//! Each scenario mostly waits, so that several run beside each other, each on a stage of its own: those that break
//! Kafka or ClickHouse on a ground of their own too. One that fails is named, and `SCENARIO=its_name` runs it alone.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::task::JoinSet;

use super::hook::Hook;
use super::stage::{Ground, PLATFORMS, Stage, leads};
use super::{Process, cambium, number, program};

/// More at once are slow enough on two cores to be late by themselves.
const AT_ONCE: usize = 5;

type Scenario = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Some of them wait for processes without giving way: each has a thread.
#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn alerts_as_they_run() {
    let ground = Arc::new(Ground::start().await);
    let scenarios: [(&str, Scenario); 8] = [
        ("a_lag_is_no_drop", Box::pin(a_lag_is_no_drop())),
        (
            "any_number_is_watched",
            Box::pin(any_number_is_watched(ground.clone())),
        ),
        (
            "a_slice_that_breaks_is_named",
            Box::pin(a_slice_that_breaks_is_named(ground.clone())),
        ),
        (
            "slices_that_break_together_are_told_as_one",
            Box::pin(slices_that_break_together_are_told_as_one(ground.clone())),
        ),
        (
            "an_alert_is_told_once_whoever_dies",
            Box::pin(an_alert_is_told_once_whoever_dies(ground.clone())),
        ),
        (
            "silence_is_heard_in_seconds",
            Box::pin(silence_is_heard_in_seconds(ground.clone())),
        ),
        (
            "a_broker_that_is_away_is_said_without_it",
            Box::pin(a_broker_that_is_away_is_said_without_it()),
        ),
        (
            "the_demo_tells_of_its_incident_once",
            Box::pin(the_demo_tells_of_its_incident_once()),
        ),
    ];
    let asked = std::env::var("SCENARIO").ok();
    let (begun, mut running, mut names) = (Instant::now(), JoinSet::new(), BTreeMap::new());
    let mut waiting = scenarios
        .into_iter()
        .filter(|(name, _)| asked.as_ref().is_none_or(|asked| asked == name));
    let mut failed = Vec::new();
    loop {
        while running.len() < AT_ONCE
            && let Some((name, scenario)) = waiting.next()
        {
            names.insert(running.spawn(scenario).id().to_string(), name);
        }
        let Some(ended) = running.join_next_with_id().await else {
            break;
        };
        let seconds = begun.elapsed().as_secs();
        match ended {
            Ok((id, ())) => println!("{} held, after {seconds} s", names[&id.to_string()]),
            Err(error) => {
                let name = names[&error.id().to_string()];
                println!("{name} failed, after {seconds} s");
                failed.push(name);
            }
        }
    }
    assert!(
        failed.is_empty(),
        "what failed, each with its reason above: {failed:?}"
    );
}

fn signal(process: &Process, name: &str) {
    let id = process.0.id().to_string();
    assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
}

/// Until a series this young can be judged.
const WARM: Duration = Duration::from_secs(75);
const MINUTE: Duration = Duration::from_secs(60);
const PAYMENTS: &str = "[[alert]]\nname = \"payments\"\nevent = \"pay\"\n";

async fn seconds(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

async fn an_alert_is_told_once_whoever_dies(ground: Arc<Ground>) {
    let stage = Stage::start(&ground, "told", PAYMENTS).await;
    let (first, log) = stage.watcher();
    leads(&log, 2 * MINUTE).await;
    let (second, second_log) = stage.watcher();
    tokio::time::sleep(WARM).await;
    // Both are told to listen on the same address.
    let said = std::fs::read_to_string(&second_log).unwrap();
    assert!(
        said.contains("[http] listen: cannot listen on") && said.contains("this process serves no metrics"),
        "{said}"
    );

    // The channel is unwell for a minute, and then the process dies while its message is taken.
    let id = first.0.id().to_string();
    let (mut unwell_since, mut has_died) = (None, false);
    stage.hook.answers(move |message| {
        let since: &mut Instant = unwell_since.get_or_insert_with(Instant::now);
        if since.elapsed() < MINUTE {
            return 500;
        }
        if !has_died && message["rule"] == "payments" {
            has_died = true;
            let _ = Command::new("kill").args(["-KILL", &id]).status();
        }
        200
    });
    stage.breaks_payments(&PLATFORMS);
    let id = stage
        .hook
        .wait("payments", "firing", Duration::from_secs(180))
        .await;
    // The other takes over, does not know that it was taken, and says so again, with the same id.
    leads(&second_log, MINUTE).await;
    stage.hook.wait_for(2, "payments", "firing", MINUTE).await;
    seconds(10).await;
    let taken = stage.hook.taken();
    assert!(taken.len() == 2 && taken[0] == taken[1], "{taken:?}");
    first.kill();

    // One that was told of is not told of again after a restart.
    second.kill();
    let (third, third_log) = stage.watcher();
    leads(&third_log, MINUTE).await;
    seconds(10).await;
    assert_eq!(stage.hook.taken().len(), 2, "{:?}", stage.hook.taken());

    // Somebody looks after it.
    let config = stage.data().join("watching.toml");
    let said = cambium(
        stage.data(),
        &["alerts", "ack", &id, "--config", config.to_str().unwrap()],
    );
    assert!(said.status.success(), "{said:?}");
    seconds(10).await;
    assert_eq!(stage.states().await, "\"payments\",\"acknowledged\"\n");

    stage.breaks_payments(&[]);
    let resolved = stage
        .hook
        .wait("payments", "resolved", Duration::from_secs(180))
        .await;
    assert_eq!(resolved, id);
    third.end();
    assert_eq!(stage.hook.taken().len(), 3, "{:?}", stage.hook.taken());
    assert_eq!(stage.states().await, "\"payments\",\"resolved\"\n");
}

async fn a_lag_is_no_drop() {
    let mut ground = Ground::start().await;
    let mut stage = Stage::start(&ground, "lag", PAYMENTS).await;
    let (watcher, log) = stage.watcher();
    leads(&log, 2 * MINUTE).await;
    tokio::time::sleep(WARM).await;

    // Nothing is counted for two minutes.
    let counting = stage.counting.take().unwrap();
    let paused = Instant::now();
    signal(&counting, "-STOP");
    let id = stage.hook.wait("pipeline: behind", "firing", MINUTE).await;
    tokio::time::sleep((2 * MINUTE).saturating_sub(paused.elapsed())).await;
    signal(&counting, "-CONT");
    let resolved = stage
        .hook
        .wait("pipeline: behind", "resolved", Duration::from_secs(120))
        .await;
    assert_eq!(resolved, id);
    seconds(20).await;
    assert_eq!(stage.hook.taken().len(), 2, "{:?}", stage.hook.taken());

    // ClickHouse is down for a minute.
    ground.clickhouse.take().unwrap().kill();
    let down = Instant::now();
    let id = stage
        .hook
        .wait("pipeline: clickhouse", "firing", Duration::from_secs(30))
        .await;
    tokio::time::sleep(MINUTE.saturating_sub(down.elapsed())).await;
    ground.serve();
    let resolved = stage
        .hook
        .wait("pipeline: clickhouse", "resolved", Duration::from_secs(120))
        .await;
    assert_eq!(resolved, id);
    seconds(20).await;
    assert_eq!(stage.hook.taken().len(), 4, "{:?}", stage.hook.taken());
    watcher.end();
    counting.end();
    let open = number(&stage.client(), "SELECT countIf(state != 'resolved') FROM alerts").await;
    assert_eq!(open.unwrap(), 0, "{}", stage.states().await);
}

async fn a_broker_that_is_away_is_said_without_it() {
    let mut ground = Ground::start().await;
    let stage = Stage::start(&ground, "broker", "").await;
    let (watcher, log) = stage.watcher();
    leads(&log, 2 * MINUTE).await;
    seconds(5).await;
    ground.kafka.kill().unwrap();
    let id = stage.hook.wait("pipeline: broker", "firing", MINUTE).await;
    tokio::task::block_in_place(|| ground.kafka.restart()).unwrap();
    let resolved = stage
        .hook
        .wait("pipeline: broker", "resolved", Duration::from_secs(90))
        .await;
    assert_eq!(resolved, id);
    let taken = stage.hook.taken();
    assert!(
        taken.iter().all(|(rule, ..)| rule == "pipeline: broker"),
        "{taken:?}"
    );
    watcher.end();
}

/// By the rules that are on where none is written.
async fn silence_is_heard_in_seconds(ground: Arc<Ground>) {
    let stage = Stage::start(&ground, "silence", "").await;
    let (watcher, log) = stage.watcher();
    leads(&log, 2 * MINUTE).await;
    // A whole minute must have been counted before it is known how long a pause may be.
    seconds(150).await;
    stage.falls_silent(true);
    let messages = stage.hook.wait_for(1, "silence", "firing", MINUTE).await;
    let (alert, last_ms) = (&messages[0], stage.last_ms());
    let id = alert["id"].as_str().unwrap();
    let detected_s = (alert["detected_at"].as_i64().unwrap() - last_ms) as f64 / 1000.0;
    let told_s = (stage.hook.taken_at(id) - last_ms) as f64 / 1000.0;
    println!("silence: detected {detected_s:.1} s after the last event, told after {told_s:.1} s");
    assert!(
        (3.0..=30.0).contains(&detected_s),
        "{detected_s} s after the last event: {alert}"
    );
    assert_eq!(alert["slice"], "app = shop");
    serves_what_it_sees(&stage).await;
    stage.falls_silent(false);
    let resolved = stage.hook.wait("silence", "resolved", 2 * MINUTE).await;
    assert_eq!(resolved, id);
    let taken = stage.hook.taken();
    let of_silence = taken.iter().filter(|(rule, ..)| rule == "silence");
    assert_eq!(of_silence.count(), 2, "{taken:?}");
    assert!(
        !taken.iter().any(|(rule, ..)| rule.starts_with("pipeline")),
        "{taken:?}"
    );
    watcher.end();
}

/// While silence is on.
async fn serves_what_it_sees(stage: &Stage) {
    for path in ["/healthz", "/readyz"] {
        let answer = stage.asked(path);
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    }
    let lines = [
        "cambium_alerts_leading 1\n",
        "cambium_alerts_held 0\n",
        "cambium_alerts{rule=\"silence\",state=\"firing\"} 1\n",
        "cambium_alerts{rule=\"silence\",state=\"acknowledged\"} 0\n",
        "cambium_alerts{rule=\"pipeline: behind\",state=\"firing\"} 0\n",
        "cambium_alerts{rule=\"pipeline: broker\",state=\"firing\"} 0\n",
        "cambium_alert_deliveries_total{channel=\"ops\",outcome=\"sent\"} ",
        "cambium_alert_looks_total{rule=\"silence\"} ",
    ];
    // What was sent is counted when the receiver has answered, which is after it has taken the message.
    let begun = Instant::now();
    loop {
        let metrics = stage.asked("/metrics");
        let Some(missing) = lines.iter().find(|line| !metrics.contains(**line)) else {
            return;
        };
        assert!(begun.elapsed() < Duration::from_secs(20), "{missing}: {metrics}");
        seconds(1).await;
    }
}

const BY_PLATFORM: &str = "by = [\"platform\"]\ncool_down = \"1 s\"\nresolve_after = \"10 s\"\n";

/// By the slice itself, or by the whole that says where most is missing.
async fn a_slice_that_breaks_is_named(ground: Arc<Ground>) {
    let stage = Stage::start(&ground, "slice", &format!("{PAYMENTS}{BY_PLATFORM}")).await;
    let (watcher, log) = stage.watcher();
    leads(&log, 2 * MINUTE).await;
    tokio::time::sleep(WARM).await;

    // A quarter is too little for the whole to tell; half is not.
    for (alerts, platform) in [(1, "web"), (2, "ios")] {
        stage.breaks_payments(&[platform]);
        let told = stage
            .hook
            .wait_for(alerts, "payments", "firing", 2 * MINUTE)
            .await;
        seconds(30).await;
        assert_eq!(
            stage.hook.messages_of("payments", "firing").len(),
            alerts,
            "{:?}",
            stage.hook.messages()
        );
        let slice = format!("app = shop, platform = {platform}");
        let alert = &told[alerts - 1];
        assert!(
            alert["slice"] == slice || alert["evidence"]["mostly"][0] == slice,
            "{alert}"
        );
        stage.breaks_payments(&[]);
        stage
            .hook
            .wait_for(alerts, "payments", "resolved", 3 * MINUTE)
            .await;
        // Nothing is left to be told when it is back.
        seconds(45).await;
        let taken = stage.hook.taken();
        assert_eq!(taken.len(), 2 * alerts, "{taken:?}");
    }
    watcher.end();
}

async fn slices_that_break_together_are_told_as_one(ground: Arc<Ground>) {
    let stage = Stage::start(&ground, "slices", &format!("{PAYMENTS}{BY_PLATFORM}")).await;
    let (watcher, log) = stage.watcher();
    leads(&log, 2 * MINUTE).await;
    tokio::time::sleep(WARM).await;
    stage.breaks_payments(&PLATFORMS);
    let told = stage.hook.wait_for(1, "payments", "firing", 2 * MINUTE).await;
    seconds(45).await;
    // Half of what is missing is missing on one platform.
    let firing = stage.hook.messages_of("payments", "firing");
    assert_eq!(firing.len(), 1, "{firing:?}");
    assert_eq!(told[0]["slice"], "app = shop", "{told:?}");
    assert_eq!(
        told[0]["evidence"]["mostly"][0], "app = shop, platform = ios",
        "{told:?}"
    );
    stage.breaks_payments(&[]);
    stage.hook.wait("payments", "resolved", 3 * MINUTE).await;
    // The slices have nothing to add when the whole is back.
    seconds(45).await;
    let taken = stage.hook.taken();
    assert_eq!(taken.len(), 2, "{taken:?}");
    watcher.end();
}

/// Queries of one's own, rolling users and sessions, each with a limit.
async fn any_number_is_watched(ground: Arc<Ground>) {
    let rules = r#"
        [[alert]]
        name = "dial"
        sql = "SELECT argMax(value, at) FROM dials WHERE name = 'queue'"
        high = 100
        resolve_after = "1 s"
        [[alert]]
        name = "dials"
        sql = "SELECT name, argMax(value, at) FROM dials WHERE name != 'queue' GROUP BY name"
        low = 10
        resolve_after = "1 s"
        [[alert]]
        name = "crowd"
        unique = "active"
        window = "5m"
        high = 2000
        resolve_after = "1 s"
        [[alert]]
        name = "sessions"
        session = "started"
        over = "1 min"
        high = 2000
        resolve_after = "1 s"
        "#;
    let stage = Stage::start(&ground, "numbers", rules).await;
    let client = stage.client();
    let begun = Instant::now();
    let create = "CREATE TABLE dials (at DateTime64(3) DEFAULT now64(3), name String, value Float64) \
                  ENGINE = MergeTree ORDER BY at";
    while let Err(error) = client.execute(create).await {
        assert!(begun.elapsed() < 2 * MINUTE, "{error:#}");
        seconds(1).await;
    }
    let turn = async |name: &str, value: i64| {
        let statement = format!("INSERT INTO dials (name, value) VALUES ('{name}', {value})");
        client.execute(&statement).await.unwrap();
    };
    for (name, value) in [("queue", 7), ("card", 50), ("cash", 60)] {
        turn(name, value).await;
    }
    let (watcher, log) = stage.watcher();
    leads(&log, 2 * MINUTE).await;
    tokio::time::sleep(WARM).await;
    assert!(stage.hook.taken().is_empty(), "{:?}", stage.hook.messages());

    turn("queue", 700).await;
    turn("cash", 6).await;
    stage.is_visited_by(4000);
    let of = async |rule: &str, state: &str, within: Duration| -> Value {
        stage.hook.wait_for(1, rule, state, within).await[0].clone()
    };
    let dial = of("dial", "firing", 3 * MINUTE).await;
    assert!(dial["value"] == 700.0 && dial["high"] == 100.0, "{dial}");
    let cash = of("dials", "firing", 3 * MINUTE).await;
    assert!(
        cash["slice"] == "cash" && cash["value"] == 6.0 && cash["low"] == 10.0,
        "{cash}"
    );
    for rule in ["crowd", "sessions"] {
        let alert = of(rule, "firing", 4 * MINUTE).await;
        assert!(
            alert["slice"] == "app = shop" && alert["value"].as_f64() > Some(2000.0),
            "{alert}"
        );
    }
    turn("queue", 8).await;
    turn("cash", 61).await;
    for (rule, within) in [("dial", 4), ("dials", 4), ("sessions", 5), ("crowd", 9)] {
        of(rule, "resolved", within * MINUTE).await;
    }
    let taken = stage.hook.taken();
    assert_eq!(taken.len(), 8, "each fires once and is over once: {taken:?}");
    watcher.end();
}

async fn the_demo_tells_of_its_incident_once() {
    let directory = tempfile::tempdir().unwrap();
    let hook = Hook::start();
    let mut command = Command::new(program());
    command
        .args(["demo", "--incident", "payments", "--webhook", &hook.url])
        .current_dir(directory.path())
        .stdout(std::fs::File::create(directory.path().join("out")).unwrap());
    let demo = Process::start(&mut command);
    let id = hook.wait("payments", "firing", Duration::from_secs(180)).await;
    let resolved = hook.wait("payments", "resolved", Duration::from_secs(180)).await;
    assert_eq!(resolved, id);
    let messages = hook.messages();
    assert_eq!(messages.len(), 2, "{messages:?}");
    let said = std::fs::read_to_string(directory.path().join("out")).unwrap();
    let broke = said
        .split("Payments break at ")
        .nth(1)
        .unwrap()
        .split(' ')
        .next()
        .unwrap();
    let broke_at: i64 = jiff_ms(broke);
    let detected_at = messages[0]["detected_at"].as_i64().unwrap();
    println!(
        "the first payment was lost at {broke}; the alert fired {} s later",
        (detected_at - broke_at) / 1000
    );
    assert!(
        detected_at > broke_at,
        "fired before anything broke: {messages:?}"
    );
    demo.end();
}

/// Milliseconds of an instant as `date` reads it.
fn jiff_ms(instant: &str) -> i64 {
    let output = Command::new("date")
        .args(["-d", instant, "+%s"])
        .output()
        .unwrap();
    String::from_utf8(output.stdout)
        .unwrap()
        .trim()
        .parse::<i64>()
        .unwrap()
        * 1000
}
