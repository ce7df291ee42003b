//! `[[funnel]]`: what the user writes.

use cambium_engine::sessionise::Sessioniser;
use cambium_engine::{Bug, By, ByName, Compiler, DefinitionError, Duration, EventNames, Matcher, bug};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Funnel, Span, StepMatcher};

/// Steps are bits of a number.
const MAX_STEPS: usize = 32;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    pub steps: Vec<Step>,
    pub within: Within,
    #[serde(default)]
    pub order: Order,
    #[serde(default)]
    pub ignore: Vec<String>,
    #[serde(default)]
    pub exclude: Vec<Exclude>,
    #[serde(default)]
    pub by: Vec<String>,
    #[serde(default)]
    pub by_step: ByStep,
}

/// A step: an event's name, or a table with more. Saved in full, with its name.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    pub event: EventNames,
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    pub name: String,
    pub optional: bool,
    pub first_time: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StepTable {
    event: EventNames,
    #[serde(rename = "where")]
    filter: Option<String>,
    name: Option<String>,
    #[serde(default)]
    optional: bool,
    #[serde(default)]
    first_time: bool,
}

impl<'de> Deserialize<'de> for Step {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WrittenStep)
    }
}

/// By hand, so that an unknown key of a table is named.
struct WrittenStep;

impl<'de> Visitor<'de> for WrittenStep {
    type Value = Step;

    fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(
            "an event's name or { event = …, where = …, name = …, optional = …, first_time = … } for a step",
        )
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Step, E> {
        Ok(Step {
            event: EventNames::One(name.to_owned()),
            filter: None,
            name: name.to_owned(),
            optional: false,
            first_time: false,
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Step, A::Error> {
        let table = StepTable::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Step {
            name: table.name.unwrap_or_else(|| table.event.list().join(" or ")),
            event: table.event,
            filter: table.filter,
            optional: table.optional,
            first_time: table.first_time,
        })
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Within {
    Session,
    Duration(Duration),
}

impl Serialize for Within {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Within::Session => serializer.serialize_str("session"),
            Within::Duration(duration) => duration.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Within {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "session" {
            return Ok(Within::Session);
        }
        let ms = cambium_engine::duration_ms(&text).map_err(serde::de::Error::custom)?;
        Ok(Within::Duration(Duration(ms)))
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    #[default]
    InOrder,
    Strict,
    Any,
}

/// An event that makes a try void, between two steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exclude {
    pub event: EventNames,
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// Steps from 1; left out: the first and the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<usize>,
}

/// The step whose event a try takes its slice from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "by_step is \"first\", \"last\", \"every\" or a step's number"
)]
pub enum ByStep {
    Named(NamedStep),
    Number(usize),
}

impl Default for ByStep {
    fn default() -> Self {
        ByStep::Named(NamedStep::First)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NamedStep {
    First,
    Last,
    Every,
}

impl Definition {
    pub(crate) fn compile(self, compiler: &mut Compiler<'_>) -> Result<Funnel, DefinitionError> {
        self.check()?;
        let within = match &self.within {
            Within::Duration(duration) => Span::Milliseconds(duration.0),
            Within::Session => {
                Span::Session(Box::new(Sessioniser::new(compiler.session_rules()?, compiler)?))
            }
        };
        let mut steps = Vec::new();
        for (place, step) in self.steps.iter().enumerate() {
            let matcher = Matcher::new(&step.event, step.filter.as_deref(), compiler)
                .map_err(|error| DefinitionError::new(format!("step {}: {error}", place + 1)))?;
            steps.push(StepMatcher {
                matcher,
                optional: step.optional,
                first_time: step.first_time,
            });
        }
        let mut excludes = Vec::new();
        for exclude in &self.exclude {
            let matcher = Matcher::new(&exclude.event, exclude.filter.as_deref(), compiler)
                .map_err(|error| DefinitionError::new(format!("exclude: {error}")))?;
            excludes.push((exclude.clone(), matcher));
        }
        let by_step = match self.by_step {
            ByStep::Number(1) => ByStep::Named(NamedStep::First),
            other => other,
        };
        Ok(Funnel {
            only_adds: self.only_adds(&within, by_step) && !compiler.has_identity(),
            steps,
            excludes,
            order: self.order,
            ignore: self.ignore.clone(),
            within,
            by: By::new(&self.by, compiler)?,
            by_step,
            zone: compiler.zone()?,
            by_name: ByName::default(),
        })
    }

    /// Whether a late event can only add members (sets), or also undo a membership (rows).
    fn only_adds(&self, within: &Span, by_step: ByStep) -> bool {
        let is_cut = match within {
            Span::Session(sessioniser) => sessioniser.rules.max_length.is_some(),
            Span::Milliseconds(_) => false,
        };
        let is_excluded = !self.exclude.is_empty() && !bug(Bug::SetWhereUndone);
        self.order != Order::Strict
            && !is_excluded
            && !self.steps.iter().any(|step| step.optional || step.first_time)
            && (by_step == ByStep::Named(NamedStep::First) || self.by.is_empty())
            && !is_cut
    }

    fn check(&self) -> Result<(), DefinitionError> {
        let wrong = |message: String| Err(DefinitionError::new(message));
        let steps = self.steps.len();
        if steps == 0 || steps > MAX_STEPS {
            return wrong(format!("steps: there are {steps}; a funnel has 1 to {MAX_STEPS}"));
        }
        if self.steps[0].optional {
            return wrong("steps: the first begins a try and cannot be optional".to_owned());
        }
        if self.within == Within::Duration(Duration(0)) {
            return wrong("within: must be longer than nothing".to_owned());
        }
        if !self.ignore.is_empty() && self.order != Order::Strict {
            return wrong("ignore: belongs to order = \"strict\"".to_owned());
        }
        if self.order == Order::Any && self.steps.iter().any(|step| step.optional) {
            return wrong(
                "steps: with order = \"any\" no step needs another, so none is optional".to_owned(),
            );
        }
        if let ByStep::Number(step) = self.by_step
            && !(1..=steps).contains(&step)
        {
            return wrong(format!("by_step: {step} is no step; there are {steps}"));
        }
        if self.exclude.len() > MAX_STEPS {
            return wrong(format!("exclude: at most {MAX_STEPS}"));
        }
        for exclude in &self.exclude {
            let (after, before) = exclude.between(steps);
            if !(1..=steps).contains(&after)
                || !(1..=steps).contains(&before)
                || (steps > 1 && after >= before)
            {
                return wrong(format!(
                    "exclude: after = {after}, before = {before} name no two of {steps} steps"
                ));
            }
        }
        Ok(())
    }
}

impl Exclude {
    /// After which step and before which it applies.
    pub(crate) fn between(&self, steps: usize) -> (usize, usize) {
        (self.after.unwrap_or(1), self.before.unwrap_or(steps))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn funnel(steps: usize) -> Definition {
        let step = Step {
            event: EventNames::any(),
            filter: None,
            name: "step".to_owned(),
            optional: false,
            first_time: false,
        };
        Definition {
            steps: vec![step; steps],
            within: Within::Duration(Duration(1)),
            order: Order::InOrder,
            ignore: Vec::new(),
            exclude: Vec::new(),
            by: Vec::new(),
            by_step: ByStep::default(),
        }
    }

    fn exclude(after: Option<usize>, before: Option<usize>) -> Exclude {
        Exclude {
            event: EventNames::any(),
            filter: None,
            after,
            before,
        }
    }

    #[test]
    fn what_no_funnel_can_be_is_refused() {
        type Change = fn(&mut Definition);
        let cases: [(usize, Change, &str); 27] = [
            (0, |_| (), "steps: there are 0"),
            (1, |_| (), ""),
            (32, |_| (), ""),
            (33, |_| (), "steps: there are 33"),
            (2, |one| one.steps[0].optional = true, "steps: the first"),
            (2, |one| one.steps[1].optional = true, ""),
            (2, |one| one.within = Within::Duration(Duration(0)), "within: "),
            (2, |one| one.within = Within::Session, ""),
            (2, |one| one.ignore.push("e".to_owned()), "ignore: "),
            (
                2,
                |one| (one.ignore, one.order) = (vec!["e".to_owned()], Order::Strict),
                "",
            ),
            (2, |one| one.order = Order::Any, ""),
            (
                2,
                |one| (one.steps[1].optional, one.order) = (true, Order::Any),
                "steps: with order",
            ),
            (2, |one| one.by_step = ByStep::Number(0), "by_step: 0"),
            (2, |one| one.by_step = ByStep::Number(1), ""),
            (2, |one| one.by_step = ByStep::Number(2), ""),
            (2, |one| one.by_step = ByStep::Number(3), "by_step: 3"),
            (2, |one| one.exclude = vec![exclude(None, None); 32], ""),
            (
                2,
                |one| one.exclude = vec![exclude(None, None); 33],
                "exclude: at most",
            ),
            (1, |one| one.exclude = vec![exclude(None, None)], ""),
            (3, |one| one.exclude = vec![exclude(Some(2), None)], ""),
            (3, |one| one.exclude = vec![exclude(None, Some(2))], ""),
            (
                3,
                |one| one.exclude = vec![exclude(Some(0), None)],
                "exclude: after = 0",
            ),
            (
                3,
                |one| one.exclude = vec![exclude(None, Some(4))],
                "exclude: after = 1",
            ),
            (
                3,
                |one| one.exclude = vec![exclude(None, Some(0))],
                "exclude: after = 1",
            ),
            (
                3,
                |one| one.exclude = vec![exclude(Some(2), Some(2))],
                "exclude: after = 2",
            ),
            (
                3,
                |one| one.exclude = vec![exclude(Some(3), Some(2))],
                "exclude: after = 3",
            ),
            (
                1,
                |one| one.exclude = vec![exclude(Some(2), None)],
                "exclude: after = 2",
            ),
        ];
        for (place, (steps, change, refused)) in cases.into_iter().enumerate() {
            let mut definition = funnel(steps);
            change(&mut definition);
            let said = definition
                .check()
                .map_or_else(|error| error.to_string(), |()| String::new());
            assert!(
                said.starts_with(refused) && said.is_empty() == refused.is_empty(),
                "{place}: {said}"
            );
        }
    }

    /// What a late event can undo is rows of users, and not members of sets.
    #[test]
    fn members_enter_sets_where_no_late_event_can_undo_it() {
        type Change = fn(&mut Definition);
        let cases: [(bool, Change); 9] = [
            (true, |_| ()),
            (true, |one| one.order = Order::Any),
            (false, |one| one.order = Order::Strict),
            (false, |one| one.exclude = vec![exclude(None, None)]),
            (false, |one| one.steps[1].optional = true),
            (false, |one| one.steps[0].first_time = true),
            (true, |one| one.by = vec!["platform".to_owned()]),
            (true, |one| one.by_step = ByStep::Named(NamedStep::Last)),
            (false, |one| {
                (one.by, one.by_step) = (vec!["platform".to_owned()], ByStep::Named(NamedStep::Last));
            }),
        ];
        for (place, (only_adds, change)) in cases.into_iter().enumerate() {
            let mut definition = funnel(2);
            change(&mut definition);
            let by_step = definition.by_step;
            assert_eq!(
                definition.only_adds(&Span::Milliseconds(1), by_step),
                only_adds,
                "{place}"
            );
        }
    }
}
