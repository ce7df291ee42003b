//! Who was not seen for longer than the horizon is forgotten, but for what a later event may ask: no number tells.

use cambium_clickhouse::tables_with;
use cambium_event::Record;
use fastrand::Rng;

use super::case::{Case, MINUTE, begin, setup};
use super::model::{Model, Row};

const CASES: u64 = 150;

/// The rows of a case, and how many bytes are known of users in the end.
fn count(case: &Case, horizon: &str) -> (Model, usize) {
    let text = case
        .configuration
        .replacen("[time]\n", &format!("[time]\nhorizon = \"{horizon}\"\n"), 1);
    let setup = setup(&text);
    let (mut model, mut bytes) = (Model::new(), 0);
    for number in 0..case.partitions {
        let mut partition = begin(number, &setup);
        for record in case.records.iter().filter(|record| record.partition == number) {
            let applied = partition.apply(&Record {
                offset: record.offset,
                timestamp: record.timestamp,
                payload: Some(&record.payload),
                ..Record::default()
            });
            applied.unwrap();
            if record.offset % 4 == 0 {
                model.insert(&partition.flush().unwrap());
            }
        }
        model.insert(&partition.flush().unwrap());
        let users = partition.capture().unwrap().users;
        bytes += users
            .into_iter()
            .filter_map(|(.., state)| state)
            .map(|state| state.len())
            .sum::<usize>();
    }
    (model, bytes)
}

/// What views show: whatever the version.
fn shown(model: &Model, table: &str) -> Vec<Row> {
    let rows = model.rows(table).into_iter().cloned();
    let rows = rows.map(|mut row| {
        row.remove("version");
        row
    });
    rows.collect()
}

#[test]
fn who_is_forgotten_comes_back_as_whom_they_were() {
    let (mut most, mut least) = (0, 0);
    for seed in 0..CASES {
        let case = Case::new(&mut Rng::with_seed(seed));
        // A client's own session, and a user's place in a window of thirty days, end with what is known of the user. Devices are
        // remembered for as long as a link may reach them, which the horizon may not be shorter than.
        if case.sessions.client_ids || case.rules.link_within_ms.is_some() {
            continue;
        }
        let (known, all) = count(&case, "400 days");
        let (short, left) = count(&case, "24 h");
        (most, least) = (most + all, least + left);
        let mut tables = tables_with(&["definition", "origin", "version"]);
        tables.extend(["count_arrivals", "unique_arrivals", "funnel_arrivals"]);
        for table in tables.into_iter().filter(|table| *table != "rolling_rows") {
            assert_eq!(shown(&short, table), shown(&known, table), "seed {seed}: {table}");
        }
    }
    assert!(least < most, "of {most} bytes {least} are left");
}

/// How many sessions a client's own session is, with events at these minutes of one day.
fn sessions(minutes: &[i64]) -> usize {
    let text = "[time]\nlateness = \"1 h\"\nhorizon = \"2 h\"\n[session]\nid = \"client\"\n";
    let mut partition = begin(0, &setup(text));
    for (offset, minute) in minutes.iter().enumerate() {
        let time = 1_700_006_400_000 + minute * MINUTE;
        let payload =
            format!(r#"{{"app":"s","event":"e","user_id":"u","session_id":"s","timestamp":{time}}}"#);
        let record = Record {
            offset: offset as i64,
            payload: Some(payload.as_bytes()),
            ..Record::default()
        };
        partition.apply(&record).unwrap();
    }
    let mut model = Model::new();
    model.insert(&partition.flush().unwrap());
    model.rows("session_rows").len()
}

/// Whether they were forgotten already or not, which is done once a day.
#[test]
fn who_comes_back_after_the_horizon_is_new() {
    for (minutes, expected) in [
        ([0, 120].as_slice(), 1),
        (&[0, 121], 2),
        (&[0, 120, 240], 1),
        (&[0, 121, 240, 361], 3),
    ] {
        assert_eq!(sessions(minutes), expected, "{minutes:?}");
    }
}
