//! A rule over what ClickHouse still has: when it would have fired.

use std::collections::BTreeMap;

use anyhow::Result;
use cambium_alerts::{Alert, Judgement, Rule, State};
use cambium_clickhouse::Client;

use crate::Settings;
use crate::lines::Group;
use crate::register::Register;

/// One series of a rule, judged bucket by bucket.
#[derive(Clone, Debug, Default)]
pub struct Judged {
    /// '' the whole.
    pub slice: String,
    /// The end of each bucket, what was made of it, and whether an alert was on.
    pub points: Vec<(i64, Judgement, bool)>,
    /// The alerts that there would have been.
    pub alerts: Vec<Alert>,
}

/// Runs a rule over the buckets from one instant to before another; `step` is called with how many of how many are
/// done.
///
/// # Errors
/// Where ClickHouse cannot be asked.
pub async fn history(
    client: &Client,
    settings: &Settings,
    rule: &Rule,
    (from_ms, to_ms): (i64, i64),
    mut step: impl FnMut(u64, u64),
) -> Result<Vec<Judged>> {
    let mut all = Vec::new();
    let groups = Group::of(rule, settings);
    let count = groups.len() as u64;
    for (place, mut group) in groups.into_iter().enumerate() {
        let mut series: BTreeMap<String, Judged> = BTreeMap::new();
        let judged = group
            .replay(
                client,
                settings,
                &Register::default(),
                (from_ms, to_ms),
                |judged| {
                    let one = series.entry(judged.slice.to_owned()).or_default();
                    one.slice = judged.slice.to_owned();
                    if let Some(look) = judged.verdict.telling() {
                        one.points.push((judged.at_ms, look.judgement, judged.is_on));
                    }
                    if let Some(alert) = judged.changed {
                        note(&mut one.alerts, alert);
                    }
                    step(place as u64 * 1000 + judged.permille, count * 1000);
                },
            )
            .await;
        judged?;
        all.extend(series.into_values());
    }
    Ok(all)
}

/// The newest state of each alert; what came to nothing is left out.
fn note(alerts: &mut Vec<Alert>, alert: Alert) {
    alerts.retain(|known| known.id != alert.id);
    if alert.state != State::Forgotten {
        alerts.push(alert);
    }
}
