//! What watching tells about itself. Names and units are documented in README.md.

use cambium_alerts::{Alert, State};
use metrics::{counter, gauge};

use crate::Settings;
use crate::settings::BROKER;

/// A message that a channel took ("sent"), a try that is to be repeated ("failed"), or the end of trying
/// ("given_up").
pub(crate) fn delivery(channel: &str, outcome: &'static str) {
    let channel = channel.to_owned();
    counter!("cambium_alert_deliveries_total", "channel" => channel, "outcome" => outcome).increment(1);
}

/// Series of a rule that were looked at.
pub(crate) fn looks(rule: &str, series: usize) {
    counter!("cambium_alert_looks_total", "rule" => rule.to_owned()).increment(series as u64);
}

/// Whether this process evaluates, and whether metric rules are held.
pub(crate) fn turn(leads: bool, is_held: bool) {
    gauge!("cambium_alerts_leading").set(u8::from(leads));
    gauge!("cambium_alerts_held").set(u8::from(leads && is_held));
}

const SHOWN: [State; 4] = [
    State::Pending,
    State::Firing,
    State::Acknowledged,
    State::Silenced,
];

/// How many alerts of each rule are in which state; of a process that does not evaluate, none.
pub(crate) fn alerts(settings: &Settings, alerts: &[&Alert]) {
    for rule in settings.rules.iter().filter(|rule| rule.name != BROKER) {
        for state in SHOWN {
            let found = alerts
                .iter()
                .filter(|alert| alert.rule == rule.name && alert.state == state);
            let labels = [("rule", rule.name.clone()), ("state", state.name().to_owned())];
            gauge!("cambium_alerts", &labels).set(found.count() as f64);
        }
    }
}

/// Whether this process sees the broker away.
pub(crate) fn broker(is_on: bool) {
    gauge!("cambium_alerts", "rule" => BROKER, "state" => State::Firing.name()).set(u8::from(is_on));
}
