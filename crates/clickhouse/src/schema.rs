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

static FILES: [(&str, &str); 99] = [
    file!("010_definition_rows.sql"),
    file!("011_definition_generations.sql"),
    file!("011_definition_names.sql"),
    file!("011_definition_states.sql"),
    file!("012_origin_rows.sql"),
    file!("013_record_rows.sql"),
    file!("014_progress_rows.sql"),
    file!("015_rejected_rows.sql"),
    file!("016_gap_rows.sql"),
    file!("017_event_rows.sql"),
    file!("018_alert_rows.sql"),
    file!("018_event_epoch.sql"),
    file!("018_progress_last_record.sql"),
    file!("018_rejected_epoch.sql"),
    file!("019_alert_sample_rows.sql"),
    file!("020_count_rows.sql"),
    file!("021_count_sets.sql"),
    file!("022_count_arrivals.sql"),
    file!("023_count_arrivals_to_sets.sql"),
    file!("024_unique_sets.sql"),
    file!("025_unique_arrivals.sql"),
    file!("026_unique_arrivals_to_sets.sql"),
    file!("027_rolling_rows.sql"),
    file!("028_session_rows.sql"),
    file!("031_funnel_sets.sql"),
    file!("032_funnel_arrivals.sql"),
    file!("033_funnel_arrivals_to_sets.sql"),
    file!("034_funnel_rows.sql"),
    file!("035_funnel_time_rows.sql"),
    file!("040_retention_cohort_rows.sql"),
    file!("041_retention_return_rows.sql"),
    file!("042_lifecycle_rows.sql"),
    file!("043_stickiness_rows.sql"),
    file!("044_active_day_rows.sql"),
    file!("045_activation_rows.sql"),
    file!("046_streak_rows.sql"),
    file!("047_longest_streak_rows.sql"),
    file!("048_new_user_rows.sql"),
    file!("049_attribution_rows.sql"),
    file!("050_churn_user_rows.sql"),
    file!("050_churn_user_written.sql"),
    file!("051_churn_rows.sql"),
    file!("052_costs.sql"),
    file!("053_point_rows.sql"),
    file!("054_point_user_rows.sql"),
    file!("055_level_rows.sql"),
    file!("056_level_user_rows.sql"),
    file!("057_badge_rows.sql"),
    file!("058_badge_user_rows.sql"),
    file!("059_published_rows.sql"),
    file!("060_count_device_rows.sql"),
    file!("061_unique_device_rows.sql"),
    file!("062_link_rows.sql"),
    file!("099_called.sql"),
    file!("100_shown.sql"),
    file!("101_definitions.sql"),
    file!("102_origins.sql"),
    file!("103_records.sql"),
    file!("104_progress.sql"),
    file!("105_rejected_events.sql"),
    file!("106_gaps.sql"),
    file!("107_events.sql"),
    file!("108_alerts.sql"),
    file!("108_partition_clocks.sql"),
    file!("109_definition_clocks.sql"),
    file!("109_origin_clocks.sql"),
    file!("110_event_counts.sql"),
    file!("111_unique_users.sql"),
    file!("112_active_users.sql"),
    file!("113_rolling_windows.sql"),
    file!("114_rolling_since.sql"),
    file!("114_rolling_users.sql"),
    file!("115_rolling_users_now.sql"),
    file!("116_sessions.sql"),
    file!("120_funnel_hours.sql"),
    file!("121_funnel_users.sql"),
    file!("122_funnels.sql"),
    file!("130_retention.sql"),
    file!("131_lifecycle.sql"),
    file!("132_stickiness.sql"),
    file!("133_active_days.sql"),
    file!("134_activation.sql"),
    file!("135_streaks.sql"),
    file!("136_longest_streaks.sql"),
    file!("137_new_users.sql"),
    file!("138_attribution.sql"),
    file!("138_earned_points.sql"),
    file!("139_churn_risk.sql"),
    file!("140_churn.sql"),
    file!("141_channel_costs.sql"),
    file!("142_points.sql"),
    file!("143_point_balances.sql"),
    file!("144_levels.sql"),
    file!("145_level_changes.sql"),
    file!("146_level_history.sql"),
    file!("147_user_levels.sql"),
    file!("148_badges.sql"),
    file!("149_user_badges.sql"),
    file!("150_links.sql"),
];

/// A table, as its file describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Described {
    pub name: &'static str,
    text: &'static str,
}

impl Described {
    pub fn has_column(&self, column: &str) -> bool {
        let mut names = self
            .text
            .lines()
            .filter_map(|line| line.strip_prefix("    ")?.split(' ').next());
        names.any(|name| name == column)
    }

    /// The key by which rows are spread over the shards of a cluster: it keeps all versions of a row, and all rows of a
    /// user, on one. A table that has none is small, and whole on every server, so that views can ask it beside the
    /// others.
    pub(crate) fn sharded_by(&self) -> Option<&'static str> {
        self.says("-- Sharded by ")
    }

    /// For how long rows are held unless `[keep]` has a line for the table: as long as which of its keys says, and by
    /// which time.
    pub(crate) fn held_as(&self) -> Option<(&'static str, &'static str)> {
        self.says("-- Held as ")?.split_once(", by ")
    }

    fn says(&self, start: &str) -> Option<&'static str> {
        self.text.lines().find_map(|line| line.strip_prefix(start))
    }
}

const CREATE: &str = "CREATE TABLE IF NOT EXISTS ";

/// All tables, in the order of their files.
pub fn tables() -> impl Iterator<Item = Described> {
    FILES.iter().filter_map(|(_, text)| {
        let name = text.lines().find_map(|line| line.strip_prefix(CREATE))?;
        Some(Described { name, text })
    })
}

/// The tables that have all of these columns.
pub fn tables_with(columns: &[&str]) -> Vec<&'static str> {
    let with = tables().filter(|table| columns.iter().all(|column| table.has_column(column)));
    with.map(|table| table.name).collect()
}

fn sharded_by(table: &str) -> Option<&'static str> {
    tables().find(|one| one.name == table)?.sharded_by()
}

pub(crate) fn is_sharded(table: &str) -> bool {
    sharded_by(table).is_some()
}

/// The statements of all files, in order, as they are for one server, or for a cluster.
pub fn statements(cluster: Option<&str>) -> Vec<(&'static str, String)> {
    let mut all = Vec::new();
    for (name, text) in FILES {
        let statement: Vec<&str> = text.lines().filter(|line| !line.starts_with("--")).collect();
        let statement = statement.join("\n");
        let statement = statement.trim().trim_end_matches(';');
        match cluster {
            None => all.push((name, statement.to_owned())),
            Some(cluster) => {
                let made = for_cluster(statement, &cluster.replace('\'', "\\'"));
                all.extend(made.into_iter().map(|statement| (name, statement)));
            }
        }
    }
    all
}

/// On a cluster every statement runs on all of its servers. A table is replicated; one that is sharded is
/// stored under another name, and its own name is the whole of it.
fn for_cluster(statement: &str, cluster: &str) -> Vec<String> {
    let (first, rest) = statement.split_once('\n').unwrap_or((statement, ""));
    let on = format!(" ON CLUSTER '{cluster}'");
    if let Some(table) = first.strip_prefix(CREATE) {
        let Some(key) = sharded_by(table) else {
            let engine = replicated(rest, "/clickhouse/tables/{database}/{table}", "{shard}-{replica}");
            return vec![format!("{first}{on}\n{engine}")];
        };
        let engine = replicated(rest, "/clickhouse/tables/{database}/{table}/{shard}", "{replica}");
        return vec![
            format!("{first}_local{on}\n{engine}"),
            format!(
                "{first}{on} AS {table}_local\nENGINE = Distributed('{cluster}', currentDatabase(), '{table}_local', {key})"
            ),
        ];
    }
    if let Some((create, to)) = first.split_once(" TO ") {
        // What arrives on a shard stays there.
        let to = to.replace(" AS", "_local AS");
        let rest = rest.replace("_arrivals", "_arrivals_local");
        return vec![format!("{create}{on} TO {to}\n{rest}")];
    }
    if let Some(table) = first
        .strip_prefix("ALTER TABLE ")
        .filter(|table| is_sharded(table))
    {
        // What is stored has a key; its whole has columns alone.
        let columns = rest
            .lines()
            .find(|line| line.contains("ADD COLUMN"))
            .unwrap_or(rest);
        return vec![
            format!("ALTER TABLE {table}_local{on}\n{rest}"),
            format!("{first}{on}\n{}", columns.trim_end_matches(',')),
        ];
    }
    let first = match first.strip_suffix(" AS") {
        Some(create) => format!("{create}{on} AS"),
        None => format!("{first}{on}"),
    };
    vec![format!("{first}\n{rest}")]
}

/// The engine's replicated form, at a path of Keeper and under a name there.
fn replicated(rest: &str, path: &str, replica: &str) -> String {
    let mut text = rest.to_owned();
    for engine in ["ReplacingMergeTree", "AggregatingMergeTree"] {
        let at = format!("Replicated{engine}('{path}', '{replica}'");
        text = text
            .replace(&format!("ENGINE = {engine}("), &format!("ENGINE = {at}, "))
            .replace(&format!("ENGINE = {engine}\n"), &format!("ENGINE = {at})\n"));
    }
    text
}

/// Creates the database and brings its tables and views up to this release.
pub async fn migrate(client: &Client) -> Result<()> {
    client.create_database().await?;
    for (name, statement) in statements(client.cluster()) {
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
    fn on_a_cluster_tables_are_replicated_and_the_large_ones_sharded() {
        let all = statements(Some("main"));
        for (name, statement) in &all {
            assert!(statement.contains("ON CLUSTER 'main'"), "{name}: {statement}");
            assert!(!statement.contains("ENGINE = ReplacingMergeTree"), "{name}");
        }
        for table in tables_with(&["user", "version"]) {
            assert!(is_sharded(table), "{table} grows with the users of all");
        }
        for table in tables().map(|table| table.name).filter(|table| is_sharded(table)) {
            let made = |start: &str| all.iter().filter(|(_, text)| text.starts_with(start)).count();
            let stored = format!("CREATE TABLE IF NOT EXISTS {table}_local ON CLUSTER");
            let whole = format!("CREATE TABLE IF NOT EXISTS {table} ON CLUSTER 'main' AS {table}_local");
            assert_eq!((made(&stored), made(&whole)), (1, 1), "{table}");
        }
        let altered = |start: &str| all.iter().find(|(_, text)| text.starts_with(start)).unwrap();
        let (_, stored) = altered("ALTER TABLE event_rows_local ON CLUSTER 'main'");
        let (_, whole) = altered("ALTER TABLE event_rows ON CLUSTER 'main'");
        assert!(
            stored.contains("ADD COLUMN") && stored.contains("MODIFY ORDER BY"),
            "{stored}"
        );
        assert!(
            whole.ends_with("ADD COLUMN IF NOT EXISTS epoch UInt16"),
            "{whole}"
        );
        let views: Vec<_> = all.iter().filter(|(_, text)| text.contains(" TO ")).collect();
        assert_eq!(views.len(), 3);
        for (name, view) in views {
            assert!(
                view.contains("_sets_local AS") && view.ends_with("_arrivals_local"),
                "{name}: {view}"
            );
        }
    }
}
