//! The model of ClickHouse against ClickHouse: the same inserts in the same order, the same rows.

use std::collections::{BTreeMap, BTreeSet};

use cambium_clickhouse::{Client, Tables, migrate};
use cambium_engine::Rows;
use serde_json::{Value as Json, json};

use super::model::{Model, Row, Value};
use super::property::{Seen, live_through};
use crate::live::{client, engine};

const HISTORIES: u64 = 200;
const SETS: [(&str, &str); 3] = [
    ("count_arrivals", "count_sets"),
    ("unique_arrivals", "unique_sets"),
    ("funnel_arrivals", "funnel_sets"),
];

#[tokio::test]
async fn the_model_keeps_what_the_engine_keeps() {
    let data = tempfile::tempdir().unwrap();
    let engine = engine(data.path());
    let client = client(engine.url());
    migrate(&client).await.unwrap();
    let models: Vec<Model> = (0..HISTORIES)
        .map(|seed| live_through(seed, &mut Seen::default()).1)
        .collect();
    // The histories have topics of their own and do not meet: the first inserts of all go together,
    // then the second ones, so that each keeps its order.
    let longest = models.iter().map(|model| model.inserted.len()).max().unwrap();
    for turn in 0..longest {
        let mut rows = Rows::default();
        for one in models.iter().filter_map(|model| model.inserted.get(turn)) {
            rows.append(one.clone());
        }
        client.write(&rows).await.unwrap();
    }
    compare(&models, &client).await;
}

async fn compare(models: &[Model], client: &Client) {
    let written = models
        .iter()
        .flat_map(|model| &model.inserted)
        .flat_map(|rows| &rows.tables);
    let tables: BTreeMap<&str, _> = written.map(|rows| (rows.table.name, rows.table)).collect();
    for (name, table) in &tables {
        let row_text = |row: &Row| {
            Json::from_iter(table.columns.iter().map(|(column, _)| shown(row, column))).to_string()
        };
        let expected: BTreeSet<String> = models
            .iter()
            .flat_map(|model| model.rows(name))
            .map(row_text)
            .collect();
        if let Some((_, sets)) = SETS.iter().find(|(arrivals, _)| arrivals == name) {
            compare_sets(&expected, sets, client).await;
            continue;
        }
        let columns: Vec<String> = table
            .columns
            .iter()
            .map(|(column, kind)| selected(column, kind))
            .collect();
        let query = format!("SELECT [{}] AS row FROM {name} FINAL", columns.join(", "));
        let found: BTreeSet<String> = client
            .rows(&query)
            .await
            .unwrap()
            .into_iter()
            .map(|row| row["row"].to_string())
            .collect();
        let missing: Vec<_> = expected.difference(&found).take(3).collect();
        let unexpected: Vec<_> = found.difference(&expected).take(3).collect();
        assert!(
            missing.is_empty() && unexpected.is_empty(),
            "{name}: {missing:?} are not there, {unexpected:?} are"
        );
    }
}

/// A set has as many members as distinct rows were written; that few are counted exactly.
async fn compare_sets(members: &BTreeSet<String>, sets: &str, client: &Client) {
    let by = "definition, app, bucket, day, platform, app_version, channel, campaign, country, properties";
    let more = match sets {
        "count_sets" => "event",
        "unique_sets" => "grain",
        _ => "step",
    };
    let query = format!(
        "SELECT sum(n) AS n FROM (SELECT uniqCombined64Merge(users) AS n FROM {sets} GROUP BY {by}, {more})"
    );
    let rows = client.rows(&query).await.unwrap();
    assert_eq!(rows[0]["n"].as_u64(), Some(members.len() as u64), "{sets}");
}

/// A column as text, as the model has it.
fn selected(column: &str, kind: &str) -> String {
    match kind {
        "DateTime('UTC')" => format!("toString(toUnixTimestamp({column}))"),
        "Date" => format!("toString(toUInt16({column}))"),
        "DateTime64(3, 'UTC')" => format!("toString(toUnixTimestamp64Milli({column}))"),
        "Array(DateTime('UTC'))" => format!("toString(arrayMap(one -> toUnixTimestamp(one), {column}))"),
        _ => format!("toString({column})"),
    }
}

fn shown(row: &Row, column: &str) -> Json {
    json!(match &row[column] {
        Value::Number(number) => number.to_string(),
        Value::Text(text) => text.clone(),
        Value::List(list) => {
            format!(
                "[{}]",
                list.iter().map(i128::to_string).collect::<Vec<_>>().join(",")
            )
        }
        Value::Map(map) => {
            let pairs: Vec<String> = map
                .iter()
                .map(|(key, value)| format!("'{key}':'{value}'"))
                .collect();
            format!("{{{}}}", pairs.join(","))
        }
    })
}
