//! The series of the rules: each is watched, and followed through its alerts.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use cambium_alerts::{Alert, Judgement, Look, Metric, Pauses, Rule, Tracker, Value, Verdict, Watch};
use cambium_clickhouse::{Client, Tables};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::Settings;
use crate::meters;
use crate::numbers::{Amount, PAST_MS, Shape, ask, ask_sql, query};
use crate::register::Register;

/// The values of a field that are watched are those with most in them.
const MOST_SLICES: usize = 20;
/// A slice tells for itself when the whole has not told meanwhile.
const LOOKS_FOR_THE_WHOLE: u32 = 5;
/// What passes between an event and its number: a flush, and a look.
const OWN_DELAY_S: f64 = 4.0;
const MINUTE_MS: i64 = 60_000;

/// All series of a rule: of the whole, or of the values of one field.
pub(crate) struct Group {
    pub rule: Rule,
    pub by: Option<String>,
    shape: Shape,
    lines: BTreeMap<(String, String), Line>,
    /// How many of them there were when the past was learned.
    known: usize,
    /// Whether the past was learned.
    is_primed: bool,
    /// Buckets before it are complete.
    complete_to_ms: i64,
    due_ms: i64,
}

/// When numbers are looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// They are those of this instant, but for records that take so long to be read.
    pub as_of_ms: i64,
    pub unread_ms: i64,
    pub now_ms: i64,
}

/// One series.
struct Line {
    slice: String,
    zone: TimeZone,
    watch: Watch,
    pauses: Option<Pauses>,
    /// The last event, as far as counts tell.
    last_ms: Option<i64>,
    /// What was seen of buckets that are not complete yet.
    seen: BTreeMap<i64, Value>,
    verdict: Verdict,
    breaching: u32,
    tracker: Tracker,
}

/// One bucket of one series, judged again.
pub(crate) struct Replayed<'r> {
    pub slice: &'r str,
    /// The bucket's end.
    pub at_ms: i64,
    pub verdict: &'r Verdict,
    pub is_on: bool,
    pub changed: Option<Alert>,
    pub permille: u64,
}

impl Line {
    fn local_ms(&self, at_ms: i64) -> i64 {
        let instant = Timestamp::from_millisecond(at_ms).unwrap_or(Timestamp::UNIX_EPOCH);
        at_ms + i64::from(self.zone.to_offset(instant).seconds()) * 1000
    }

    /// Takes what a bucket holds now; gives what is new in it.
    fn see(&mut self, at_ms: i64, value: Value) -> Value {
        let before = self.seen.insert(at_ms, value);
        match (before, value) {
            (Some(Value::Number(before)), Value::Number(now)) => Value::Number((now - before).max(0.0)),
            (Some(Value::Share(a, b)), Value::Share(c, d)) => {
                Value::Share((c - a).max(0.0), (d - b).max(0.0))
            }
            _ => value,
        }
    }

    fn complete(&mut self, at_ms: i64, value: Value) {
        let local_ms = self.local_ms(at_ms);
        if let (Some(pauses), Value::Number(count)) = (&mut self.pauses, value) {
            pauses.count(local_ms, MINUTE_MS, count);
        } else {
            self.watch.complete(local_ms, value, self.tracker.is_on());
        }
    }

    fn look(&mut self, as_of_ms: i64) -> Verdict {
        let Some(pauses) = &self.pauses else {
            return self.watch.look();
        };
        let Some(last_ms) = self.last_ms else {
            return Verdict::default();
        };
        let Some(allowed_s) = pauses.allowed_s(self.local_ms(last_ms)) else {
            return Verdict::default();
        };
        let pause_ms = (as_of_ms - last_ms).max(0);
        let (pause_s, high) = (pause_ms as f64 / 1000.0, allowed_s + OWN_DELAY_S);
        let breaches = pause_s > high;
        let judgement = Judgement {
            value: Some(pause_s),
            high: Some(high),
            score: Some(pause_s / high),
            breaches,
            ..Judgement::default()
        };
        Verdict {
            looks: vec![Look {
                window_ms: pause_ms,
                judgement,
            }],
            breaches,
            fires: breaches,
        }
    }

    /// What is missing of what was expected in a window, as it was last judged. Where another window was judged,
    /// nearest to it, as much is taken to be missing in the same time.
    fn missing(&self, window_ms: f64) -> f64 {
        let apart = |look: &&Look| (look.window_ms as f64 - window_ms).abs();
        let nearest = self.verdict.looks.iter();
        let nearest = nearest.min_by(|left, right| apart(left).total_cmp(&apart(right)));
        let missing = nearest.and_then(|look| {
            let missing = look.judgement.expected? - look.judgement.value?;
            Some(missing * window_ms / (look.window_ms as f64).max(1.0))
        });
        missing.unwrap_or(0.0)
    }
}

impl Group {
    /// The groups of a rule: the whole, and one for each field that it watches by.
    pub fn of(rule: &Rule, settings: &Settings) -> Vec<Group> {
        let shape = Shape::of(rule, settings);
        let fields = rule.by.iter().map(|field| Some(field.clone()));
        std::iter::once(None)
            .chain(fields)
            .map(|by| Group {
                rule: rule.clone(),
                by,
                shape,
                lines: BTreeMap::new(),
                known: 0,
                is_primed: false,
                complete_to_ms: 0,
                due_ms: 0,
            })
            .collect()
    }

    /// Whether it is time to ask again.
    pub fn is_due(&self, now_ms: i64) -> bool {
        now_ms >= self.due_ms
    }

    /// What comes next is no measure of now: samples begin anew.
    pub fn interrupt(&mut self, as_of_ms: Option<i64>) {
        for line in self.lines.values_mut() {
            line.watch.interrupt();
            line.breaching = 0;
            // While nothing could be known, nothing was silent.
            if let Some(as_of_ms) = as_of_ms.filter(|_| !line.tracker.is_on()) {
                line.last_ms = line.last_ms.max(Some(as_of_ms));
            }
        }
    }

    /// Asks for what is new, and gives the alerts that changed.
    pub async fn step(
        &mut self,
        client: &Client,
        settings: &Settings,
        register: &Register,
        Moment {
            as_of_ms,
            unread_ms,
            now_ms,
        }: Moment,
    ) -> Result<Vec<Alert>> {
        self.due_ms = now_ms + self.shape.every_ms;
        if !self.is_primed {
            self.prime(client, settings, register, as_of_ms).await?;
        }
        let amounts = self.ask(client, settings, as_of_ms, now_ms).await?;
        self.take(amounts, settings, register, as_of_ms);
        meters::looks(&self.rule.name, self.lines.len());
        let mut changed = Vec::new();
        for line in self.lines.values_mut() {
            // Nothing is silent that may lie among the records that are not read yet.
            line.verdict = line.look(as_of_ms - unread_ms);
            line.breaching = if line.verdict.breaches {
                line.breaching + 1
            } else {
                0
            };
            let is_early = self.by.is_some()
                && !line.tracker.is_on()
                && (1..LOOKS_FOR_THE_WHOLE).contains(&line.breaching);
            if is_early {
                continue;
            }
            if let Some(alert) = line.tracker.step(&self.rule, &line.slice, &line.verdict, now_ms) {
                changed.push(alert);
            }
        }
        Ok(changed)
    }

    async fn ask(
        &self,
        client: &Client,
        settings: &Settings,
        as_of_ms: i64,
        now_ms: i64,
    ) -> Result<Vec<Amount>> {
        if let Metric::Sql(query) = &self.rule.metric {
            let amounts = ask_sql(client, &self.rule, query, now_ms).await?;
            keep_samples(client, &self.rule, &amounts).await?;
            return Ok(amounts);
        }
        let from_ms = self.complete_to_ms.min(as_of_ms - self.shape.reach_ms());
        let from_ms = from_ms.div_euclid(self.shape.bucket_ms) * self.shape.bucket_ms;
        // What a wrong clock puts into the future counts from then on.
        let query = query(
            &self.rule,
            settings,
            self.by.as_deref(),
            (from_ms, as_of_ms + MINUTE_MS),
        )?;
        ask(client, &self.rule, &query).await
    }

    /// Learns from what there is of the last weeks.
    async fn prime(
        &mut self,
        client: &Client,
        settings: &Settings,
        register: &Register,
        as_of_ms: i64,
    ) -> Result<()> {
        let bucket_ms = self.shape.bucket_ms;
        let end_ms = (as_of_ms - self.shape.ripe_ms).div_euclid(bucket_ms) * bucket_ms;
        let query = query(
            &self.rule,
            settings,
            self.by.as_deref(),
            (as_of_ms - PAST_MS, end_ms),
        )?;
        let past = ask(client, &self.rule, &query).await?;
        let mut series: BTreeMap<(String, String), BTreeMap<i64, Value>> = BTreeMap::new();
        for amount in past {
            let line = series.entry((amount.app, amount.slice)).or_default();
            line.insert(amount.at_ms, amount.value);
        }
        let mut sized: Vec<_> = series.into_iter().collect();
        let size = |line: &BTreeMap<i64, Value>| -> f64 {
            line.values()
                .map(|value| match value {
                    Value::Number(number) | Value::Share(_, number) => *number,
                })
                .sum()
        };
        sized.sort_by(|(_, left), (_, right)| size(right).total_cmp(&size(left)));
        if self.by.is_some() {
            sized.truncate(MOST_SLICES);
        }
        self.known = sized.len();
        for (key, past) in sized {
            let filled = self.filled(past, end_ms);
            let line = self.line(&key, settings, register);
            let local: Vec<(i64, Value)> = filled
                .iter()
                .map(|(at, value)| (line.local_ms(*at), *value))
                .collect();
            if let Some(pauses) = &mut line.pauses {
                for (at, value) in &local {
                    pauses.count(*at, MINUTE_MS, value.number().unwrap_or(0.0));
                }
                let last = filled.iter().rev().find(|(_, value)| value.number() > Some(0.0));
                line.last_ms = last.map(|(at, _)| at + MINUTE_MS);
            } else {
                let now_ms = line.local_ms(end_ms);
                line.watch.prime(&local, now_ms);
            }
        }
        self.complete_to_ms = end_ms;
        Ok(())
    }

    /// Runs over what was, bucket by bucket, as if each had just become complete.
    pub async fn replay(
        &mut self,
        client: &Client,
        settings: &Settings,
        register: &Register,
        (from_ms, to_ms): (i64, i64),
        mut see: impl FnMut(Replayed<'_>),
    ) -> Result<()> {
        let bucket_ms = self.shape.bucket_ms;
        let from_ms = from_ms.div_euclid(bucket_ms) * bucket_ms;
        self.prime(client, settings, register, from_ms + self.shape.ripe_ms)
            .await?;
        let query = query(&self.rule, settings, self.by.as_deref(), (from_ms, to_ms))?;
        let mut later: BTreeMap<(String, String), BTreeMap<i64, Value>> = BTreeMap::new();
        for amount in ask(client, &self.rule, &query).await? {
            let line = later.entry((amount.app, amount.slice)).or_default();
            line.insert(amount.at_ms, amount.value);
        }
        let keys: Vec<(String, String)> = self.lines.keys().chain(later.keys()).cloned().collect();
        for key in keys {
            let Some(buckets) = later.remove(&key) else {
                continue;
            };
            let has_zeros = self.shape.has_zeros;
            let rule = self.rule.clone();
            let line = self.line(&key, settings, register);
            let first = buckets.keys().next().copied().unwrap_or(to_ms);
            let first = if line.last_ms.is_some() || line.watch.has_past() {
                from_ms
            } else {
                first
            };
            for at in (first..to_ms).step_by(bucket_ms as usize) {
                let value = match buckets.get(&at) {
                    Some(value) => *value,
                    None if has_zeros => Value::Number(0.0),
                    None => continue,
                };
                line.complete(at, value);
                let end_ms = at + bucket_ms;
                if value.number() > Some(0.0) {
                    line.last_ms = line.last_ms.max(Some(end_ms));
                }
                let verdict = line.look(end_ms);
                let changed = line.tracker.step(&rule, &line.slice, &verdict, end_ms);
                see(Replayed {
                    slice: &line.slice,
                    at_ms: end_ms,
                    verdict: &verdict,
                    is_on: line.tracker.is_on(),
                    changed,
                    permille: ((at - from_ms) * 1000 / (to_ms - from_ms).max(1)) as u64,
                });
            }
        }
        Ok(())
    }

    /// The past with zeros where nothing happened.
    fn filled(&self, past: BTreeMap<i64, Value>, end_ms: i64) -> Vec<(i64, Value)> {
        let Some((first, _)) = past.first_key_value().filter(|_| self.shape.has_zeros) else {
            return past.into_iter().collect();
        };
        let buckets = (*first..end_ms).step_by(self.shape.bucket_ms as usize);
        buckets
            .map(|at| (at, past.get(&at).copied().unwrap_or(Value::Number(0.0))))
            .collect()
    }

    fn line(&mut self, key: &(String, String), settings: &Settings, register: &Register) -> &mut Line {
        let (rule, shape, by) = (&self.rule, self.shape, self.by.as_deref());
        let alike = self.known.max(self.lines.len() + 1);
        self.lines.entry(key.clone()).or_insert_with(|| {
            let slice = described(rule, key, by);
            let tracker = register.tracker(&rule.name, &slice);
            let mut watch = Watch::new(&cambium_alerts::Settings {
                alike,
                ..shape.watch(rule)
            });
            if let Some(alert) = tracker.alert.as_ref().filter(|alert| alert.state.is_on())
                && let Some(expected) = alert.expected
            {
                watch.recall(alert.evidence.window_seconds * 1000.0, expected);
            }
            Line {
                zone: settings.zone(&key.0),
                watch,
                pauses: rule.is_silence().then(|| Pauses::new(&rule.options)),
                last_ms: None,
                seen: BTreeMap::new(),
                verdict: Verdict::default(),
                breaching: 0,
                tracker,
                slice,
            }
        })
    }

    /// Samples what is new, and completes the buckets whose time is over.
    fn take(&mut self, amounts: Vec<Amount>, settings: &Settings, register: &Register, as_of_ms: i64) {
        if let Metric::Sql(_) = self.rule.metric {
            let at_ms = amounts.first().map_or(as_of_ms, |amount| amount.at_ms);
            let mut unanswered: BTreeSet<_> = self.lines.keys().cloned().collect();
            for amount in amounts {
                let key = (amount.app, amount.slice);
                unanswered.remove(&key);
                let line = self.line(&key, settings, register);
                line.complete(amount.at_ms, amount.value);
            }
            // A query that counts by a label leaves out those that nothing is of.
            for key in unanswered {
                let line = self.line(&key, settings, register);
                line.complete(at_ms, Value::Number(0.0));
            }
            self.is_primed = true;
            return;
        }
        let mut fresh: BTreeMap<(String, String), Value> = BTreeMap::new();
        for amount in amounts {
            let key = (amount.app, amount.slice);
            if !self.lines.contains_key(&key) && self.by.is_some() && self.lines.len() >= MOST_SLICES {
                continue;
            }
            let more = self
                .line(&key, settings, register)
                .see(amount.at_ms, amount.value);
            let sum = fresh.entry(key).or_insert(zero(more));
            *sum = sum.plus(more);
        }
        let (is_primed, sample_ms) = (self.is_primed, self.shape.sample_ms);
        for (key, line) in &mut self.lines {
            let none = if self.rule.is_share() {
                Value::Share(0.0, 0.0)
            } else {
                Value::Number(0.0)
            };
            let fresh = fresh.get(key).copied().unwrap_or(none);
            // What is there at first came before, nobody knows when.
            if is_primed && sample_ms > 0 {
                if line.pauses.is_some() {
                    if fresh.number() > Some(0.0) {
                        line.last_ms = line.last_ms.max(Some(as_of_ms));
                    }
                } else {
                    let (at_ms, is_on) = (line.local_ms(as_of_ms), line.tracker.is_on());
                    line.watch.sample(at_ms, fresh, is_on);
                }
            }
        }
        self.is_primed = true;
        self.complete(as_of_ms);
    }

    fn complete(&mut self, as_of_ms: i64) {
        let bucket_ms = self.shape.bucket_ms;
        let end_ms = (as_of_ms - self.shape.ripe_ms).div_euclid(bucket_ms) * bucket_ms;
        let from_ms = self.complete_to_ms;
        for line in self.lines.values_mut() {
            let later = line.seen.split_off(&end_ms);
            let ripe = std::mem::replace(&mut line.seen, later);
            if self.shape.has_zeros {
                for at in (from_ms..end_ms).step_by(bucket_ms as usize) {
                    line.complete(at, ripe.get(&at).copied().unwrap_or(Value::Number(0.0)));
                }
            } else {
                for (at, value) in ripe.range(from_ms..) {
                    line.complete(*at, *value);
                }
            }
            // Of sampled ones the next query asks again, and what was there must be known to be old.
            if self.shape.sample_ms > 0 {
                line.seen.extend(ripe);
                let reach_ms = self.shape.reach_ms() + bucket_ms;
                line.seen.retain(|at, _| *at >= as_of_ms - reach_ms);
            }
        }
        self.complete_to_ms = self.complete_to_ms.max(end_ms);
    }

    /// Of the lines that lack something, the one that lacks most: its slice and how much.
    pub fn most_missing(&self, app: &str, window_ms: f64) -> Option<(String, f64)> {
        self.lines_of(app)
            .map(|line| (line.slice.clone(), line.missing(window_ms)))
            .filter(|(_, missing)| *missing > 0.0)
            .max_by(|left, right| left.1.total_cmp(&right.1))
    }

    /// What is missing in lines of an app that have told of what happened in a span that ends now.
    pub fn told_missing(&self, app: &str, window_ms: f64, span: (i64, i64)) -> f64 {
        let told = self
            .lines_of(app)
            .filter(|line| line.tracker.has_told(&self.rule, span));
        told.map(|line| line.missing(window_ms).max(0.0)).sum()
    }

    /// Whether a line of an app has told of what happened in a span that ends now.
    pub fn has_told(&self, app: &str, span: (i64, i64)) -> bool {
        self.lines_of(app)
            .any(|line| line.tracker.has_told(&self.rule, span))
    }

    fn lines_of(&self, app: &str) -> impl Iterator<Item = &Line> {
        let lines = self.lines.iter().filter(move |((of, _), _)| of == app);
        lines.map(|(_, line)| line)
    }

    /// The app that a slice of this group belongs to.
    pub fn app_of(&self, slice: &str) -> Option<&str> {
        let found = self.lines.iter().find(|(_, line)| line.slice == slice);
        found.map(|((app, _), _)| app.as_str())
    }

    /// An alert of a slice that is not to be told, since something else has.
    pub fn take_back(&mut self, slice: &str) {
        if let Some(line) = self.lines.values_mut().find(|line| line.slice == slice) {
            line.tracker = Tracker::default();
        }
    }

    /// What becomes of a series that is judged so.
    #[cfg(test)]
    pub fn judged(
        &mut self,
        (app, value): (&str, &str),
        verdict: Verdict,
        settings: &Settings,
        now_ms: i64,
    ) -> Option<Alert> {
        let rule = self.rule.clone();
        let key = (app.to_owned(), value.to_owned());
        let line = self.line(&key, settings, &Register::default());
        line.verdict = verdict;
        line.tracker.step(&rule, &line.slice, &line.verdict, now_ms)
    }
}

fn zero(like: Value) -> Value {
    match like {
        Value::Number(_) => Value::Number(0.0),
        Value::Share(..) => Value::Share(0.0, 0.0),
    }
}

/// `app = shop, platform = ios`; the app is left out where the rule has one alone.
fn described(rule: &Rule, (app, value): &(String, String), by: Option<&str>) -> String {
    let mut parts = Vec::new();
    if rule.apps.len() != 1 && !app.is_empty() {
        parts.push(format!("app = {app}"));
    }
    match by {
        Some(field) => parts.push(format!("{field} = {value}")),
        None if !value.is_empty() => parts.push(value.clone()),
        None => {}
    }
    parts.join(", ")
}

async fn keep_samples(client: &Client, rule: &Rule, amounts: &[Amount]) -> Result<()> {
    use cambium_engine::{Rows, Table};
    static SAMPLES: Table = Table {
        name: "alert_sample_rows",
        columns: &[
            ("rule", "String"),
            ("slice", "String"),
            ("at", "DateTime('UTC')"),
            ("value", "Float64"),
        ],
    };
    let mut rows = Rows::default();
    for amount in amounts {
        rows.row(&SAMPLES)
            .text(&rule.name)
            .text(&amount.slice)
            .datetime(amount.at_ms)
            .f64(amount.value.number().unwrap_or(0.0));
    }
    client.write(&rows).await
}
