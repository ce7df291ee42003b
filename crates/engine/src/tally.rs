//! Counts that go up and down: how many users are in a state, a cohort, a cell.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hash;

use serde::{Deserialize, Serialize};

use crate::{Bug, Context, Kept, Map, bug};

/// Counts by period and key. A user is counted in one place until an event says that they belong in another; what
/// changed is written anew with the next flush, and a count that falls to nothing is written once more, as nothing.
#[derive(Serialize, Deserialize)]
#[serde(bound(
    serialize = "K: Hash + Ord + Serialize",
    deserialize = "K: Hash + Ord + serde::de::DeserializeOwned"
))]
pub struct Tally<K> {
    periods: BTreeMap<i32, Kept<Map<K, Cell>>>,
    /// The periods in which something changed since the last flush.
    #[serde(skip)]
    changed: BTreeSet<i32>,
}

#[derive(Clone, Copy, Default, Serialize, Deserialize)]
struct Cell {
    count: u64,
    #[serde(skip)]
    is_changed: bool,
}

impl<K> Default for Tally<K> {
    fn default() -> Self {
        Tally {
            periods: BTreeMap::new(),
            changed: BTreeSet::new(),
        }
    }
}

impl<K: Hash + Ord + Clone + Serialize + serde::de::DeserializeOwned> Tally<K> {
    /// A user comes to be counted there.
    pub fn enter(&mut self, period: i32, key: K) {
        self.add(period, key, 1);
    }

    /// A user who was counted there is not any more.
    pub fn leave(&mut self, period: i32, key: K) {
        self.add(period, key, -1);
    }

    /// A user who was counted in these places is counted in those.
    pub fn move_user(&mut self, from: &[(i32, K)], to: &[(i32, K)]) {
        for (period, key) in from.iter().filter(|one| !to.contains(one)) {
            self.leave(*period, key.clone());
        }
        for (period, key) in to.iter().filter(|one| !from.contains(one)) {
            self.enter(*period, key.clone());
        }
    }

    /// So much that was counted in these places is counted in those.
    pub fn move_amounts(&mut self, from: &[(i32, K, u64)], to: &[(i32, K, u64)]) {
        let mut changes = BTreeMap::<(i32, &K), i64>::new();
        for (sign, places) in [(-1, from), (1, to)] {
            for (period, key, amount) in places {
                *changes.entry((*period, key)).or_default() += sign * *amount as i64;
            }
        }
        for ((period, key), by) in changes.into_iter().filter(|(_, by)| *by != 0) {
            self.add(period, key.clone(), by);
        }
    }

    /// What is counted there grows, or falls.
    pub fn add(&mut self, period: i32, key: K, by: i64) {
        if by < 0 && bug(Bug::CountedTwice) {
            return;
        }
        let cell = self.cell(period, key);
        // Of a tally that nobody looks at (a user is worked out anew) more may be taken away than was counted.
        cell.count = cell.count.wrapping_add_signed(by);
    }

    fn cell(&mut self, period: i32, key: K) -> &mut Cell {
        self.changed.insert(period);
        let cells = self.periods.entry(period).or_default().change();
        let cell = cells.entry(key).or_default();
        cell.is_changed = true;
        cell
    }

    /// Gives each count that changed to `put`, by period and key.
    pub fn flush(&mut self, context: &mut Context<'_>, mut put: impl FnMut(i32, &K, u64, &mut Context<'_>)) {
        for period in std::mem::take(&mut self.changed) {
            let Some(kept) = self.periods.get_mut(&period) else {
                continue;
            };
            let cells = kept.change();
            for (key, cell) in cells.sorted() {
                debug_assert!(
                    cell.count <= i64::MAX as u64,
                    "what was never counted was taken away"
                );
                if cell.is_changed && !(cell.count == 0 && bug(Bug::NothingNotWritten)) {
                    put(period, key, cell.count, context);
                }
            }
            cells.values_mut().for_each(|cell| cell.is_changed = false);
            cells.retain(|_, cell| cell.count > 0);
            if cells.is_empty() {
                self.periods.remove(&period);
            }
        }
    }

    /// Forgets the first periods, as long as they have ended (`end` says when) before anything that may still come: nobody enters
    /// or leaves them any more. What is forgotten is given to `put` before.
    pub fn forget(
        &mut self,
        context: &mut Context<'_>,
        end: impl Fn(i32) -> i64,
        put: impl FnMut(i32, &K, u64, &mut Context<'_>),
    ) {
        let cutoff = context.cutoff();
        let first_is_over = |tally: &Self| {
            tally
                .periods
                .keys()
                .next()
                .is_some_and(|first| end(*first) <= cutoff)
        };
        if !first_is_over(self) {
            return;
        }
        if !bug(Bug::ForgottenKeyUnflushed) {
            self.flush(context, put);
        }
        while first_is_over(self) {
            self.periods.pop_first();
        }
    }

    /// The counts under keys as this partition has them.
    pub fn rename(&mut self, rename: impl Fn(&mut K)) {
        for cells in self.periods.values_mut().map(Kept::change) {
            for (key, cell) in std::mem::take(cells).into_entries() {
                let mut key = key;
                rename(&mut key);
                cells.insert(key, cell);
            }
        }
    }
}
