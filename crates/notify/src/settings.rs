//! What is watched, who is told, and where everything is.

use std::collections::BTreeMap;

use cambium_alerts::{Direction, Kind, Metric, Options, Rule, Severity};
use cambium_kafka::Place;
use jiff::tz::TimeZone;

use crate::Channel;

/// Everything that running alerts needs to know.
#[derive(Clone)]
pub struct Settings {
    pub rules: Vec<Rule>,
    pub channels: Vec<Channel>,
    /// Apps whose zone is not UTC.
    pub zones: BTreeMap<String, TimeZone>,
    /// The topics whose progress says whether the numbers are those of now.
    pub topics: Vec<String>,
    pub journal: Place,
    /// What the event counts keep, for `where` and `by`.
    pub counted_by: Vec<String>,
    /// A session is over when nothing came for so long.
    pub session_gap_ms: i64,
    /// For each funnel, the step that each step's share is of; both from 1.
    pub steps_before: BTreeMap<String, Vec<u8>>,
}

impl Settings {
    pub fn zone(&self, app: &str) -> TimeZone {
        self.zones.get(app).cloned().unwrap_or(TimeZone::UTC)
    }

    pub(crate) fn rule(&self, name: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.name == name)
    }

    /// The channels that a rule tells.
    pub(crate) fn channels_of<'s>(&'s self, rule: Option<&'s Rule>) -> impl Iterator<Item = &'s Channel> {
        let named = rule.and_then(|rule| rule.channels.as_ref());
        self.channels
            .iter()
            .filter(move |channel| named.is_none_or(|named| named.contains(&channel.name)))
    }
}

pub(crate) const BEHIND: &str = "pipeline: behind";
pub(crate) const CLICKHOUSE: &str = "pipeline: clickhouse";
pub(crate) const BROKER: &str = "pipeline: broker";
pub(crate) const REJECTED: &str = "pipeline: rejected";
pub(crate) const CLOCKS: &str = "pipeline: clocks";

/// The rules over Cambium's own health, which are always on.
pub fn pipeline_rules() -> Vec<Rule> {
    [
        (BEHIND, Severity::Critical),
        (CLICKHOUSE, Severity::Critical),
        (BROKER, Severity::Critical),
        (REJECTED, Severity::Error),
        (CLOCKS, Severity::Warning),
    ]
    .into_iter()
    .map(|(name, severity)| {
        let mut options = Options::new(Kind::Threshold);
        options.direction = Direction::Rise;
        Rule {
            name: name.to_owned(),
            apps: Vec::new(),
            metric: Metric::Pipeline,
            filter: None,
            by: Vec::new(),
            options,
            over_ms: None,
            min_expected: 0.0,
            cool_down_ms: 60_000,
            resolve_after_ms: 10_000,
            severity,
            channels: None,
            quiet_hours: None,
            link: String::new(),
        }
    })
    .collect()
}
