//! Tables and views: the SQL files, applied in the order of their names. All of them may be applied
//! again at any time, by whoever comes first.

use anyhow::{Context, Result};

use crate::Client;

/// Name and text of every file under `schemas/clickhouse`; a test compares it with the directory.
macro_rules! file {
    ($name:literal) => {
        (
            $name,
            include_str!(concat!("../../../schemas/clickhouse/", $name)),
        )
    };
}

static FILES: [(&str, &str); 38] = [
    file!("010_definition_rows.sql"),
    file!("011_definition_states.sql"),
    file!("012_origin_rows.sql"),
    file!("013_record_rows.sql"),
    file!("014_progress_rows.sql"),
    file!("015_rejected_rows.sql"),
    file!("016_gap_rows.sql"),
    file!("020_count_rows.sql"),
    file!("021_count_sets.sql"),
    file!("022_count_members.sql"),
    file!("023_count_members_to_sets.sql"),
    file!("024_unique_sets.sql"),
    file!("025_unique_members.sql"),
    file!("026_unique_members_to_sets.sql"),
    file!("027_rolling_rows.sql"),
    file!("028_session_rows.sql"),
    file!("031_funnel_sets.sql"),
    file!("032_funnel_members.sql"),
    file!("033_funnel_members_to_sets.sql"),
    file!("034_funnel_rows.sql"),
    file!("035_funnel_time_rows.sql"),
    file!("100_shown.sql"),
    file!("101_definitions.sql"),
    file!("102_origins.sql"),
    file!("103_records.sql"),
    file!("104_progress.sql"),
    file!("105_rejected_events.sql"),
    file!("106_gaps.sql"),
    file!("110_event_counts.sql"),
    file!("111_unique_users.sql"),
    file!("112_active_users.sql"),
    file!("113_rolling_windows.sql"),
    file!("114_rolling_users.sql"),
    file!("115_rolling_users_now.sql"),
    file!("116_sessions.sql"),
    file!("120_funnel_hours.sql"),
    file!("121_funnel_users.sql"),
    file!("122_funnels.sql"),
];

/// The statements of all files, in order, as they are for one server, or for a cluster.
pub fn statements(cluster: Option<&str>) -> Vec<(&'static str, String)> {
    FILES
        .iter()
        .map(|(name, text)| (*name, for_cluster(text, cluster)))
        .collect()
}

/// On a cluster every statement runs on all of its servers, and tables are replicated.
fn for_cluster(text: &str, cluster: Option<&str>) -> String {
    let statement: Vec<&str> = text.lines().filter(|line| !line.starts_with("--")).collect();
    let statement = statement.join("\n");
    let statement = statement.trim().trim_end_matches(';').to_owned();
    let Some(cluster) = cluster else { return statement };
    let (first, rest) = statement.split_once('\n').unwrap_or((&statement, ""));
    let on = format!(" ON CLUSTER '{}'", cluster.replace('\'', "\\'"));
    let first = match first.split_once(" TO ") {
        Some((create, to)) => format!("{create}{on} TO {to}"),
        None => match first.strip_suffix(" AS") {
            Some(create) => format!("{create}{on} AS"),
            None => format!("{first}{on}"),
        },
    };
    format!("{first}\n{rest}")
        .replace(
            "ENGINE = ReplacingMergeTree",
            "ENGINE = ReplicatedReplacingMergeTree",
        )
        .replace(
            "ENGINE = AggregatingMergeTree",
            "ENGINE = ReplicatedAggregatingMergeTree",
        )
}

/// Creates the database and brings its tables and views up to this release.
pub async fn migrate(client: &Client, cluster: Option<&str>) -> Result<()> {
    client.create_database(cluster).await?;
    for (name, statement) in statements(cluster) {
        client
            .execute(&statement)
            .await
            .with_context(|| format!("schemas/clickhouse/{name} failed"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_applied() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../../schemas/clickhouse");
        let mut found: Vec<String> = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        found.sort();
        assert_eq!(found, FILES.map(|(name, _)| name.to_owned()));
    }

    #[test]
    fn a_cluster_gets_replicated_tables_on_all_servers() {
        for (name, statement) in statements(Some("main")) {
            assert!(statement.contains("ON CLUSTER 'main'"), "{name}: {statement}");
            assert!(!statement.contains("ENGINE = ReplacingMergeTree"), "{name}");
        }
    }
}
