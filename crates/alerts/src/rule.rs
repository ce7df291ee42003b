//! What is watched, by whom it is told, and when people want to be left in peace.

use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use crate::{Kind, Options, Settings};

/// The number that a rule watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Events of these names; "*" is any.
    Events(Vec<String>),
    /// Users of a `[[unique]]` in a rolling window.
    Unique { metric: String, window: String },
    /// The share of a funnel's users that go from the step before to this one.
    Funnel { funnel: String, step: u8 },
    /// Sessions that begin.
    SessionsStarted,
    /// The share of sessions that bounce.
    BounceRate,
    /// A query that answers a number, or a label and a number a row.
    Sql(String),
    /// Cambium's own health.
    Pipeline,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Info,
    Warning,
    #[default]
    Error,
    /// Told in quiet hours too.
    Critical,
}

impl Severity {
    pub fn name(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Error => "error",
            Severity::Critical => "critical",
        }
    }
}

/// Hours of the local day in which nobody is woken; they may go over midnight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuietHours {
    pub from: Time,
    pub to: Time,
}

impl QuietHours {
    pub fn contains(&self, now_ms: i64, zone: &TimeZone) -> bool {
        let Ok(now) = Timestamp::from_millisecond(now_ms) else {
            return false;
        };
        let now = zone.to_datetime(now).time();
        if self.from <= self.to {
            self.from <= now && now < self.to
        } else {
            self.from <= now || now < self.to
        }
    }
}

impl std::str::FromStr for QuietHours {
    type Err = String;

    /// `22:00-08:00`.
    fn from_str(text: &str) -> Result<QuietHours, String> {
        let time = |text: &str| Time::strptime("%H:%M", text.trim()).ok();
        let parts = text.split_once('-');
        let found = parts.and_then(|(from, to)| Some((time(from)?, time(to)?)));
        match found {
            Some((from, to)) if from != to => Ok(QuietHours { from, to }),
            _ => Err(format!("'{text}' is not like \"22:00-08:00\"")),
        }
    }
}

/// A day, or the first and the last of several: `2026-10-01`, `2026-10-01/2026-10-07`. In days since 1970.
pub fn holidays(text: &str) -> Result<impl Iterator<Item = i64> + use<>, String> {
    let day = |text: &str| -> Result<jiff::civil::Date, String> {
        let text = text.trim();
        text.parse()
            .map_err(|_| format!("'{text}' is no day like 2026-10-01"))
    };
    let (first, last) = match text.split_once('/') {
        Some((first, last)) => (day(first)?, day(last)?),
        None => (day(text)?, day(text)?),
    };
    if last < first || first.checked_add(400.days()).is_ok_and(|end| last > end) {
        return Err(format!("'{text}' is no span of days"));
    }
    let number = |date: jiff::civil::Date| -> i64 {
        let epoch = jiff::civil::date(1970, 1, 1);
        i64::from((date - epoch).get_days())
    };
    Ok(number(first)..=number(last))
}

/// One `[[alert]]`, complete.
#[derive(Clone, Debug)]
pub struct Rule {
    pub name: String,
    /// Empty: every app.
    pub apps: Vec<String>,
    pub metric: Metric,
    /// A `where`, over what the view keeps.
    pub filter: Option<String>,
    /// Each value of these is watched beside the whole.
    pub by: Vec<String>,
    pub options: Options,
    /// Given: this window alone; else the metric's own.
    pub over_ms: Option<i64>,
    pub min_expected: f64,
    /// After an alert is resolved, none is sent for so long.
    pub cool_down_ms: i64,
    /// The number must be back for so long before an alert is resolved.
    pub resolve_after_ms: i64,
    pub severity: Severity,
    /// None: every channel.
    pub channels: Option<Vec<String>>,
    pub quiet_hours: Option<QuietHours>,
    pub link: String,
}

impl Rule {
    /// What is watched, in words.
    pub fn title(&self) -> String {
        let filter = self
            .filter
            .as_ref()
            .map_or(String::new(), |filter| format!(" where {filter}"));
        match &self.metric {
            Metric::Events(names) if names.iter().any(|name| name == "*") => format!("all events{filter}"),
            Metric::Events(names) => format!("{}{filter}", names.join(", ")),
            Metric::Unique { metric, window } => format!("{metric} users in {window}"),
            Metric::Funnel { funnel, step } => format!("funnel {funnel}, step {step}"),
            Metric::SessionsStarted => "sessions started".to_owned(),
            Metric::BounceRate => "bounce rate".to_owned(),
            Metric::Sql(query) => query.clone(),
            Metric::Pipeline => "Cambium itself".to_owned(),
        }
    }

    pub fn is_silence(&self) -> bool {
        self.options.kind == Kind::Silence
    }

    /// Whether its number is a share.
    pub fn is_share(&self) -> bool {
        matches!(self.metric, Metric::Funnel { .. } | Metric::BounceRate)
    }

    /// Whether what it watches is a number of the product, and no measure of Cambium's health.
    pub fn is_metric(&self) -> bool {
        self.metric != Metric::Pipeline
    }

    /// How the rule's series are watched, with buckets and samples of these lengths.
    pub fn settings(
        &self,
        series: crate::Series,
        bucket_ms: i64,
        usual_ms: &[i64],
        sample_ms: i64,
    ) -> Settings {
        Settings {
            options: self.options.clone(),
            series,
            bucket_ms,
            windows_ms: self.over_ms.map_or_else(|| usual_ms.to_vec(), |over| vec![over]),
            sample_ms,
            min_expected: self.min_expected,
            alike: 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quiet_hours_go_over_midnight() {
        let hours: QuietHours = "22:00-08:00".parse().unwrap();
        let zone = TimeZone::get("Asia/Shanghai").unwrap();
        let at = |text: &str| text.parse::<Timestamp>().unwrap().as_millisecond();
        for (instant, is_quiet) in [
            ("2026-01-01T23:00:00+08:00", true),
            ("2026-01-02T07:59:00+08:00", true),
            ("2026-01-02T08:00:00+08:00", false),
            ("2026-01-02T21:59:00+08:00", false),
        ] {
            assert_eq!(hours.contains(at(instant), &zone), is_quiet, "{instant}");
        }
        for wrong in ["22-8", "22:00", "25:00-08:00", "08:00-08:00"] {
            assert!(wrong.parse::<QuietHours>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn holidays_are_days_or_spans_of_them() {
        assert_eq!(holidays("1970-01-02").unwrap().collect::<Vec<_>>(), [1]);
        assert_eq!(
            holidays("1970-01-30/1970-02-02").unwrap().collect::<Vec<_>>(),
            [29, 30, 31, 32]
        );
        for wrong in ["tomorrow", "2026-10-07/2026-10-01", "2026-13-01"] {
            assert!(holidays(wrong).is_err(), "{wrong}");
        }
    }
}
