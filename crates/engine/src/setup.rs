//! The setup: everything that decides what is counted and how, as one value.
//!
//! It is written down (journaled) with the offset at which it enters a partition, so that a replay
//! lets it in at the same place.

use std::collections::BTreeMap;

use cambium_event::{Fields, Format};
use serde::{Deserialize, Serialize};

use crate::devices::{self, Identity};
use crate::{Processor, WeekStart};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeRules {
    pub lateness_ms: i64,
    pub skew_ms: i64,
    pub horizon_ms: i64,
}

/// From when on events of an app are counted, and may change what is counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub rules: TimeRules,
    /// How far behind the lateness devices become users.
    pub link_within_ms: i64,
    /// What is older than this was late before, under a shorter lateness.
    pub late_before: i64,
}

impl Times {
    /// Of an app of which nothing was counted yet.
    pub fn of_new_app(rules: TimeRules) -> Times {
        Times {
            rules,
            link_within_ms: 0,
            late_before: i64::MIN,
        }
    }

    /// No event older than this is accepted.
    #[inline]
    pub fn accepts_from(&self, watermark: i64) -> i64 {
        (watermark - self.rules.lateness_ms).max(self.late_before)
    }

    /// What is older than this is settled: no event as old will be accepted any more, nor come to be another user's.
    #[inline]
    pub fn cutoff(&self, watermark: i64) -> i64 {
        self.accepts_from(watermark).saturating_sub(self.link_within_ms)
    }

    /// How far back what is counted may change, but for what was late before.
    pub fn reach_ms(&self) -> i64 {
        self.rules.lateness_ms + self.link_within_ms
    }
}

/// What one app has of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AppSetup {
    pub zone: String,
    pub time: TimeRules,
    /// Left out: as for all apps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub week_start: Option<WeekStart>,
    /// Definitions by kind that stand for this app in the place of the general ones.
    pub overrides: BTreeMap<String, serde_json::Value>,
}

/// A definition as it was written, complete with its defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    pub kind: String,
    pub name: String,
    /// Empty: all apps.
    pub apps: Vec<String>,
    pub body: serde_json::Value,
    pub generation: u32,
}

impl Spec {
    /// Whether it is the same kind and name, in whatever generation and form.
    pub fn is_of_name(&self, other: &Spec) -> bool {
        self.kind == other.kind && self.name == other.name
    }
}

/// What is written beside the numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beside {
    pub rejected_payload: RejectedPayload,
    /// Whether every accepted event is written as a row of its own.
    pub events: bool,
    /// Whether those rows hold the ids of users as they came.
    pub raw_ids: bool,
}

/// What is kept of a rejected record's bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RejectedPayload {
    #[default]
    Keep,
    /// Its form: letters as x, digits as 0, but for the names of an event's fields.
    Redact,
    None,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Setup {
    pub time: TimeRules,
    pub week_start: WeekStart,
    pub apps: BTreeMap<String, AppSetup>,
    /// The `where` of each `[[drop]]`.
    pub drop: Vec<String>,
    pub definitions: Vec<Spec>,
    /// How the source's records are read.
    pub fields: Fields,
    #[serde(default)]
    pub format: Format,
    #[serde(default)]
    pub beside: Beside,
    pub max_values: usize,
    /// The fingerprint of the key under which users are hashed: with another one, definitions count other users. None: in
    /// setups of earlier releases, where it was that of the key that is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash_key: Option<u32>,
    /// In which way each kind is counted ([`crate::Processor::SEMANTICS`]): a release that counts otherwise counts other
    /// definitions, from an offset on that is written down as of any other change. A kind that is not there: in the way of
    /// the release that is there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub semantics: BTreeMap<String, u32>,
    /// Users whose records are dropped, and of whom nothing is kept that is theirs alone; sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forgotten: Vec<u64>,
    /// Only these definitions are counted, by kind and name, and no rows are left but theirs; none: all are, and what
    /// became of the records beside them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only: Option<Vec<(String, String)>>,
}

impl Setup {
    /// Whether a definition is counted. Whose an event is must be known for any.
    pub(crate) fn counts(&self, spec: &Spec) -> bool {
        if spec.kind == Identity::KIND {
            return true;
        }
        let is_it = |(kind, name): &(String, String)| *kind == spec.kind && *name == spec.name;
        self.only.as_ref().is_none_or(|only| only.iter().any(is_it))
    }

    /// How long before a device's first user what it did is theirs; none: devices and users are kept apart.
    pub fn link_within_ms(&self, app: &str) -> Option<i64> {
        let body = self.definition(Identity::KIND, "", app)?;
        let definition = devices::Definition::deserialize(body).ok()?;
        Some(definition.link_within.0)
    }

    pub fn time(&self, app: &str) -> TimeRules {
        self.apps.get(app).map_or(self.time, |app| app.time)
    }

    pub fn week_start(&self, app: &str) -> WeekStart {
        let own = self.apps.get(app).and_then(|app| app.week_start);
        own.unwrap_or(self.week_start)
    }

    pub fn zone(&self, app: &str) -> &str {
        self.apps.get(app).map_or("UTC", |app| app.zone.as_str())
    }

    /// The same, with each definition in this generation of its kind and name, where there is one that is later.
    pub fn in_generations(&self, generation: impl Fn(&Spec) -> Option<u32>) -> Setup {
        let mut setup = self.clone();
        for spec in &mut setup.definitions {
            spec.generation = generation(spec).unwrap_or(0).max(spec.generation);
        }
        setup
    }

    /// What is counted, each once, whichever generations it is counted in.
    pub fn in_first_generations(&self) -> Vec<Spec> {
        let mut definitions: Vec<Spec> = Vec::new();
        for spec in &self.definitions {
            let first = Spec {
                generation: 0,
                ..spec.clone()
            };
            if !definitions.contains(&first) {
                definitions.push(first);
            }
        }
        definitions
    }

    /// The same, with the later generations of its definitions that `counted` has beside.
    pub fn with_later_generations(&self, counted: &Setup) -> Setup {
        let is_later = |one: &&Spec| {
            let mut own = self.definitions.iter().filter(|own| own.is_of_name(one));
            own.next().is_some_and(|own| own.generation < one.generation)
        };
        let mut setup = self.clone();
        setup
            .definitions
            .extend(counted.definitions.iter().filter(is_later).cloned());
        setup
    }

    /// What is counted here, and beside it what `given` has in generations of its own: one is shown until the other is
    /// complete. Where `given` counts otherwise, its definitions stand in the place of these.
    pub fn with_past(&self, given: &Setup) -> Setup {
        let counting = self.counting_as(given);
        let stays = |own: &Spec| {
            let mut others = given.definitions.iter().filter(|one| one.is_of_name(own));
            others.all(|one| one.body == own.body && one.apps == own.apps)
        };
        let means = |setup: &Setup| {
            (
                setup.apps.clone(),
                setup.week_start,
                setup.hash_key,
                setup.semantics.clone(),
            )
        };
        let is_as_here = means(&counting) == means(self);
        if !is_as_here || !self.definitions.iter().all(stays) {
            return counting;
        }
        let mut setup = self.clone();
        let is_new = |one: &&Spec| !self.definitions.contains(one);
        setup
            .definitions
            .extend(given.definitions.iter().filter(is_new).cloned());
        setup
    }

    /// The same, with these users forgotten beside those who are already.
    pub fn forgetting(&self, users: &[u64]) -> Setup {
        let mut setup = self.clone();
        setup.forgotten.extend(users);
        setup.forgotten.sort_unstable();
        setup.forgotten.dedup();
        setup
    }

    /// Whether all of these users are forgotten.
    pub fn has_forgotten(&self, users: &[u64]) -> bool {
        users
            .iter()
            .all(|user| self.forgotten.binary_search(user).is_ok())
    }

    /// Whether the definitions of `given` are all counted here.
    pub fn counts_all_of(&self, given: &Setup) -> bool {
        given.definitions.iter().all(|one| self.definitions.contains(one))
    }

    /// What was read how and judged how as here; what is counted as in `other`.
    pub fn counting_as(&self, other: &Setup) -> Setup {
        let names = self.apps.keys().chain(other.apps.keys());
        let apps = names.map(|name| {
            let app = AppSetup {
                zone: other.zone(name).to_owned(),
                time: self.time(name),
                week_start: other.apps.get(name).and_then(|app| app.week_start),
                overrides: other
                    .apps
                    .get(name)
                    .map_or_else(BTreeMap::new, |app| app.overrides.clone()),
            };
            (name.clone(), app)
        });
        Setup {
            apps: apps.collect(),
            week_start: other.week_start,
            hash_key: other.hash_key,
            semantics: other.semantics.clone(),
            definitions: other.definitions.clone(),
            ..self.clone()
        }
    }

    /// What the definition of a kind and name says that counts `app`.
    pub fn definition<'s>(
        &'s self,
        kind: &'s str,
        name: &str,
        app: &'s str,
    ) -> Option<&'s serde_json::Value> {
        let mut all = self.definitions(kind, app);
        all.find(|(spec, _)| spec.name == name).map(|(_, body)| body)
    }

    /// The definitions of a kind that count `app`, with what the app overrides.
    pub fn definitions<'s>(
        &'s self,
        kind: &'s str,
        app: &'s str,
    ) -> impl Iterator<Item = (&'s Spec, &'s serde_json::Value)> {
        let overriding = self.apps.get(app).and_then(|app| app.overrides.get(kind));
        self.definitions
            .iter()
            .filter(move |spec| {
                spec.kind == kind && (spec.apps.is_empty() || spec.apps.iter().any(|one| one == app))
            })
            .map(move |spec| (spec, overriding.unwrap_or(&spec.body)))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Nothing is counted, nothing comes late.
    pub(crate) fn setup() -> Setup {
        Setup {
            time: TimeRules {
                lateness_ms: 0,
                skew_ms: 0,
                horizon_ms: 0,
            },
            week_start: WeekStart::Monday,
            apps: Default::default(),
            drop: Vec::new(),
            definitions: Vec::new(),
            fields: Fields::default(),
            format: Default::default(),
            beside: Default::default(),
            max_values: 1,
            hash_key: None,
            semantics: Default::default(),
            forgotten: Vec::new(),
            only: None,
        }
    }

    fn app(zone: &str) -> AppSetup {
        AppSetup {
            zone: zone.to_owned(),
            time: setup().time,
            week_start: None,
            overrides: BTreeMap::new(),
        }
    }

    /// "kind name generation", and the apps that it is for.
    fn spec(text: &str, apps: &[&str]) -> Spec {
        let words: Vec<&str> = text.split(' ').collect();
        Spec {
            kind: words[0].to_owned(),
            name: words[1].to_owned(),
            apps: apps.iter().map(|app| (*app).to_owned()).collect(),
            body: words[1].into(),
            generation: words[2].parse().unwrap(),
        }
    }

    fn told(specs: &[Spec]) -> Vec<String> {
        let told = |one: &Spec| format!("{} {} {}", one.kind, one.name, one.generation);
        specs.iter().map(told).collect()
    }

    #[test]
    fn definitions_count_the_apps_they_are_for() {
        let mut setup = setup();
        setup.definitions = vec![
            spec("unique all 0", &[]),
            spec("unique some 0", &["a", "b"]),
            spec("session all 0", &[]),
        ];
        let mut overriding = app("UTC");
        overriding.overrides.insert("unique".to_owned(), "own".into());
        setup.apps.insert("b".to_owned(), overriding);
        for (kind, app, bodies) in [
            ("unique", "a", "all some"),
            ("unique", "b", "own own"),
            ("unique", "c", "all"),
            ("session", "b", "all"),
        ] {
            let found: Vec<_> = setup
                .definitions(kind, app)
                .map(|(_, body)| body.as_str().unwrap())
                .collect();
            assert_eq!(found.join(" "), bodies, "{kind} of {app}");
        }
    }
    #[test]
    fn generations_are_told_apart_and_taken_together() {
        let mut counted = setup();
        counted.definitions = ["unique a 0", "unique a 2", "unique b 1"]
            .map(|text| spec(text, &[]))
            .into();
        assert_eq!(
            told(&counted.in_first_generations()),
            ["unique a 0", "unique b 0"]
        );
        let mut written = setup();
        written.definitions = ["unique a 0", "unique b 1", "unique c 0"]
            .map(|text| spec(text, &[]))
            .into();
        assert_eq!(
            told(&written.with_later_generations(&counted).definitions),
            ["unique a 0", "unique b 1", "unique c 0", "unique a 2"]
        );
        assert!(
            !written.counts_all_of(&counted)
                && written.with_later_generations(&counted).counts_all_of(&counted)
        );
    }

    /// Beside what is counted here, unless the two cannot stand beside each other.
    #[test]
    fn a_past_stands_beside_what_is_counted_or_in_its_place() {
        let here = Setup {
            definitions: vec![spec("unique a 0", &[]), spec("unique b 0", &[])],
            ..setup()
        };
        let given = |own: Spec| Setup {
            definitions: vec![own, spec("unique c 0", &[])],
            ..setup()
        };
        let same = given(spec("unique a 1", &[]));
        let other_body = given(Spec {
            body: "other".into(),
            ..spec("unique a 1", &[])
        });
        let other_apps = given(spec("unique a 1", &["s"]));
        let other_weeks = Setup {
            week_start: WeekStart::Sunday,
            ..same.clone()
        };
        let beside = ["unique a 0", "unique b 0", "unique a 1", "unique c 0"].as_slice();
        let instead = ["unique a 1", "unique c 0"].as_slice();
        for (given, expected) in [
            (same, beside),
            (other_body, instead),
            (other_apps, instead),
            (other_weeks, instead),
        ] {
            assert_eq!(told(&here.with_past(&given).definitions), expected, "{given:?}");
        }
    }

    #[test]
    fn who_is_forgotten_stays_so() {
        let forgotten = setup().forgetting(&[3, 1]).forgetting(&[2, 1]);
        assert_eq!(forgotten.forgotten, [1, 2, 3]);
        assert!(forgotten.has_forgotten(&[1, 3]) && !forgotten.has_forgotten(&[1, 4]));
    }

    /// How records are read and judged stays; what is counted, and of which users by which days, is the other's.
    #[test]
    fn a_setup_that_counts_as_another_reads_as_before() {
        let here = Setup {
            drop: vec!["a == 1".to_owned()],
            apps: [("s".to_owned(), app("UTC"))].into(),
            forgotten: vec![7],
            ..setup()
        };
        let mut theirs = app("Asia/Kolkata");
        (theirs.week_start, theirs.time.lateness_ms) = (Some(WeekStart::Friday), 5);
        let there = Setup {
            apps: [("s".to_owned(), theirs)].into(),
            week_start: WeekStart::Sunday,
            hash_key: Some(9),
            semantics: [("unique".to_owned(), 2)].into(),
            definitions: vec![spec("unique a 0", &[])],
            drop: vec!["b == 1".to_owned()],
            ..setup()
        };
        let counting = here.counting_as(&there);
        assert_eq!(
            (counting.zone("s"), counting.week_start("s"), counting.time("s")),
            ("Asia/Kolkata", WeekStart::Friday, here.time("s"))
        );
        let apps = counting.apps.clone();
        assert_eq!(
            counting,
            Setup {
                drop: here.drop,
                forgotten: here.forgotten,
                apps,
                ..there
            }
        );
    }
}
