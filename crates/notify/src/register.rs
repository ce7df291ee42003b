//! What is known of alerts: as the journal has it, and as ClickHouse shows it.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use cambium_alerts::{Alert, Delivery, State, Tracker};
use cambium_clickhouse::{Client, Tables};
use cambium_engine::{Rows, Table};
use cambium_kafka::JournalEntry;
use serde::{Deserialize, Serialize};

use crate::Settings;

static ALERTS: Table = Table {
    name: "alert_rows",
    columns: &[
        ("id", "String"),
        ("version", "UInt64"),
        ("deleted", "UInt8"),
        ("rule", "String"),
        ("slice", "String"),
        ("state", "LowCardinality(String)"),
        ("severity", "LowCardinality(String)"),
        ("value", "Nullable(Float64)"),
        ("expected", "Nullable(Float64)"),
        ("low", "Nullable(Float64)"),
        ("high", "Nullable(Float64)"),
        ("started_at", "DateTime64(3, 'UTC')"),
        ("detected_at", "DateTime64(3, 'UTC')"),
        ("resolved_at", "Nullable(DateTime64(3, 'UTC'))"),
        ("evidence", "String"),
    ],
};

/// An entry of the journal, which other programs may read too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "lowercase")]
pub enum Entry {
    /// An alert as it is from here on.
    Alert(Box<Alert>),
    /// Somebody looks after an alert.
    Acknowledge { id: String },
    /// Nobody is told of a rule's alerts until then.
    Silence(Silence),
    /// Who evaluates from here on.
    Leader { name: String },
}

impl Entry {
    /// The newest entry of a key is the one that holds.
    pub fn key(&self) -> String {
        match self {
            Entry::Alert(alert) => format!("alert {}", alert.id),
            Entry::Acknowledge { id } => format!("acknowledge {id}"),
            Entry::Silence(silence) => format!(
                "silence {} {}",
                silence.rule,
                silence.slice.as_deref().unwrap_or("")
            ),
            Entry::Leader { .. } => "leader".to_owned(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Silence {
    pub rule: String,
    /// Left out: all slices.
    pub slice: Option<String>,
    /// Milliseconds since 1970.
    pub until: i64,
}

/// Resolved alerts are remembered for so long, for their cool-down.
const REMEMBER_MS: i64 = 7 * 86_400_000;

#[derive(Default)]
pub(crate) struct Register {
    alerts: BTreeMap<String, (Alert, u64)>,
    silences: BTreeMap<String, Silence>,
    /// Alerts that ClickHouse does not have as they are now.
    unwritten: BTreeMap<String, ()>,
    /// The last to take over.
    pub leader: Option<String>,
}

impl Register {
    /// Takes an entry of the journal; gives an alert whose state it changed.
    pub fn take(&mut self, entry: &JournalEntry) -> Option<Alert> {
        let read: Entry = match serde_json::from_slice(&entry.payload) {
            Ok(read) => read,
            Err(error) => {
                tracing::warn!(
                    "the alerts' journal, offset {}: {error}; it is passed over",
                    entry.offset
                );
                return None;
            }
        };
        match read {
            Entry::Alert(alert) => {
                self.unwritten.insert(alert.id.clone(), ());
                self.alerts
                    .insert(alert.id.clone(), (*alert, entry.offset.max(0) as u64 + 1));
            }
            Entry::Leader { name } => self.leader = Some(name),
            Entry::Silence(silence) => {
                let key = Entry::Silence(silence.clone()).key();
                self.silences.insert(key, silence);
            }
            Entry::Acknowledge { id } => {
                let (alert, _) = self.alerts.get(&id)?;
                if alert.state == State::Firing {
                    let mut alert = alert.clone();
                    alert.state = State::Acknowledged;
                    return Some(alert);
                }
            }
        }
        None
    }

    /// What is known of a slice's last alert.
    pub fn tracker(&self, rule: &str, slice: &str) -> Tracker {
        let of_slice =
            self.alerts.values().map(|(alert, _)| alert).filter(|alert| {
                alert.rule == rule && alert.slice == slice && alert.state != State::Forgotten
            });
        let last = of_slice.max_by_key(|alert| alert.detected_at);
        last.map_or_else(Tracker::default, |alert| Tracker::resume(alert.clone()))
    }

    pub fn alerts(&self) -> impl Iterator<Item = &Alert> {
        self.alerts.values().map(|(alert, _)| alert)
    }

    pub fn get(&self, id: &str) -> Option<&Alert> {
        self.alerts.get(id).map(|(alert, _)| alert)
    }

    fn is_silenced(&self, alert: &Alert, now_ms: i64) -> bool {
        self.silences.values().any(|silence| {
            silence.until > now_ms
                && (silence.rule == alert.rule || silence.rule == "*")
                && silence.slice.as_ref().is_none_or(|slice| *slice == alert.slice)
        })
    }

    /// An alert as it should be now: whether it is silenced, and what is to be said of it. None: as it is.
    pub fn settled(&self, alert: &Alert, settings: &Settings, now_ms: i64) -> Option<Alert> {
        let mut settled = alert.clone();
        let rule = settings.rule(&alert.rule);
        let is_silenced = self.is_silenced(alert, now_ms);
        match alert.state {
            State::Firing | State::Acknowledged if is_silenced => settled.state = State::Silenced,
            State::Silenced if !is_silenced => settled.state = State::Firing,
            _ => {}
        }
        // Nobody watches it any more.
        if rule.is_none() && alert.state.is_on() {
            settled.state = State::Resolved;
            settled.resolved_at = Some(now_ms);
            settled.evidence.note = "the rule is gone from the configuration".to_owned();
        }
        let is_quiet = rule.and_then(|rule| rule.quiet_hours).is_some_and(|hours| {
            let app = rule.and_then(|rule| rule.apps.first()).map_or("", String::as_str);
            hours.contains(now_ms, &settings.zone(app))
                && alert.severity != cambium_alerts::Severity::Critical
        });
        if settled.state == State::Firing && !is_quiet {
            for channel in settings.channels_of(rule) {
                let told = settled.told.entry(channel.name.clone()).or_default();
                if told.firing == Delivery::None {
                    told.firing = Delivery::Sending;
                }
            }
        }
        if settled.state == State::Resolved {
            for told in settled.told.values_mut() {
                if told.firing != Delivery::None && told.resolved == Delivery::None {
                    told.resolved = Delivery::Sending;
                }
            }
        }
        (settled != *alert).then_some(settled)
    }

    /// Writes what ClickHouse does not have yet, and forgets what is long over.
    pub async fn write(&mut self, client: &Client, now_ms: i64) -> Result<()> {
        let mut rows = Rows::default();
        let found = self.unwritten.keys().filter_map(|id| self.alerts.get(id));
        for (alert, version) in found {
            put(&mut rows, alert, *version)?;
        }
        client.write(&rows).await?;
        self.unwritten.clear();
        self.alerts
            .retain(|_, (alert, _)| alert.state.is_on() || alert.detected_at > now_ms - REMEMBER_MS);
        Ok(())
    }

    pub fn has_unwritten(&self) -> bool {
        !self.unwritten.is_empty()
    }
}

/// The row of an alert.
pub(crate) fn put(rows: &mut Rows, alert: &Alert, version: u64) -> Result<()> {
    let evidence = serde_json::to_string(&alert.evidence).context("the evidence cannot be written")?;
    rows.row(&ALERTS)
        .text(&alert.id)
        .u64(version)
        .bool(alert.state == State::Forgotten)
        .text(&alert.rule)
        .text(&alert.slice)
        .text(alert.state.name())
        .text(alert.severity.name())
        .f64_or_null(alert.value)
        .f64_or_null(alert.expected)
        .f64_or_null(alert.low)
        .f64_or_null(alert.high)
        .i64(alert.started_at)
        .i64(alert.detected_at)
        .i64_or_null(alert.resolved_at)
        .text(&evidence);
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use cambium_alerts::{Told, Tracker as Follower, Verdict};
    use cambium_kafka::Place;

    use crate::settings::BEHIND;
    use crate::{Channel, Kind, Language, pipeline_rules};

    pub(crate) fn settings(quiet: Option<&str>) -> Settings {
        let mut rules = pipeline_rules();
        for rule in &mut rules {
            rule.severity = cambium_alerts::Severity::Error;
            rule.quiet_hours = quiet.map(|hours| hours.parse().unwrap());
        }
        Settings {
            rules,
            channels: vec![Channel {
                name: "ops".to_owned(),
                kind: Kind::Webhook,
                url: String::new(),
                secret: None,
                language: Language::En,
            }],
            zones: BTreeMap::new(),
            topics: Vec::new(),
            journal: Place {
                brokers: String::new(),
                settings: BTreeMap::new(),
                topic: String::new(),
                group: String::new(),
            },
            counted_by: Vec::new(),
            session_gap_ms: 0,
            steps_before: BTreeMap::new(),
        }
    }

    fn firing(settings: &Settings) -> Alert {
        let verdict = Verdict {
            breaches: true,
            fires: true,
            ..Verdict::default()
        };
        let rule = settings.rule(BEHIND).unwrap();
        Follower::default().step(rule, "", &verdict, NOON).unwrap()
    }

    fn entry(offset: i64, entry: &Entry) -> JournalEntry {
        JournalEntry {
            offset,
            key: entry.key(),
            payload: serde_json::to_vec(entry).unwrap(),
        }
    }

    /// 1970-01-02T12:00:00Z.
    const NOON: i64 = 36 * 3_600_000;

    fn told(alert: &Alert) -> Told {
        alert.told.get("ops").copied().unwrap_or_default()
    }

    #[test]
    fn who_is_told_that_it_fires_is_told_that_it_is_over() {
        let (settings, register) = (settings(None), Register::default());
        let alert = firing(&settings);
        let mut alert = register.settled(&alert, &settings, NOON).unwrap();
        assert_eq!(told(&alert).firing, Delivery::Sending);
        assert_eq!(register.settled(&alert, &settings, NOON), None);
        alert.state = State::Resolved;
        let alert = register.settled(&alert, &settings, NOON).unwrap();
        assert_eq!(told(&alert).resolved, Delivery::Sending);
        // Nobody was told of one that is over before quiet hours are.
        let quiet = self::settings(Some("11:00-13:00"));
        let mut alert = firing(&quiet);
        assert_eq!(register.settled(&alert, &quiet, NOON), None);
        alert.state = State::Resolved;
        assert_eq!(register.settled(&alert, &quiet, NOON), None);
    }

    #[test]
    fn quiet_hours_and_silences_end() {
        let quiet = settings(Some("11:00-13:00"));
        let alert = firing(&quiet);
        let later = NOON + 3_600_000;
        assert!(Register::default().settled(&alert, &quiet, later).is_some());

        let settings = settings(None);
        let mut register = Register::default();
        let silence = Silence {
            rule: BEHIND.to_owned(),
            slice: None,
            until: NOON + 1000,
        };
        register.take(&entry(0, &Entry::Silence(silence)));
        let silenced = register.settled(&alert, &settings, NOON).unwrap();
        assert_eq!(
            (silenced.state, told(&silenced).firing),
            (State::Silenced, Delivery::None)
        );
        let said = register.settled(&silenced, &settings, NOON + 1000).unwrap();
        assert_eq!(
            (said.state, told(&said).firing),
            (State::Firing, Delivery::Sending)
        );
    }

    #[test]
    fn the_journal_is_what_is_known() {
        let settings = settings(None);
        let mut register = Register::default();
        let alert = firing(&settings);
        register.take(&entry(0, &Entry::Alert(Box::new(alert.clone()))));
        let acknowledge = Entry::Acknowledge { id: alert.id.clone() };
        let changed = register.take(&entry(1, &acknowledge)).unwrap();
        assert_eq!(changed.state, State::Acknowledged);
        assert!(register.tracker(BEHIND, "").is_on());
        assert!(!register.tracker(BEHIND, "app = shop").is_on());
        let unreadable = JournalEntry {
            offset: 2,
            key: String::new(),
            payload: b"{".to_vec(),
        };
        assert_eq!(register.take(&unreadable), None);
        // A rule that is gone resolves what it left.
        let mut orphan = alert;
        orphan.rule = "gone".to_owned();
        let orphan = register.settled(&orphan, &settings, NOON).unwrap();
        assert_eq!(orphan.state, State::Resolved);
    }
}
