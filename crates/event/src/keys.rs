//! Values by key, for the few keys that a plan wants of an object with many: most keys are told by their length, the
//! rest by one or two comparisons of eight bytes.

/// Eight bytes each, of a text's beginning and of its end. Up to sixteen bytes all of it lies in them; where it is
/// shorter than eight, both are the same, and say nothing of how long it is.
#[inline]
pub fn ends(bytes: &[u8]) -> [u64; 2] {
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        return [u64::from_le_bytes(*first), u64::from_le_bytes(*last)];
    }
    let word = if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << 32
    } else {
        match *bytes {
            [] => 0,
            [a] => u64::from(a),
            [a, b] => u64::from(a) | u64::from(b) << 8,
            [a, b, c, ..] => u64::from(a) | u64::from(b) << 8 | u64::from(c) << 16,
        }
    };
    [word; 2]
}

/// What [`ends`] holds whole.
pub const IN_ENDS: usize = 16;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    ends: [u64; 2],
    text: Box<str>,
}

impl Key {
    /// Of keys of one length.
    #[inline]
    fn is(&self, ends: [u64; 2], key: &[u8]) -> bool {
        self.ends == ends && (key.len() <= IN_ENDS || self.text.as_bytes() == key)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ByKey<V> {
    of_length: Vec<Vec<(Key, V)>>,
}

impl<V> Default for ByKey<V> {
    fn default() -> Self {
        ByKey {
            of_length: Vec::new(),
        }
    }
}

impl<V> ByKey<V> {
    #[inline]
    pub fn get(&self, key: &[u8]) -> Option<&V> {
        let among = self.of_length.get(key.len())?;
        if among.is_empty() {
            return None;
        }
        let ends = ends(key);
        let (_, value) = among.iter().find(|(known, _)| known.is(ends, key))?;
        Some(value)
    }

    pub fn get_or_insert_with(&mut self, key: &str, value: impl FnOnce() -> V) -> &mut V {
        if self.of_length.len() <= key.len() {
            self.of_length.resize_with(key.len() + 1, Vec::new);
        }
        let among = &mut self.of_length[key.len()];
        let found = among.iter().position(|(known, _)| *known.text == *key);
        let place = found.unwrap_or_else(|| {
            let known = Key {
                ends: ends(key.as_bytes()),
                text: key.into(),
            };
            among.push((known, value()));
            among.len() - 1
        });
        &mut among[place].1
    }

    pub fn is_empty(&self) -> bool {
        self.of_length.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &V)> {
        let all = self.of_length.iter().flatten();
        all.map(|(key, value)| (&*key.text, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_in_is_found_and_nothing_else() {
        let keys = (0..40).flat_map(|length| ["ab", "ba", "éx"].map(|text| text.repeat(length)));
        let mut by_key = ByKey::default();
        for key in keys.clone() {
            by_key.get_or_insert_with(&key, || key.clone());
        }
        for key in keys {
            assert_eq!(by_key.get(key.as_bytes()), Some(&key));
            for at in 0..key.len() {
                let mut other = key.clone().into_bytes();
                other[at] ^= 0x40;
                assert_eq!(by_key.get(&other), None, "{key} changed at {at}");
            }
        }
        assert_eq!(by_key.get(b"a"), None);
        assert_eq!(ByKey::<()>::default().get(b""), None);
    }
}
