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
