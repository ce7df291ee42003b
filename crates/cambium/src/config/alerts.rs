//! `[[alert]]`: rules as data, checked against what is counted.

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow, bail, ensure};
use cambium_alerts::{Direction, Kind, Metric, Options, QuietHours, Rule, Severity, firing, holidays};
use cambium_engine::{Duration, EventNames, Filter, MINUTE_MS, Setup, Spec, duration_ms};
use serde::Deserialize;
use serde_json::Value;

use super::sections::nearest;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    pub name: String,
    app: Option<EventNames>,
    event: Option<EventNames>,
    unique: Option<String>,
    window: Option<String>,
    funnel: Option<String>,
    step: Option<u8>,
    session: Option<SessionMetric>,
    sql: Option<String>,
    #[serde(rename = "where")]
    filter: Option<String>,
    #[serde(default)]
    by: Vec<String>,
    detector: Option<String>,
    direction: Option<Way>,
    over: Option<Duration>,
    season: Option<Duration>,
    #[serde(rename = "for")]
    firing: Option<String>,
    min_expected: Option<f64>,
    cool_down: Option<Duration>,
    resolve_after: Option<Duration>,
    #[serde(default)]
    severity: Severity,
    channels: Option<Vec<String>>,
    quiet_hours: Option<String>,
    #[serde(default)]
    holidays: Vec<String>,
    link: Option<String>,
    low: Option<f64>,
    high: Option<f64>,
    percent: Option<f64>,
    weeks: Option<f64>,
    days: Option<f64>,
    z: Option<f64>,
    slack: Option<f64>,
    limit: Option<f64>,
    false_alarms: Option<f64>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SessionMetric {
    Started,
    BounceRate,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Way {
    Drop,
    Rise,
    Both,
}

/// `[alerts]`: whether rules are evaluated, and where what becomes of them is written down.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Alerts {
    pub on: bool,
    /// Left out: the group's name and "-alerts".
    pub topic: Option<String>,
    /// What messages point to, unless the rule says otherwise.
    pub link: String,
}

impl Default for Alerts {
    fn default() -> Self {
        Alerts {
            on: true,
            topic: None,
            link: String::new(),
        }
    }
}

const WINDOWS: [&str; 6] = ["5m", "30m", "1h", "24h", "7d", "30d"];
const MIN_EXPECTED: f64 = 20.0;
const COOL_DOWN_MS: i64 = 10 * MINUTE_MS;
const RESOLVE_AFTER_MS: i64 = 30_000;

/// The rules of the file; without any, sensible ones.
pub fn rules(written: &[Written], setup: &Setup, alerts: &Alerts, channels: &[&str]) -> Result<Vec<Rule>> {
    let mut rules: Vec<Rule> = Vec::new();
    if written.is_empty() {
        rules = usual(setup)?;
    }
    for one in written {
        let rule = one
            .rule(setup)
            .with_context(|| format!("[[alert]] {}", one.name))?;
        for name in rule.channels.iter().flatten() {
            ensure!(
                channels.contains(&name.as_str()),
                "[[alert]] {}: there is no [[channel]] '{name}'{}",
                one.name,
                nearest(name, channels.iter().copied())
            );
        }
        ensure!(
            !rules.iter().any(|other| other.name == rule.name),
            "[[alert]] '{}' is there twice",
            one.name
        );
        rules.push(rule);
    }
    for rule in &mut rules {
        if rule.link.is_empty() {
            rule.link.clone_from(&alerts.link);
        }
    }
    Ok(rules)
}

/// The rules that are on where none is written: all events, active users, each funnel's last step, silence.
fn usual(setup: &Setup) -> Result<Vec<Rule>> {
    let mut rules = vec![
        usual_rule("events", Metric::Events(vec!["*".to_owned()]), Kind::Count),
        usual_rule(
            "active users",
            Metric::Unique {
                metric: "active".to_owned(),
                window: "30m".to_owned(),
            },
            Kind::Season,
        ),
        usual_rule("silence", Metric::Events(vec!["*".to_owned()]), Kind::Silence),
    ];
    for funnel in setup.definitions.iter().filter(|spec| spec.kind == "funnel") {
        let last = steps(funnel)?.len();
        if last < 2 {
            continue;
        }
        let metric = Metric::Funnel {
            funnel: funnel.name.clone(),
            step: u8::try_from(last)?,
        };
        let name = format!("funnel {}", funnel.name);
        if !rules.iter().any(|rule| rule.name == name) {
            rules.push(usual_rule(&name, metric, Kind::Rate));
        }
    }
    Ok(rules)
}

fn usual_rule(name: &str, metric: Metric, kind: Kind) -> Rule {
    let mut options = Options::new(kind);
    if kind == Kind::Silence {
        options.direction = Direction::Rise;
    }
    Rule {
        name: name.to_owned(),
        apps: Vec::new(),
        metric,
        filter: None,
        by: Vec::new(),
        options,
        over_ms: None,
        min_expected: MIN_EXPECTED,
        cool_down_ms: COOL_DOWN_MS,
        resolve_after_ms: RESOLVE_AFTER_MS,
        severity: Severity::Error,
        channels: None,
        quiet_hours: None,
        link: String::new(),
    }
}

/// A funnel's steps: whether each is optional.
fn steps(funnel: &Spec) -> Result<Vec<bool>> {
    let steps = funnel.body["steps"].as_array();
    let steps = steps.ok_or_else(|| anyhow!("[[funnel]] {} has no steps", funnel.name))?;
    Ok(steps.iter().map(|step| step["optional"] == true).collect())
}

/// For each funnel, the step that each step's share is of.
pub fn steps_before(setup: &Setup) -> Result<BTreeMap<String, Vec<u8>>> {
    let funnels = setup.definitions.iter().filter(|spec| spec.kind == "funnel");
    funnels
        .map(|funnel| {
            let optional = steps(funnel)?;
            let before = (0..optional.len()).map(|step| {
                let required = (0..step).rev().find(|before| !optional[*before]);
                required.map_or(1, |before| before as u8 + 1)
            });
            Ok((funnel.name.clone(), before.collect()))
        })
        .collect()
}

/// The longest pause within a session of any app.
pub fn session_gap_ms(setup: &Setup) -> i64 {
    let general = setup
        .definitions
        .iter()
        .filter(|spec| spec.kind == "session")
        .map(|spec| &spec.body);
    let overriding = setup.apps.values().filter_map(|app| app.overrides.get("session"));
    let gaps = general
        .chain(overriding)
        .filter_map(|body| duration_ms(body["gap"].as_str()?).ok());
    gaps.max().unwrap_or(30 * MINUTE_MS)
}

/// What the event counts keep.
pub fn counted_by(setup: &Setup) -> Vec<String> {
    let counts = setup.definitions.iter().find(|spec| spec.kind == "counts");
    counts.map_or_else(Vec::new, |spec| by_of(&spec.body))
}

fn by_of(body: &Value) -> Vec<String> {
    let by = body["by"].as_array();
    by.map_or_else(Vec::new, |by| {
        by.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    })
}

impl Written {
    fn rule(&self, setup: &Setup) -> Result<Rule> {
        let (metric, kept) = self.metric(setup)?;
        let kind = self.kind(&metric)?;
        for field in &self.by {
            let is_kept = kept.iter().any(|kept| {
                kept.trim_start_matches("properties.") == field.trim_start_matches("properties.")
            });
            ensure!(
                is_kept,
                "by: '{field}' is not kept there{}",
                nearest(field, kept.iter().map(String::as_str))
            );
        }
        if let Some(filter) = &self.filter {
            ensure!(matches!(metric, Metric::Events(_)), "where: is of event alone");
            Filter::sql(filter, &kept).map_err(|error| anyhow!("where: {error}"))?;
        }
        // What a query answers may be small by nature.
        let usual_least = if self.sql.is_some() { 0.0 } else { MIN_EXPECTED };
        let quiet_hours = self
            .quiet_hours
            .as_deref()
            .map(str::parse::<QuietHours>)
            .transpose();
        let rule = Rule {
            name: self.name.clone(),
            apps: self
                .app
                .as_ref()
                .map_or_else(Vec::new, |names| names.list().to_vec()),
            options: self.options(kind, &metric)?,
            over_ms: self.over_ms(&metric)?,
            metric,
            filter: self.filter.clone(),
            by: self.by.clone(),
            min_expected: self.min_expected.unwrap_or(usual_least),
            cool_down_ms: self.cool_down.map_or(COOL_DOWN_MS, |duration| duration.0),
            resolve_after_ms: self.resolve_after.map_or(RESOLVE_AFTER_MS, |duration| duration.0),
            severity: self.severity,
            channels: self.channels.clone(),
            quiet_hours: quiet_hours.map_err(|error| anyhow!("quiet_hours: {error}"))?,
            link: self.link.clone().unwrap_or_default(),
        };
        ensure!(rule.min_expected >= 0.0, "min_expected: is a number from 0 on");
        ensure!(
            !rule.is_silence() || rule.by.len() <= 1,
            "by: silence watches by one field at most"
        );
        Ok(rule)
    }

    /// What is watched, and what is kept of it.
    fn metric(&self, setup: &Setup) -> Result<(Metric, Vec<String>)> {
        let given = [
            self.event.is_some(),
            self.unique.is_some(),
            self.funnel.is_some(),
            self.session.is_some(),
            self.sql.is_some(),
        ];
        ensure!(
            given.into_iter().filter(|one| *one).count() == 1,
            "it needs one of event, unique, funnel, session and sql: the number to watch"
        );
        ensure!(
            self.window.is_none() || self.unique.is_some(),
            "window: is of unique alone"
        );
        ensure!(
            self.step.is_none() || self.funnel.is_some(),
            "step: is of funnel alone"
        );
        let named = |kind: &str, name: &str| {
            let known = || setup.definitions.iter().filter(|spec| spec.kind == kind);
            known().find(|spec| spec.name == name).ok_or_else(|| {
                let names = known().map(|spec| spec.name.as_str());
                anyhow!("there is no [[{kind}]] '{name}'{}", nearest(name, names))
            })
        };
        if let Some(names) = &self.event {
            return Ok((Metric::Events(names.list().to_vec()), counted_by(setup)));
        }
        if let Some(metric) = &self.unique {
            let spec = named("unique", metric)?;
            let window = self.window.clone().unwrap_or_else(|| "30m".to_owned());
            ensure!(
                WINDOWS.contains(&window.as_str()),
                "window: '{window}' is none of {}",
                WINDOWS.join(", ")
            );
            let metric = metric.clone();
            return Ok((Metric::Unique { metric, window }, by_of(&spec.body)));
        }
        if let Some(funnel) = &self.funnel {
            let spec = named("funnel", funnel)?;
            let count = steps(spec)?.len();
            let step = self.step.map_or(count, usize::from);
            ensure!(
                (2..=count).contains(&step),
                "step: {step} has none before it; steps from 2 to {count} have"
            );
            let step = u8::try_from(step)?;
            let funnel = funnel.clone();
            return Ok((Metric::Funnel { funnel, step }, by_of(&spec.body)));
        }
        let dimensions = ["platform", "app_version", "channel", "campaign", "country"].map(str::to_owned);
        match (self.session, &self.sql) {
            (Some(SessionMetric::Started), _) => Ok((Metric::SessionsStarted, dimensions.to_vec())),
            (Some(SessionMetric::BounceRate), _) => Ok((Metric::BounceRate, dimensions.to_vec())),
            (None, Some(query)) => Ok((Metric::Sql(query.clone()), Vec::new())),
            (None, None) => bail!("it needs a number to watch"),
        }
    }

    fn kind(&self, metric: &Metric) -> Result<Kind> {
        let is_share = matches!(metric, Metric::Funnel { .. } | Metric::BounceRate);
        let has_limits = self.low.is_some() || self.high.is_some();
        let Some(name) = &self.detector else {
            return Ok(match metric {
                _ if has_limits => Kind::Threshold,
                Metric::Events(_) | Metric::SessionsStarted => Kind::Count,
                Metric::Funnel { .. } | Metric::BounceRate => Kind::Rate,
                _ => Kind::Season,
            });
        };
        let found = Kind::NAMES.into_iter().find(|(known, _)| known == name);
        let Some((_, kind)) = found else {
            let known = Kind::NAMES.into_iter().map(|(known, _)| known);
            bail!("detector: '{name}' is none{}", nearest(name, known));
        };
        match kind {
            Kind::Rate => ensure!(
                is_share,
                "detector: rate is of shares: funnel and session = \"bounce_rate\""
            ),
            Kind::Silence => {
                ensure!(
                    matches!(metric, Metric::Events(_)),
                    "detector: silence is of event alone"
                );
            }
            Kind::Count => ensure!(!is_share, "detector: count is of counts; a share has rate"),
            _ => {}
        }
        Ok(kind)
    }

    fn options(&self, kind: Kind, metric: &Metric) -> Result<Options> {
        let mut options = Options::new(kind);
        if kind == Kind::Silence || *metric == Metric::BounceRate {
            options.direction = Direction::Rise;
        }
        match self.direction {
            Some(Way::Drop) => options.direction = Direction::Drop,
            Some(Way::Rise) => options.direction = Direction::Rise,
            Some(Way::Both) => options.direction = Direction::Both,
            None => {}
        }
        if let Some(season) = self.season {
            options.season_ms = season.0;
        }
        let keys = [
            ("low", self.low),
            ("high", self.high),
            ("percent", self.percent),
            ("weeks", self.weeks),
            ("days", self.days),
            ("z", self.z),
            ("slack", self.slack),
            ("limit", self.limit),
            ("false_alarms", self.false_alarms),
        ];
        for (key, value) in keys {
            if let Some(value) = value {
                options.set(key, value)?;
            }
        }
        options.check()?;
        if let Some(text) = &self.firing {
            options.firing = firing(text).ok_or_else(|| anyhow!("for: '{text}' is not like \"2/3\""))?;
        }
        for text in &self.holidays {
            options
                .holidays
                .extend(holidays(text).map_err(|error| anyhow!("holidays: {error}"))?);
        }
        Ok(options)
    }

    fn over_ms(&self, metric: &Metric) -> Result<Option<i64>> {
        let Some(over) = self.over else { return Ok(None) };
        let step_ms = match metric {
            Metric::Unique { .. } => bail!("over: of unique, window says it"),
            Metric::BounceRate => 5 * MINUTE_MS,
            _ => MINUTE_MS,
        };
        ensure!(
            over.0 >= step_ms && over.0 % step_ms == 0 && over.0 <= 24 * 60 * MINUTE_MS,
            "over: is a day at most, in whole {} min",
            step_ms / MINUTE_MS
        );
        Ok(Some(over.0))
    }
}
