//! What definitions are called. The name that one was counted under first stays that of its numbers; `was` says it.

use anyhow::{Result, ensure};
use cambium_engine::{Setup, Spec};
use cambium_pipeline::Renamed;

/// The definitions that are called otherwise than when they were counted first.
#[derive(Clone, Debug, Default)]
pub struct Names(Vec<Renamed>);

impl Names {
    pub fn renamed(&self) -> &[Renamed] {
        &self.0
    }

    /// `spec` has the name that it was counted under first.
    pub fn add(&mut self, spec: &Spec, name: &str) {
        if spec.name != name {
            self.0.push(Renamed {
                kind: spec.kind.clone(),
                was: spec.name.clone(),
                apps: spec.apps.clone(),
                name: name.to_owned(),
            });
        }
    }

    /// What a definition is called, where its first name is known; of an app that counts it.
    pub fn of<'n>(&'n self, kind: &str, first: &'n str, app: &str) -> &'n str {
        let is_it = |one: &&Renamed| {
            let counts = one.apps.is_empty() || one.apps.iter().any(|other| other == app);
            one.kind == kind && one.was == first && counts
        };
        self.0.iter().find(is_it).map_or(first, |one| &one.name)
    }

    /// The same, of a definition that is configured.
    pub fn of_spec<'n>(&'n self, spec: &'n Spec) -> &'n str {
        let app = spec.apps.first().map_or("", String::as_str);
        self.of(&spec.kind, &spec.name, app)
    }

    /// The setup with its definitions under the names that people use.
    pub fn used_in(&self, setup: &Setup) -> Setup {
        let mut setup = setup.clone();
        for spec in &mut setup.definitions {
            spec.name = self.of_spec(spec).to_owned();
            self.rename_of(spec, |one| (&one.was, &one.name));
        }
        setup
    }

    /// A definition names that which it is `of` as people do; it rests on what was counted first.
    pub fn rest_on_first(&self, spec: &mut Spec) {
        self.rename_of(spec, |one| (&one.name, &one.was));
    }

    fn rename_of(&self, spec: &mut Spec, names: impl Fn(&Renamed) -> (&String, &String)) {
        let Some(of) = spec.body.get_mut("of") else {
            return;
        };
        let is_of_unique = |one: &&Renamed| one.kind == "unique" && overlap(&one.apps, &spec.apps);
        let mut uniques = self.0.iter().filter(is_of_unique).map(names);
        if let Some((_, to)) = uniques.find(|(from, _)| *of == **from) {
            *of = to.clone().into();
        }
    }
}

/// Definitions of one kind, each with what it is called: no two that count the same app may be called the same, or go on
/// with the same past.
pub fn check(kind: &str, specs: &[(String, Spec)]) -> Result<()> {
    for (place, (name, spec)) in specs.iter().enumerate() {
        let before = specs[..place].iter();
        for (other_name, other) in before.filter(|(_, other)| overlap(&other.apps, &spec.apps)) {
            ensure!(name != other_name, "[[{kind}]] '{name}' is there twice");
            ensure!(
                spec.name != other.name,
                "[[{kind}]] '{other_name}' and '{name}' would both go on with what was counted as '{}': one of them needs another \
                 name, or another `was`",
                spec.name
            );
        }
    }
    Ok(())
}

fn overlap(left: &[String], right: &[String]) -> bool {
    left.is_empty() || right.is_empty() || left.iter().any(|app| right.contains(app))
}
