//! Conversion times: a histogram for each entry day and step.

use std::collections::BTreeMap;

use cambium_engine::{Context, Table, room_for_one};
use serde::{Deserialize, Serialize};
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

/// The step and the bin of each step done.
pub(crate) type Bins = SmallVec<[(u8, u16); FEW_STEPS]>;

/// The histograms of the days that tries may still change in.
#[derive(Default, Serialize, Deserialize)]
pub struct Times {
    days: BTreeMap<i32, BTreeMap<u8, BTreeMap<u16, u64>>>,
    /// Days in which tries were followed since the last flush, and how many steps there are.
    #[serde(skip)]
    changed: BTreeMap<i32, usize>,
}

impl Times {
    /// A user's day counts in these bins now, in the place of those it counted in before.
    pub fn change(&mut self, day: i32, steps: usize, timed: &mut Vec<(i32, Bins)>, bins: Bins) {
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
