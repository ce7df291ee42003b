//! What a running flush leaves, and what waits until users have settled.

use cambium_engine::Rows;
use cambium_event::Record;

use super::case::{begin, setup};

fn tables(rows: &Rows) -> Vec<&str> {
    let mut tables: Vec<&str> = rows.tables.iter().map(|rows| rows.table.name).collect();
    tables.sort_unstable();
    tables
}

/// Its rows would bear a version up to which they are not true: not all who owe some have left theirs.
#[test]
fn what_users_owe_is_in_no_running_flush() {
    let text = "[[funnel]]\nname = \"f\"\nsteps = [\"e\", \"e\"]\nwithin = \"1 h\"\n";
    let mut partition = begin(0, &setup(text));
    for (offset, user) in ["u", "u", "v", "v"].into_iter().enumerate() {
        let time = 1_700_006_400_000 + offset;
        let payload = format!(r#"{{"app":"s","event":"e","user_id":"{user}","timestamp":{time}}}"#);
        let record = Record {
            offset: offset as i64,
            payload: Some(payload.as_bytes()),
            ..Record::default()
        };
        partition.apply(&record).unwrap();
    }
    partition.settle_some(1).unwrap();
    let running = partition.flush_running();
    let running = tables(&running);
    assert!(running.contains(&"count_rows"), "{running:?}");
    let owed = ["funnel_arrivals", "funnel_time_rows", "session_rows"];
    assert!(!running.iter().any(|table| owed.contains(table)), "{running:?}");
    let settled = partition.settle().unwrap();
    let settled = tables(&settled);
    assert!(owed.iter().all(|table| settled.contains(table)), "{settled:?}");
}
