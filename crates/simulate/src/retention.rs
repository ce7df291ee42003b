//! Retention, straight from the words of the interface.

use std::collections::{BTreeMap, BTreeSet};

use crate::calendar::Period;
use crate::{Event, Truth};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    First,
    Each,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    Calendar(Period),
    /// 24 hours from each user's own start on.
    Rolling,
}

/// Events of one of these names; none: any.
pub type Names = Vec<String>;

#[derive(Clone, Debug)]
pub struct Retention {
    pub start: Start,
    pub start_events: Names,
    pub return_events: Names,
    pub at_least: usize,
    pub length: Length,
    /// The first and the last period of each number.
    pub columns: Vec<(u16, u16)>,
    pub by_platform: bool,
}

/// app, the cohort's first day, platform.
pub type CohortKey = (String, i32, String);

/// Who is in a cohort, and who of them came back in each number, by its first period.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cohort {
    pub users: BTreeSet<u64>,
    pub returned: BTreeMap<u16, BTreeSet<u64>>,
}

fn fits(names: &Names, event: &Event) -> bool {
    names.is_empty() || names.contains(&event.event)
}

impl Retention {
    fn cohort_of(&self, truth: &Truth, event: &Event) -> i32 {
        let day = truth.day(event.time);
        match self.length {
            Length::Calendar(period) => period.first_day(day),
            Length::Rolling => day,
        }
    }

    fn period(&self, truth: &Truth, start: &Event, event: &Event) -> i32 {
        match self.length {
            Length::Calendar(period) => {
                let first = period.first_day(truth.day(start.time));
                period.between(first, period.first_day(truth.day(event.time)))
            }
            Length::Rolling => ((event.time - start.time) / 86_400_000) as i32,
        }
    }

    pub fn cohorts(&self, truth: &Truth) -> BTreeMap<CohortKey, Cohort> {
        let mut cohorts: BTreeMap<CohortKey, Cohort> = BTreeMap::new();
        for ((app, user), events) in truth.by_user() {
            let mut starts: BTreeMap<i32, usize> = BTreeMap::new();
            for (place, event) in events.iter().enumerate() {
                if fits(&self.start_events, event) && (self.start == Start::Each || starts.is_empty()) {
                    starts.entry(self.cohort_of(truth, event)).or_insert(place);
                }
            }
            for (first_day, start) in starts {
                let begun = events[start];
                let platform = if self.by_platform {
                    begun.dimensions[0].clone()
                } else {
                    String::new()
                };
                let cohort = cohorts.entry((app.clone(), first_day, platform)).or_default();
                cohort.users.insert(user);
                for (first, last) in &self.columns {
                    let returns = events[start..].iter().filter(|event| {
                        let period = self.period(truth, begun, event);
                        fits(&self.return_events, event)
                            && (i32::from(*first)..=i32::from(*last)).contains(&period)
                    });
                    if returns.count() >= self.at_least {
                        cohort.returned.entry(*first).or_default().insert(user);
                    }
                }
            }
        }
        cohorts
    }
}
