//! A hash map whose order never leaks: fixed hashing, saved sorted by key.

use std::hash::Hash;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

use crate::bugs::disorder;
use crate::{Bug, bug};

#[derive(Clone, Debug)]
pub struct Map<K, V>(HashMap<K, V, FixedState>);

impl<K, V> Default for Map<K, V> {
    fn default() -> Self {
        Map(HashMap::with_hasher(FixedState::with_seed(0x6361_6d62_6975_6d00)))
    }
}

impl<K, V> std::ops::Deref for Map<K, V> {
    type Target = HashMap<K, V, FixedState>;
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<K, V> std::ops::DerefMut for Map<K, V> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl<K, V> Map<K, V> {
    /// The entries, in no order.
    pub fn into_entries(self) -> impl Iterator<Item = (K, V)> {
        self.0.into_iter()
    }
}

impl<K: Ord + Hash, V> Map<K, V> {
    /// The entries in the order of their keys.
    pub fn sorted(&self) -> Vec<(&K, &V)> {
        let mut entries: Vec<_> = self.0.iter().collect();
        entries.sort_unstable_by_key(|(key, _)| *key);
        if bug(Bug::MapOrderLeaks) {
            disorder(&mut entries);
        }
        entries
    }
}

impl<K: Serialize + Ord + Hash, V: Serialize> Serialize for Map<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.sorted())
    }
}

impl<'de, K: Deserialize<'de> + Eq + Hash, V: Deserialize<'de>> Deserialize<'de> for Map<K, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let entries = Vec::<(K, V)>::deserialize(deserializer)?;
        let mut map = Map::default();
        map.extend(entries);
        Ok(map)
    }
}
