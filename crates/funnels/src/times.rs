//! Conversion times: a histogram for each entry day and step.

use std::collections::BTreeMap;

use cambium_engine::{Context, Table, room_for_one};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smallvec::SmallVec;

use crate::follow::FEW_STEPS;

pub static TIMES: Table = Table {
    name: "funnel_time_rows",
    columns: &[
        ("definition", "UInt64"),
        ("origin", "UInt64"),
        ("app", "LowCardinality(String)"),
        ("version", "UInt64"),
        ("deleted", "UInt8"),
        ("day", "Date"),
        ("step", "UInt8"),
        ("bins", "Array(UInt32)"),
        ("users", "Array(UInt64)"),
    ],
};

/// Of each step done but the first: which it is, and the bin of the time that it took.
pub(crate) type Bins = SmallVec<[(u8, u16); FEW_STEPS]>;

/// What a user's furthest try of each day put into the histograms.
#[derive(Default)]
pub(crate) struct Timed {
    days: Vec<(i32, Bins)>,
    /// The same of the tries whose events are forgotten, on the last day that has any; none where all of them did one step.
    forgotten: Option<Box<(i32, Bins)>>,
}

impl Timed {
    /// What a day comes to, of whose tries those behind the forgotten ones reached this at most: of two that went as far
    /// the earlier one counts.
    fn furthest(&self, day: i32, reached: Bins) -> Bins {
        match self.forgotten.as_deref() {
            Some((of, forgotten)) if *of == day && forgotten.len() >= reached.len() => forgotten.clone(),
            _ => reached,
        }
    }

    /// The next tries of a day are forgotten, of which the furthest reached this.
    pub fn forget_tries(&mut self, day: i32, reached: Bins) {
        let furthest = self.furthest(day, reached);
        if !furthest.is_empty() {
            self.forgotten = Some(Box::new((day, furthest)));
        }
    }

    pub fn first_day(&self) -> Option<i32> {
        let days = self.days.iter().map(|(day, _)| *day);
        days.chain(self.forgotten.as_deref().map(|(day, _)| *day)).min()
    }

    pub fn forget_before(&mut self, day: i32) {
        self.days.retain(|(known, _)| *known >= day);
        self.forgotten = self.forgotten.take().filter(|forgotten| forgotten.0 >= day);
    }
}

/// In front of what is forgotten where it is saved among the days: no step that has a time is the first.
const FORGOTTEN: (u8, u16) = (0, 0);

impl Serialize for Timed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let forgotten = self.forgotten.as_deref().map(|(day, bins)| {
            let marked: Bins = [FORGOTTEN].into_iter().chain(bins.iter().copied()).collect();
            (*day, marked)
        });
        let all: Vec<_> = self.days.iter().chain(&forgotten).collect();
        all.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Timed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut days: Vec<(i32, Bins)> = Vec::deserialize(deserializer)?;
        let is_forgotten = |(_, bins): &mut (i32, Bins)| bins.first() == Some(&FORGOTTEN);
        let forgotten = days.pop_if(is_forgotten).map(|(day, mut bins)| {
            bins.remove(0);
            Box::new((day, bins))
        });
        Ok(Timed { days, forgotten })
    }
}

/// The histograms of the days that tries may still change in.
#[derive(Default, Serialize, Deserialize)]
pub struct Times {
    days: BTreeMap<i32, BTreeMap<u8, BTreeMap<u16, u64>>>,
    /// Days in which tries were followed since the last flush, and how many steps there are.
    #[serde(skip)]
    changed: BTreeMap<i32, usize>,
}

impl Times {
    /// A user's day counts in the bins of the furthest try now, in the place of those it counted in before.
    pub fn change(&mut self, day: i32, steps: usize, timed: &mut Timed, reached: Bins) {
        let bins = timed.furthest(day, reached);
        let timed = &mut timed.days;
        // Written again even where nothing moved: it may have moved and come back since an owner
        // before this one wrote.
        self.changed.insert(day, steps);
        let known = timed.iter().position(|(known, _)| *known == day);
        let none = Bins::new();
        let before = known.map_or(&none, |known| &timed[known].1);
        if *before == bins {
            return;
        }
        let histograms = self.days.entry(day).or_default();
        for (step, bin) in &bins {
            *histograms.entry(*step).or_default().entry(*bin).or_default() += 1;
        }
        for (step, bin) in before {
            let Some(histogram) = histograms.get_mut(step) else {
                continue;
            };
            if let Some(users) = histogram.get_mut(bin) {
                *users -= 1;
                if *users == 0 {
                    histogram.remove(bin);
                }
            }
        }
        match known {
            Some(known) if bins.is_empty() => {
                timed.remove(known);
            }
            Some(known) => timed[known].1 = bins,
            None => {
                room_for_one(timed);
                timed.push((day, bins));
            }
        }
    }

    pub fn flush(&mut self, context: &mut Context<'_>) {
        for (day, steps) in std::mem::take(&mut self.changed) {
            for step in 1..steps {
                self.write(day, step as u8, context);
            }
        }
    }

    fn write(&self, day: i32, step: u8, context: &mut Context<'_>) {
        let none = BTreeMap::new();
        let bins = self
            .days
            .get(&day)
            .and_then(|steps| steps.get(&step))
            .unwrap_or(&none);
        let (row, _) = context.versioned(&TIMES, bins.is_empty());
        row.date(day)
            .u8(step + 1)
            .u32s(bins.keys().map(|bin| u32::from(*bin)))
            .u64s(bins.values());
    }

    pub fn has_settled_before(&self, day: i32) -> bool {
        self.days.first_key_value().is_some_and(|(first, _)| *first < day)
    }

    pub fn forget_before(&mut self, day: i32) {
        self.days = self.days.split_off(&day);
    }
}
