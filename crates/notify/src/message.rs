//! What is said: what dropped, by how much, against what, since when, which slice; the same id when it resolves.

use jiff::{SpanRound, Timestamp, Unit};
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Firing,
    Resolved,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    #[default]
    En,
    Zh,
}

/// One change of an alert's state. Instants are milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Message {
    /// The same from the first message of an alert to its last.
    pub id: String,
    pub rule: String,
    pub state: State,
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
}

impl Message {
    /// One line.
    pub fn title(&self, language: Language) -> String {
        let slice = if self.slice.is_empty() {
            String::new()
        } else {
            format!(" ({})", self.slice)
        };
        match (language, self.state) {
            (Language::En, State::Firing) => {
                format!("[{}] {}: {}{slice}", self.severity, self.rule, self.metric)
            }
            (Language::En, State::Resolved) => format!("[resolved] {}: {}{slice}", self.rule, self.metric),
            (Language::Zh, State::Firing) => {
                format!("[{}] {}：{}{slice}", self.severity, self.rule, self.metric)
            }
            (Language::Zh, State::Resolved) => format!("[已恢复] {}：{}{slice}", self.rule, self.metric),
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
    since: &'static str,
    resolved: &'static str,
}

impl Words {
    fn of(language: Language) -> Words {
        match language {
            Language::En => Words {
                value: "now",
                expected: "expected",
                usual: "usual range",
                since: "since",
                resolved: "resolved",
            },
            Language::Zh => Words {
                value: "当前",
                expected: "预期",
                usual: "正常范围",
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
