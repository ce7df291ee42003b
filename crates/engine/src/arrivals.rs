//! Users on their way into sets.

use std::hash::Hash;

use crate::{Context, Map, Rows};

/// Who is to be entered into which set with the next flush. A set leaves one row with an array of its new users,
/// whatever their number: a row each would cost more, here and in ClickHouse, than everything else about an event.
///
/// Not part of a snapshot: one is taken together with a flush, when nobody is on the way.
pub struct Arrivals<K>(Map<K, Vec<u64>>);

impl<K> Default for Arrivals<K> {
    fn default() -> Self {
        Arrivals(Map::default())
    }
}

impl<K: Hash + Ord> Arrivals<K> {
    pub fn add(&mut self, set: K, user: u64, rows: &mut Rows) {
        rows.wait_for_users(1);
        self.0.entry(set).or_default().push(user);
    }

    /// Gives each set that somebody is to be entered into to `put`, in the order of the sets, and forgets them.
    pub fn flush(&mut self, context: &mut Context<'_>, mut put: impl FnMut(&K, &[u64], &mut Context<'_>)) {
        // A set that nobody came to since the last flush is over; the room of the others is used again.
        self.0.retain(|_, users| !users.is_empty());
        for (set, users) in self.0.sorted() {
            context.rows.leave_users(users.len());
            put(set, users, context);
        }
        self.0.values_mut().for_each(Vec::clear);
    }
}
