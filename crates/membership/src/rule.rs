//! Rules: which events give or take how many points.

use cambium_engine::{Chosen, Compiler, DAY_MS, DefinitionError, Duration, EventNames, Input, Matcher};
use cambium_event::Value;
use serde::{Deserialize, Serialize};
use smallvec::{SmallVec, smallvec};

use crate::account::{Account, NEVER};

/// One rule, as it is written.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    pub event: EventNames,
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    pub points: Amount,
    #[serde(default = "once", skip_serializing_if = "is_once")]
    pub multiplier: f64,
    /// What a user gets by this rule on one local day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daily_cap: Option<u64>,
    /// What the rule is called in the views; left out: the event's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

fn once() -> f64 {
    1.0
}

fn is_once(multiplier: &f64) -> bool {
    *multiplier == 1.0
}

/// So many for each event, or as many as a property of it says.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged, expecting = "a number, or the name of a property that holds one")]
pub enum Amount {
    Fixed(f64),
    Property(String),
}

/// No event gives or takes more.
const MAX_POINTS: f64 = 1e12;
/// 0.29 × 100 is a little less than 29 in binary fractions.
const ROUNDING: f64 = 1e-6;
const MAX_RULES: usize = 100;

/// A number that an event says: the fixed one, or that of a property, if it is one.
#[derive(Debug)]
pub enum Says {
    Fixed(f64),
    Property(usize),
}

impl Says {
    pub fn new(amount: &Amount, compiler: &mut Compiler<'_>) -> Result<Says, DefinitionError> {
        Ok(match amount {
            Amount::Fixed(number) => Says::Fixed(*number),
            Amount::Property(name) => Says::Property(compiler.property_slot(name)?),
        })
    }

    pub fn number(&self, input: &Input<'_>) -> Option<f64> {
        match self {
            Says::Fixed(number) => Some(*number),
            Says::Property(slot) => match input.event.properties.get(*slot) {
                Some(Value::Number(number)) => Some(number.as_f64()).filter(|number| number.is_finite()),
                _ => None,
            },
        }
    }
}

#[derive(Debug)]
struct Rule {
    name: String,
    matcher: Chosen,
    says: Says,
    multiplier: f64,
    daily_cap: Option<u64>,
}

impl Rule {
    fn new(written: &Written, compiler: &mut Compiler<'_>) -> Result<Rule, DefinitionError> {
        if !(written.multiplier > 0.0 && written.multiplier.is_finite()) {
            return Err(DefinitionError::new("multiplier: must be more than 0"));
        }
        if let Amount::Fixed(number) = written.points
            && !(number > 0.0 && number <= MAX_POINTS)
        {
            return Err(DefinitionError::new(
                "points: a number more than 0, and 1e12 at most",
            ));
        }
        let name = written.name.clone();
        Ok(Rule {
            name: name.unwrap_or_else(|| written.event.list().join(", ")),
            matcher: Matcher::new(&written.event, written.filter.as_deref(), compiler)?.into(),
            says: Says::new(&written.points, compiler)?,
            multiplier: written.multiplier,
            daily_cap: written.daily_cap,
        })
    }

    /// Whole points, rounded down.
    fn points(&self, input: &Input<'_>) -> u64 {
        let number = self.says.number(input).unwrap_or(0.0) * self.multiplier;
        (number + ROUNDING).floor().clamp(0.0, MAX_POINTS) as u64
    }
}

/// What users of a definition do on one day: the sum of each rule, as if there were no cap.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Day {
    pub day: i32,
    sums: SmallVec<[u64; 2]>,
}

/// Days, the first first.
pub type Days = SmallVec<[Day; 1]>;

/// The rules of `[[points]]`: those by which is earned, and behind them those by which is spent.
#[derive(Debug)]
pub struct Rules {
    rules: Vec<Rule>,
    earning: usize,
    /// For how many days what is earned is there; none: for ever.
    expiry_days: Option<i32>,
}

impl Rules {
    pub fn new(
        (earn, spend): (&[Written], &[Written]),
        expiry: Option<Duration>,
        compiler: &mut Compiler<'_>,
    ) -> Result<Rules, DefinitionError> {
        if earn.is_empty() {
            let message =
                "earn: which events give how many points, as [{ event = \"check_in\", points = 5 }]";
            return Err(DefinitionError::new(message));
        }
        if earn.len() + spend.len() > MAX_RULES {
            return Err(DefinitionError::new(format!(
                "earn, spend: {MAX_RULES} rules at most"
            )));
        }
        if spend.iter().any(|rule| rule.daily_cap.is_some()) {
            let message = "spend: what was spent was spent; daily_cap is for what is earned";
            return Err(DefinitionError::new(message));
        }
        let mut rules: Vec<Rule> = Vec::new();
        for (place, written) in earn.iter().chain(spend).enumerate() {
            let rule = Rule::new(written, compiler)?;
            let others = if place < earn.len() { 0 } else { earn.len() };
            if rules[others..].iter().any(|other| other.name == rule.name) {
                let message = format!(
                    "two rules are called '{}': give one of them a name of its own, as name = \"…\"",
                    rule.name
                );
                return Err(DefinitionError::new(message));
            }
            rules.push(rule);
        }
        Ok(Rules {
            rules,
            earning: earn.len(),
            expiry_days: expiry.map(days).transpose()?,
        })
    }

    pub fn name(&self, rule: usize) -> &str {
        &self.rules[rule].name
    }

    pub fn is_earned(&self, rule: usize) -> bool {
        rule < self.earning
    }

    /// What an event adds to its day, by rule.
    pub fn points(&self, input: &Input<'_>) -> SmallVec<[(usize, u64); 2]> {
        let fitting = self.rules.iter().enumerate();
        let fitting = fitting.filter(|(_, rule)| rule.matcher.fits(input));
        let points = fitting.map(|(place, rule)| (place, rule.points(input)));
        points.filter(|(_, points)| *points > 0).collect()
    }

    /// Adds it.
    pub fn add(&self, days: &mut Days, number: i32, points: &[(usize, u64)]) {
        let at = days.partition_point(|day| day.day < number);
        if days.get(at).is_none_or(|day| day.day != number) {
            let sums = smallvec![0; self.rules.len()];
            days.insert(at, Day { day: number, sums });
        }
        for (rule, points) in points {
            let sum = &mut days[at].sums[*rule];
            *sum = sum.saturating_add(*points);
        }
    }

    /// What each rule gave or took on a day, with the caps.
    pub fn on(&self, day: &Day) -> impl Iterator<Item = (usize, u64)> {
        let capped = self.rules.iter().zip(&day.sums).enumerate();
        let capped =
            capped.map(|(place, (rule, sum))| (place, rule.daily_cap.map_or(*sum, |cap| cap.min(*sum))));
        capped.filter(|(_, points)| *points > 0)
    }

    /// Brings an account from the end of an earlier day to the end of this one. What was gone by then is taken out.
    pub fn pass(&self, account: &mut Account, day: &Day) {
        let gone_on = self
            .expiry_days
            .map_or(NEVER, |days| day.day.saturating_add(days));
        for (rule, points) in self.on(day) {
            match self.is_earned(rule) {
                true => account.earn(points, gone_on),
                false => account.spend(points),
            }
        }
    }
}

/// A duration as whole days, a begun one too.
pub fn days(duration: Duration) -> Result<i32, DefinitionError> {
    const MAX_DAYS: i64 = 36_500;
    let days = (duration.0 + DAY_MS - 1) / DAY_MS;
    match days {
        1..=MAX_DAYS => Ok(days as i32),
        _ => Err(DefinitionError::new(
            "a number of days, from 1 day to 100 years, is wanted here",
        )),
    }
}
