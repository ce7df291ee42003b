//! A value that keeps the bytes of its snapshot form for as long as it does not change.

use std::cell::OnceCell;

use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error as _};
use serde::ser::{Error as _, Serialize, Serializer};

/// For what there is much of and little of it changes from one snapshot to the next: a processor's state is whole in
/// each, and a partition stands still while it is encoded. What did not change is copied.
#[derive(Default)]
pub struct Kept<T> {
    value: T,
    /// None: it changed since it was saved last.
    bytes: OnceCell<Box<[u8]>>,
}

impl<T> Kept<T> {
    /// The value, to be changed.
    pub fn change(&mut self) -> &mut T {
        self.bytes.take();
        &mut self.value
    }
}

impl<T> From<T> for Kept<T> {
    fn from(value: T) -> Self {
        Kept {
            value,
            bytes: OnceCell::new(),
        }
    }
}

impl<T: Serialize> Serialize for Kept<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Some(bytes) = self.bytes.get() {
            return serializer.serialize_bytes(bytes);
        }
        let bytes = postcard::to_stdvec(&self.value).map_err(S::Error::custom)?;
        serializer.serialize_bytes(self.bytes.get_or_init(|| bytes.into_boxed_slice()))
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Kept<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = <&[u8]>::deserialize(deserializer)?;
        let value = postcard::from_bytes(bytes).map_err(D::Error::custom)?;
        Ok(Kept {
            value,
            bytes: OnceCell::from(Box::from(bytes)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_those_of_the_value_as_it_is() {
        let mut kept: Kept<Vec<u32>> = Kept::default();
        for number in 0..3 {
            kept.change().push(number);
            let plain = postcard::to_stdvec(&postcard::to_stdvec(&kept.value).unwrap()).unwrap();
            for _ in 0..2 {
                assert_eq!(postcard::to_stdvec(&kept).unwrap(), plain);
            }
            kept = postcard::from_bytes(&plain).unwrap();
        }
        assert_eq!(kept.value, [0, 1, 2]);
    }
}
