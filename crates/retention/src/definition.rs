//! `[[retention]]`: what the user writes.

use cambium_engine::{By, ByName, Compiler, DefinitionError, EventNames, Matcher, Period};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Error, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Retention, Span, Started};

/// No cohort is followed for longer.
const MAX_PERIODS: u16 = 1000;
/// Of each period so many of a user's return events are kept at most.
const MAX_AT_LEAST: u16 = 1000;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    #[serde(default)]
    pub start: Start,
    #[serde(default, rename = "return")]
    pub returns: Return,
    #[serde(default)]
    pub period: Length,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub periods: Option<u16>,
    #[serde(default)]
    pub kind: Kind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub brackets: Option<Vec<[u16; 2]>>,
    #[serde(default)]
    pub by: Vec<String>,
}

/// What makes a cohort.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Start {
    /// The user's first event ever.
    #[default]
    Seen,
    /// The first event ever that fits.
    First(Fitting),
    /// In each period the first event that fits.
    Each(Fitting),
}

/// Events of certain names that fit a filter.
#[derive(Clone, Debug, PartialEq)]
pub struct Fitting {
    pub event: EventNames,
    pub filter: Option<String>,
}

/// What counts as a return. Saved in full.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Return {
    pub event: EventNames,
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    pub at_least: u16,
}

impl Default for Return {
    fn default() -> Self {
        Return::once(EventNames::any())
    }
}

impl Return {
    fn once(event: EventNames) -> Return {
        Return {
            event,
            filter: None,
            at_least: 1,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Length {
    #[default]
    #[serde(rename = "day")]
    Day,
    #[serde(rename = "week")]
    Week,
    #[serde(rename = "month")]
    Month,
    /// From each user's own start on.
    #[serde(rename = "24 h", alias = "24h", alias = "24 hours")]
    Rolling,
}

impl Length {
    /// How long a cohort is followed unless it is said.
    fn periods(self) -> u16 {
        match self {
            Length::Day | Length::Rolling => 30,
            Length::Week | Length::Month => 12,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    #[default]
    On,
    OnOrAfter,
}

impl Definition {
    pub fn compile(self, compiler: &mut Compiler<'_>) -> Result<Retention, DefinitionError> {
        let columns = self.columns()?;
        let at_least = self.returns.at_least;
        if !(1..=MAX_AT_LEAST).contains(&at_least) {
            let message = format!("return: at_least is a number from 1 to {MAX_AT_LEAST}");
            return Err(DefinitionError::new(message));
        }
        let mut matcher =
            |fitting: &Fitting| Matcher::new(&fitting.event, fitting.filter.as_deref(), compiler);
        let start = match &self.start {
            Start::Seen => Started::Seen,
            Start::First(fitting) => Started::First(matcher(fitting)?),
            Start::Each(fitting) => Started::Each(matcher(fitting)?),
        };
        let returns = Matcher::new(&self.returns.event, self.returns.filter.as_deref(), compiler)?;
        let span = match self.period {
            Length::Day => Span::Calendar(compiler.calendar(Period::Day)?),
            Length::Week => Span::Calendar(compiler.calendar(Period::Week)?),
            Length::Month => Span::Calendar(compiler.calendar(Period::Month)?),
            Length::Rolling => Span::Rolling(compiler.calendar(Period::Day)?),
        };
        Ok(Retention {
            start,
            returns,
            fitting_names: ByName::default(),
            at_least,
            span,
            periods: columns.iter().map(|[_, last]| *last).max().unwrap_or(0),
            columns,
            by: By::new(&self.by, compiler)?,
        })
    }

    /// The first and last period of each number that is counted.
    fn columns(&self) -> Result<Vec<[u16; 2]>, DefinitionError> {
        let wrong = |message: String| Err(DefinitionError::new(message));
        if self
            .periods
            .is_some_and(|periods| !(1..=MAX_PERIODS).contains(&periods))
        {
            return wrong(format!("periods is a number from 1 to {MAX_PERIODS}"));
        }
        let Some(brackets) = &self.brackets else {
            let periods = self.periods.unwrap_or(self.period.periods());
            let last = |n| if self.kind == Kind::On { n } else { periods };
            return Ok((0..=periods).map(|n| [n, last(n)]).collect());
        };
        if self.kind == Kind::OnOrAfter {
            return wrong("brackets say in which periods to return, and so does kind = \"on_or_after\": write one of them".to_owned());
        }
        let end = self.periods.unwrap_or(MAX_PERIODS);
        let mut before = None;
        for [first, last] in brackets {
            if first > last || *last > end || before.is_some_and(|before| before >= first) {
                return wrong(format!(
                    "brackets: [{first}, {last}] is none; they are pairs like [1, 3], in order, and end at {end} at the latest"
                ));
            }
            before = Some(first);
        }
        if brackets.is_empty() {
            return wrong("brackets: there are none; write pairs like [[1, 3], [4, 7]]".to_owned());
        }
        Ok(brackets.clone())
    }
}

/// What makes a cohort, as a table.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StartTable {
    #[serde(skip_serializing_if = "Option::is_none")]
    first: Option<EventNames>,
    #[serde(skip_serializing_if = "Option::is_none")]
    each: Option<EventNames>,
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    filter: Option<String>,
}

impl Serialize for Start {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (first, each, fitting) = match self {
            Start::Seen => return serializer.serialize_str("first"),
            Start::First(fitting) => (Some(fitting.event.clone()), None, fitting),
            Start::Each(fitting) => (None, Some(fitting.event.clone()), fitting),
        };
        let filter = fitting.filter.clone();
        StartTable { first, each, filter }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Start {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WrittenStart)
    }
}

/// By hand, so that an unknown key of a table is named.
struct WrittenStart;

impl<'de> Visitor<'de> for WrittenStart {
    type Value = Start;

    fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(
            "\"first\", { first = \"an event\" } or { each = \"an event\" } for what makes a cohort",
        )
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Start, E> {
        match text {
            "first" => Ok(Start::Seen),
            other => Err(E::invalid_value(Unexpected::Str(other), &self)),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Start, A::Error> {
        let table = StartTable::deserialize(MapAccessDeserializer::new(map))?;
        let filter = table.filter;
        match (table.first, table.each) {
            (Some(event), None) => Ok(Start::First(Fitting { event, filter })),
            (None, Some(event)) => Ok(Start::Each(Fitting { event, filter })),
            _ => Err(A::Error::custom(
                "start: name an event by either `first` or `each`",
            )),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReturnTable {
    #[serde(default = "EventNames::any")]
    event: EventNames,
    #[serde(rename = "where")]
    filter: Option<String>,
    #[serde(default = "once")]
    at_least: u16,
}

fn once() -> u16 {
    1
}

impl<'de> Deserialize<'de> for Return {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WrittenReturn)
    }
}

struct WrittenReturn;

impl<'de> Visitor<'de> for WrittenReturn {
    type Value = Return;

    fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("\"any\", an event's name, a list of them, or { event = …, where = …, at_least = … } for a return")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Return, E> {
        Ok(match name {
            "any" => Return::default(),
            name => Return::once(EventNames::One(name.to_owned())),
        })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, names: A) -> Result<Return, A::Error> {
        let names = Vec::deserialize(SeqAccessDeserializer::new(names))?;
        Ok(Return::once(EventNames::Many(names)))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Return, A::Error> {
        let table = ReturnTable::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Return {
            event: table.event,
            filter: table.filter,
            at_least: table.at_least,
        })
    }
}
