//! An alert's life: pending while too few looks breached, firing, then resolved. Acknowledged: somebody looks
//! after it; silenced: nobody is told.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Basis, Rule, Severity, Verdict};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Breaches, but not often enough yet.
    Pending,
    Firing,
    Resolved,
    /// Firing, and somebody looks after it.
    Acknowledged,
    /// Firing, and nobody is told.
    Silenced,
    /// Was pending, and nothing came of it: it is as if it had never been.
    Forgotten,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            State::Pending => "pending",
            State::Firing => "firing",
            State::Resolved => "resolved",
            State::Acknowledged => "acknowledged",
            State::Silenced => "silenced",
            State::Forgotten => "forgotten",
        }
    }

    /// Whether the number is bad, whoever knows of it.
    pub fn is_on(self) -> bool {
        matches!(self, State::Firing | State::Acknowledged | State::Silenced)
    }
}

/// What a channel was told of an alert.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    pub firing: Delivery,
    pub resolved: Delivery,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// Nothing is to be said, or not yet.
    #[default]
    None,
    /// Written down before it is sent: after a crash it is sent again, with the same id.
    Sending,
    Sent,
    /// The channel did not take it for so long that it is not tried any more.
    GivenUp,
}

/// What the verdict rests on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    pub window_seconds: f64,
    pub score: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rests_on: Option<Basis>,
    /// The slice that explains most of what is missing, and its share of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mostly: Option<(String, f64)>,
    /// What else is to be said.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// One alert, whole: every change of it is written down as this.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// The same from its first message to its last.
    pub id: String,
    pub rule: String,
    pub title: String,
    /// `platform = ios`; '': all of it.
    pub slice: String,
    pub state: State,
    pub severity: Severity,
    pub value: Option<f64>,
    pub expected: Option<f64>,
    pub low: Option<f64>,
    pub high: Option<f64>,
    pub started_at: i64,
    pub detected_at: i64,
    pub resolved_at: Option<i64>,
    pub evidence: Evidence,
    pub link: String,
    /// By channel.
    pub told: BTreeMap<String, Told>,
}

impl Alert {
    /// What fires, or begins to.
    pub fn new(rule: &Rule, slice: &str, verdict: &Verdict, now_ms: i64) -> Alert {
        let window_ms = verdict.telling().map_or(0, |look| look.window_ms);
        let started_at = now_ms - window_ms;
        let mut alert = Alert {
            id: id(&rule.name, slice, started_at),
            rule: rule.name.clone(),
            title: rule.title(),
            slice: slice.to_owned(),
            state: State::Pending,
            severity: rule.severity,
            value: None,
            expected: None,
            low: None,
            high: None,
            started_at,
            detected_at: now_ms,
            resolved_at: None,
            evidence: Evidence::default(),
            link: rule.link.clone(),
            told: BTreeMap::new(),
        };
        alert.take(verdict);
        alert
    }

    /// Takes the numbers of a verdict.
    fn take(&mut self, verdict: &Verdict) {
        let Some(look) = verdict.telling() else { return };
        let judgement = look.judgement;
        self.value = judgement.value;
        self.expected = judgement.expected;
        self.low = judgement.low;
        self.high = judgement.high;
        self.evidence.window_seconds = look.window_ms as f64 / 1000.0;
        self.evidence.score = judgement.score;
        self.evidence.rests_on = judgement.from;
    }

    /// The share of what was expected that was missing when it began to fire.
    fn missed(&self) -> f64 {
        match (self.value, self.expected) {
            (Some(value), Some(expected)) if expected != 0.0 => (expected - value) / expected.abs(),
            _ => 1.0,
        }
    }

    /// What the product lacks, in units of the number.
    pub fn missing(&self) -> f64 {
        self.expected
            .zip(self.value)
            .map_or(0.0, |(expected, value)| expected - value)
    }
}

/// A hash of what makes an alert itself, so that it is the same wherever it is worked out.
fn id(rule: &str, slice: &str, started_at: i64) -> String {
    use std::hash::Hasher;
    let mut hasher = siphasher::sip::SipHasher24::new();
    for part in [rule, "\0", slice, "\0", &started_at.to_string()] {
        hasher.write(part.as_bytes());
    }
    format!("{:016x}", hasher.finish())
}

/// Follows one series of a rule from verdict to verdict.
#[derive(Clone, Debug, Default)]
pub struct Tracker {
    pub alert: Option<Alert>,
    back_since: Option<i64>,
}

impl Tracker {
    /// Goes on with what is known of the last alert.
    pub fn resume(alert: Alert) -> Tracker {
        Tracker {
            alert: Some(alert),
            back_since: None,
        }
    }

    pub fn is_on(&self) -> bool {
        self.alert.as_ref().is_some_and(|alert| alert.state.is_on())
    }

    /// Whether it has told of what happened in a span that ends now: it is on, or was in that span, or its rule is
    /// silent on more of it yet.
    pub fn has_told(&self, rule: &Rule, (from_ms, now_ms): (i64, i64)) -> bool {
        let resolved_at = self.alert.as_ref().and_then(|alert| alert.resolved_at);
        self.is_on() || resolved_at > Some(from_ms) || self.is_cooling_down(rule, now_ms)
    }

    fn is_cooling_down(&self, rule: &Rule, now_ms: i64) -> bool {
        let resolved_at = self.alert.as_ref().and_then(|alert| alert.resolved_at);
        resolved_at.is_some_and(|at| now_ms - at < rule.cool_down_ms)
    }

    /// Takes a verdict; gives the alert where its state changed.
    pub fn step(&mut self, rule: &Rule, slice: &str, verdict: &Verdict, now_ms: i64) -> Option<Alert> {
        match self.alert.as_ref().map(|alert| alert.state) {
            Some(State::Firing | State::Acknowledged | State::Silenced) => {
                self.look_whether_back(rule, verdict, now_ms)
            }
            Some(State::Pending) => self.look_whether_fires(rule, verdict, now_ms),
            _ => self.look_whether_begins(rule, slice, verdict, now_ms),
        }
    }

    fn look_whether_begins(
        &mut self,
        rule: &Rule,
        slice: &str,
        verdict: &Verdict,
        now_ms: i64,
    ) -> Option<Alert> {
        if !verdict.breaches || self.is_cooling_down(rule, now_ms) {
            return None;
        }
        let mut alert = Alert::new(rule, slice, verdict, now_ms);
        if verdict.fires {
            alert.state = State::Firing;
        }
        self.back_since = None;
        self.alert = Some(alert);
        self.alert.clone()
    }

    fn look_whether_fires(&mut self, rule: &Rule, verdict: &Verdict, now_ms: i64) -> Option<Alert> {
        let alert = self.alert.as_mut()?;
        if verdict.fires {
            alert.take(verdict);
            alert.state = State::Firing;
            alert.detected_at = now_ms;
            return Some(alert.clone());
        }
        if verdict.breaches {
            self.back_since = None;
            return None;
        }
        let since = *self.back_since.get_or_insert(now_ms);
        if now_ms - since < rule.resolve_after_ms {
            return None;
        }
        alert.state = State::Forgotten;
        self.alert.take()
    }

    fn look_whether_back(&mut self, rule: &Rule, verdict: &Verdict, now_ms: i64) -> Option<Alert> {
        let alert = self.alert.as_mut()?;
        match verdict.is_back(alert.missed()) {
            None => return None,
            Some(false) => {
                self.back_since = None;
                return None;
            }
            Some(true) => {}
        }
        let since = *self.back_since.get_or_insert(now_ms);
        if now_ms - since < rule.resolve_after_ms {
            return None;
        }
        alert.state = State::Resolved;
        alert.resolved_at = Some(since);
        self.back_since = None;
        Some(alert.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Judgement, Kind, Look, Metric, Options};

    fn rule() -> Rule {
        Rule {
            name: "payments".to_owned(),
            apps: Vec::new(),
            metric: Metric::Events(vec!["pay".to_owned()]),
            filter: None,
            by: Vec::new(),
            options: Options::new(Kind::Count),
            over_ms: None,
            min_expected: 20.0,
            cool_down_ms: 600_000,
            resolve_after_ms: 30_000,
            severity: Severity::Error,
            channels: None,
            quiet_hours: None,
            link: String::new(),
        }
    }

    /// A minute in which a hundred are expected and so many come.
    fn verdict(value: f64, fires: bool) -> Verdict {
        let judgement = Judgement {
            value: Some(value),
            expected: Some(100.0),
            low: Some(60.0),
            sigma: Some(10.0),
            breaches: value < 60.0,
            ..Judgement::default()
        };
        Verdict {
            looks: vec![Look {
                window_ms: 60_000,
                judgement,
            }],
            breaches: value < 60.0,
            fires,
        }
    }

    #[test]
    fn an_alert_lives_from_breach_to_return() {
        let (rule, mut tracker) = (rule(), Tracker::default());
        // Second, value, enough looks breach; what it becomes.
        for (second, value, fires, becomes) in [
            (0, 100.0, false, None),
            (2, 40.0, false, Some(State::Pending)),
            (4, 90.0, false, None),
            (34, 90.0, false, Some(State::Forgotten)),
            (40, 40.0, false, Some(State::Pending)),
            (42, 30.0, true, Some(State::Firing)),
            (44, 65.0, false, None),
            // Half of what was missing is back: for long enough, it is over.
            (50, 80.0, false, None),
            (60, 50.0, true, None),
            (70, 80.0, false, None),
            (100, 80.0, false, Some(State::Resolved)),
            // So soon again nobody is told.
            (200, 0.0, true, None),
            (800, 0.0, true, Some(State::Firing)),
        ] {
            let now_ms = 1_700_000_000_000 + second * 1000;
            let changed = tracker.step(&rule, "", &verdict(value, fires), now_ms);
            assert_eq!(changed.map(|alert| alert.state), becomes, "at {second} s");
        }
    }

    #[test]
    fn an_id_is_the_same_from_first_to_last_and_of_one_alert_alone() {
        let (rule, mut tracker) = (rule(), Tracker::default());
        let fired = tracker.step(&rule, "", &verdict(0.0, true), 1_000_000).unwrap();
        let mut again = Tracker::default();
        assert_eq!(
            again.step(&rule, "", &verdict(0.0, true), 1_000_000).unwrap().id,
            fired.id
        );
        assert_ne!(
            Tracker::default()
                .step(&rule, "platform = ios", &verdict(0.0, true), 1_000_000)
                .unwrap()
                .id,
            fired.id
        );
        let mut resumed = Tracker::resume(fired.clone());
        resumed.step(&rule, "", &verdict(100.0, false), 1_010_000);
        let resolved = resumed
            .step(&rule, "", &verdict(100.0, false), 1_050_000)
            .unwrap();
        assert_eq!((resolved.id, resolved.state), (fired.id, State::Resolved));
        assert_eq!(resolved.resolved_at, Some(1_010_000));
    }
}
