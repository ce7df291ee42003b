//! What is said: what dropped, by how much, against what, since when, which slice; the same id when it resolves.

use cambium_alerts::{Alert, Basis, Evidence};
use jiff::{SpanRound, Timestamp, Unit};
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Said {
    Firing,
    Resolved,
}

impl Said {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Said::Firing => "firing",
            Said::Resolved => "resolved",
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    #[default]
    En,
    Zh,
}

/// A slice's value comes from whoever sends events: no channel needs more of it than this.
const MOST_CHARS: usize = 120;

/// A text that comes from events, as people can be shown it.
fn shown(text: &str) -> String {
    let visible = |char: char| {
        if char.is_control() {
            char::REPLACEMENT_CHARACTER
        } else {
            char
        }
    };
    let mut shown: String = text.chars().take(MOST_CHARS).map(visible).collect();
    if text.chars().nth(MOST_CHARS).is_some() {
        shown.push('…');
    }
    shown
}

/// One change of an alert's state. Instants are milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Message {
    /// The same from the first message of an alert to its last.
    pub id: String,
    pub rule: String,
    pub state: Said,
    pub severity: String,
    /// The number that is watched, in words.
    pub metric: String,
    /// `platform = ios`; empty: all of it.
    pub slice: String,
    pub value: Option<f64>,
    pub expected: Option<f64>,
    pub low: Option<f64>,
    pub high: Option<f64>,
    pub started_at: i64,
    pub detected_at: i64,
    pub resolved_at: Option<i64>,
    /// Where to look.
    pub link: String,
    pub evidence: Evidence,
}

impl Message {
    /// What is said of an alert.
    pub fn of(alert: &Alert, said: Said) -> Message {
        let mut evidence = alert.evidence.clone();
        evidence.mostly = evidence.mostly.map(|(slice, share)| (shown(&slice), share));
        Message {
            id: alert.id.clone(),
            rule: alert.rule.clone(),
            state: said,
            severity: alert.severity.name().to_owned(),
            metric: alert.title.clone(),
            slice: shown(&alert.slice),
            value: alert.value,
            expected: alert.expected,
            low: alert.low,
            high: alert.high,
            started_at: alert.started_at,
            detected_at: alert.detected_at,
            resolved_at: alert.resolved_at.filter(|_| said == Said::Resolved),
            link: alert.link.clone(),
            evidence,
        }
    }

    /// One line.
    pub fn title(&self, language: Language) -> String {
        let slice = if self.slice.is_empty() {
            String::new()
        } else {
            format!(" ({})", self.slice)
        };
        match (language, self.state) {
            (Language::En, Said::Firing) => {
                format!("[{}] {}: {}{slice}", self.severity, self.rule, self.metric)
            }
            (Language::En, Said::Resolved) => format!("[resolved] {}: {}{slice}", self.rule, self.metric),
            (Language::Zh, Said::Firing) => {
                format!("[{}] {}：{}{slice}", self.severity, self.rule, self.metric)
            }
            (Language::Zh, Said::Resolved) => format!("[已恢复] {}：{}{slice}", self.rule, self.metric),
        }
    }

    /// A few lines under the title.
    pub fn text(&self, language: Language) -> String {
        let words = Words::of(language);
        let mut lines = Vec::new();
        if let (Some(value), Some(expected)) = (self.value, self.expected) {
            let change = if expected == 0.0 {
                String::new()
            } else {
                format!(" ({:+.0} %)", (value - expected) / expected.abs() * 100.0)
            };
            lines.push(format!(
                "{} {}, {} {}{change}",
                words.value,
                short(value),
                words.expected,
                short(expected)
            ));
        } else if let Some(value) = self.value {
            lines.push(format!("{} {}", words.value, short(value)));
        }
        if let (Some(low), Some(high)) = (self.low, self.high) {
            lines.push(format!("{} {} – {}", words.usual, short(low), short(high)));
        }
        if let Some((slice, share)) = &self.evidence.mostly {
            lines.push(format!("{} {slice} ({:.0} %)", words.mostly, share * 100.0));
        }
        if let Some(basis) = self.evidence.rests_on.filter(|basis| *basis != Basis::Seasons) {
            lines.push(words.young(basis).to_owned());
        }
        if !self.evidence.note.is_empty() {
            lines.push(self.evidence.note.clone());
        }
        lines.push(format!("{} {}", words.since, instant(self.started_at)));
        if let Some(resolved_at) = self.resolved_at {
            let lasted = lasted(self.started_at, resolved_at);
            lines.push(format!("{} {} ({lasted})", words.resolved, instant(resolved_at)));
        }
        if !self.link.is_empty() {
            lines.push(self.link.clone());
        }
        lines.push(format!("id {}", self.id));
        lines.join("\n")
    }
}

struct Words {
    value: &'static str,
    expected: &'static str,
    usual: &'static str,
    mostly: &'static str,
    recent: &'static str,
    days: &'static str,
    since: &'static str,
    resolved: &'static str,
}

impl Words {
    /// What a comparison rests on that is younger than its season.
    fn young(&self, basis: Basis) -> &'static str {
        match basis {
            Basis::Recent => self.recent,
            _ => self.days,
        }
    }

    fn of(language: Language) -> Words {
        match language {
            Language::En => Words {
                value: "now",
                expected: "expected",
                usual: "usual range",
                mostly: "mostly",
                recent: "compared with just before: there is no longer past yet",
                days: "compared with the days before: there are no earlier weeks yet",
                since: "since",
                resolved: "resolved",
            },
            Language::Zh => Words {
                value: "当前",
                expected: "预期",
                usual: "正常范围",
                mostly: "主要来自",
                recent: "与刚才相比：尚无更长的历史数据",
                days: "与前几天相比：尚无前几周的数据",
                since: "开始于",
                resolved: "恢复于",
            },
        }
    }
}

/// Four digits that matter.
fn short(number: f64) -> String {
    if number.fract() == 0.0 || number.abs() >= 1000.0 {
        format!("{number:.0}")
    } else if number.abs() >= 1.0 {
        format!("{number:.2}")
    } else {
        format!("{number:.4}")
    }
}

/// RFC 3339, whole seconds, UTC.
pub(crate) fn instant(ms: i64) -> String {
    let time = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH);
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn lasted(from_ms: i64, to_ms: i64) -> String {
    let span = jiff::Span::new().milliseconds((to_ms - from_ms).clamp(0, 1_000_000_000_000));
    let rounding = SpanRound::new().largest(Unit::Hour).smallest(Unit::Second);
    span.round(rounding)
        .map_or_else(|_| span.to_string(), |span| format!("{span:#}"))
}
