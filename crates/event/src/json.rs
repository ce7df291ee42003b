//! A JSON record, read in one pass into the slots of a plan.
//!
//! What JSON is, serde_json says. Nearly all records are plainer than JSON may be, and are read straight off their
//! bytes by [`scan`], which takes a third of the time; where it meets anything that it leaves to the library, the
//! library reads the whole record again, and says what is wrong with it.

mod scan;

use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::plan::Node;
use crate::slots::Slots;
use crate::{Reason, Rejection, Value};

pub(crate) fn read<'a>(payload: &'a [u8], root: &Node, slots: &mut Slots<'a>) -> Result<(), Rejection> {
    // ASCII is told faster, and is UTF-8.
    if !payload.iter().fold(0, |all, byte| all | byte).is_ascii() {
        utf8(payload)?;
    }
    match scan::read(payload, root, slots) {
        Some(()) => Ok(()),
        None => read_by_library(utf8(payload)?, root, slots),
    }
}

fn utf8(payload: &[u8]) -> Result<&str, Rejection> {
    std::str::from_utf8(payload).map_err(|error| unreadable(format!("not UTF-8: {error}")))
}

fn unreadable(detail: String) -> Rejection {
    Rejection::new(Reason::Unreadable, detail)
}

#[cold]
fn read_by_library<'a>(text: &'a str, root: &Node, slots: &mut Slots<'a>) -> Result<(), Rejection> {
    if !text.trim_start().starts_with('{') {
        return Err(unreadable("not a JSON object".to_owned()));
    }
    slots.clear(&root.below);
    if root.keeps_text {
        slots.all_properties = text;
    }
    let mut json = serde_json::Deserializer::from_str(text);
    ObjectSeed { node: root, slots }
        .deserialize(&mut json)
        .and_then(|()| json.end())
        .map_err(|error| unreadable(format!("not JSON: {error}")))
}

/// Reads an object's wanted members; what is no object leaves the slots as they are.
struct ObjectSeed<'s, 'a> {
    node: &'s Node,
    slots: &'s mut Slots<'a>,
}

impl<'de> DeserializeSeed<'de> for ObjectSeed<'_, 'de> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ObjectSeed<'_, 'de> {
    type Value = ();

    fn expecting(&self, out: &mut std::fmt::Formatter) -> std::fmt::Result {
        out.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(child) = map.next_key_seed(KeySeed(self.node))? {
            match child {
                Some(child) => member(&mut map, child, self.slots)?,
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }
}

/// A member that is wanted. One that is repeated counts as its last, whole: what an earlier one
/// left below it is cleared.
fn member<'de, A: MapAccess<'de>>(map: &mut A, node: &Node, slots: &mut Slots<'de>) -> Result<(), A::Error> {
    slots.clear(&node.below);
    if node.slots.is_empty() {
        return map.next_value_seed(ObjectSeed { node, slots });
    }
    let raw: &'de RawValue = map.next_value()?;
    slots.put(Value::from_json(raw.get()), &node.slots);
    if node.keeps_text {
        slots.all_properties = raw.get();
    }
    if node.children.is_empty() {
        return Ok(());
    }
    let mut json = serde_json::Deserializer::from_str(raw.get());
    ObjectSeed { node, slots }
        .deserialize(&mut json)
        .map_err(A::Error::custom)
}

/// Finds the wanted child that a key names, without keeping the key.
struct KeySeed<'s>(&'s Node);

impl<'de, 's> DeserializeSeed<'de> for KeySeed<'s> {
    type Value = Option<&'s Node>;

    fn deserialize<D: serde::Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_str(self)
    }
}

impl<'s> Visitor<'_> for KeySeed<'s> {
    type Value = Option<&'s Node>;

    fn expecting(&self, out: &mut std::fmt::Formatter) -> std::fmt::Result {
        out.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.children.get(key.as_bytes()))
    }
}

#[cfg(test)]
mod tests;
