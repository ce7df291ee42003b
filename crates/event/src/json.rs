//! A JSON record, read in one pass into the slots of a plan.
//!
//! Values are read as what they are. Only where a number's own text is wanted (a time with a fraction, digits beyond
//! 64 bits) or something is not as it should be, the record is read once more, more slowly, keeping the text of each
//! value.

use std::cell::Cell;

use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::plan::Node;
use crate::{Field, Number, Reason, Rejection, Value};

pub(crate) fn read<'a>(payload: &'a [u8], root: &Node, slots: &mut [Value<'a>]) -> Result<(), Rejection> {
    let unreadable = |detail: String| Rejection::new(Reason::Unreadable, detail);
    let text = std::str::from_utf8(payload).map_err(|error| unreadable(format!("not UTF-8: {error}")))?;
    if !text.trim_start().starts_with('{') {
        return Err(unreadable("not a JSON object".to_owned()));
    }
    if !root.keeps_text && read_plainly(text, root, slots) {
        return Ok(());
    }
    slots.fill(Value::Missing);
    if let Some(slot) = root.whole {
        slots[slot] = Value::Object(text.into());
    }
    let mut json = serde_json::Deserializer::from_str(text);
    let seed = ObjectSeed {
        node: root,
        slots,
        plainly: None,
    };
    seed.deserialize(&mut json)
        .and_then(|()| json.end())
        .map_err(|error| unreadable(format!("not JSON: {error}")))
}

/// Whether all that is wanted could be read without its text.
fn read_plainly<'a>(text: &'a str, root: &Node, slots: &mut [Value<'a>]) -> bool {
    let mut json = serde_json::Deserializer::from_str(text);
    let wants_text = Cell::new(false);
    let seed = ObjectSeed {
        node: root,
        slots,
        plainly: Some(&wants_text),
    };
    let read = seed.deserialize(&mut json).and_then(|()| json.end());
    read.is_ok() && !wants_text.get()
}

/// Reads an object's wanted members; what is no object leaves the slots as they are.
struct ObjectSeed<'s, 'a> {
    node: &'s Node,
    slots: &'s mut [Value<'a>],
    /// Values are read as what they are; set where that is not enough.
    plainly: Option<&'s Cell<bool>>,
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
                Some(child) => member(&mut map, child, self.slots, self.plainly)?,
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
fn member<'de, A: MapAccess<'de>>(
    map: &mut A,
    node: &Node,
    slots: &mut [Value<'de>],
    plainly: Option<&Cell<bool>>,
) -> Result<(), A::Error> {
    if node.children.is_empty() {
        if let Some(wants_text) = plainly {
            let is_time = node.slots.contains(&(Field::Timestamp as usize));
            let value = map.next_value_seed(ScalarSeed { wants_text, is_time })?;
            put(value, &node.slots, slots);
            return Ok(());
        }
        let raw: &'de RawValue = map.next_value()?;
        take(raw, node, slots);
        return Ok(());
    }
    let mut below = Vec::new();
    node.all_slots(&mut below);
    for slot in below {
        slots[slot] = Value::Missing;
    }
    if node.slots.is_empty() && node.whole.is_none() {
        return map.next_value_seed(ObjectSeed { node, slots, plainly });
    }
    let raw: &'de RawValue = map.next_value()?;
    take(raw, node, slots);
    let mut json = serde_json::Deserializer::from_str(raw.get());
    let seed = ObjectSeed {
        node,
        slots,
        plainly: None,
    };
    seed.deserialize(&mut json).map_err(A::Error::custom)
}

/// Puts a value into all slots that want it.
fn put<'de>(value: Value<'de>, wanted: &[usize], slots: &mut [Value<'de>]) {
    if let Some((last, others)) = wanted.split_last() {
        for slot in others {
            slots[*slot] = value.clone();
        }
        slots[*last] = value;
    }
}

/// Reads a scalar as what it is; what is none is as missing.
struct ScalarSeed<'s> {
    wants_text: &'s Cell<bool>,
    is_time: bool,
}

/// Above it not every whole number is a float of its own.
const LARGEST_EXACT: f64 = 9_007_199_254_740_992.0;

impl<'de> DeserializeSeed<'de> for ScalarSeed<'_> {
    type Value = Value<'de>;

    fn deserialize<D: serde::Deserializer<'de>>(self, json: D) -> Result<Value<'de>, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ScalarSeed<'_> {
    type Value = Value<'de>;

    fn expecting(&self, out: &mut std::fmt::Formatter) -> std::fmt::Result {
        out.write_str("a value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value<'de>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Value::Missing)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value<'de>, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Missing)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value<'de>, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value<'de>, E> {
        Ok(Value::Number(Number::Int(value)))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value<'de>, E> {
        match i64::try_from(value) {
            Ok(value) => self.visit_i64(value),
            Err(_) => self.visit_f64(value as f64),
        }
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value<'de>, E> {
        if self.is_time || value.abs() >= LARGEST_EXACT {
            self.wants_text.set(true);
        }
        Ok(Value::Number(Number::Float(value)))
    }

    fn visit_borrowed_str<E: Error>(self, value: &'de str) -> Result<Value<'de>, E> {
        Ok(Value::Text(value.into()))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value<'de>, E> {
        Ok(Value::Text(value.to_owned().into()))
    }

    fn visit_unit<E: Error>(self) -> Result<Value<'de>, E> {
        Ok(Value::Null)
    }
}

fn take<'de>(raw: &'de RawValue, node: &Node, slots: &mut [Value<'de>]) {
    put(Value::from_json(raw.get()), &node.slots, slots);
    if let Some(slot) = node.whole {
        slots[slot] = Value::Object(raw.get().into());
    }
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
        Ok(self.0.children.get(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Fields, Plan};

    /// What both ways of reading make of a record: they may say a number in another way, but mean the same.
    fn both(text: &str) -> [Option<Vec<Option<String>>>; 2] {
        let properties = [vec!["price".to_owned()], vec!["a".to_owned(), "b".to_owned()]];
        let plan = Plan::new(&Fields::default(), &properties);
        [plan.clone(), plan.with_all_properties()].map(|plan| {
            let mut slots = plan.empty_slots();
            read(text.as_bytes(), &plan.root, &mut slots).ok()?;
            let said = |value: &Value<'_>| value.slice_text().map(|text| text.into_owned());
            Some(slots[..Field::COUNT + 2].iter().map(said).collect())
        })
    }

    #[test]
    fn reading_plainly_is_reading() {
        for value in [
            "1",
            "-1",
            "-0",
            "0.1",
            "-0.0",
            "12.50",
            "1e2",
            "1e400",
            "9223372036854775807",
            "9223372036854775808",
            "-9223372036854775809",
            "123456789012345678901234567890",
            "1511539200123.9",
            "0.30000000000000004",
            "5e-324",
            "true",
            "null",
            "\"\"",
            "\"text\"",
            "\"\\u00e9\\n\"",
            "\"\\ud800\"",
            "[1,{\"a\":2}]",
            "{\"b\":\"c\"}",
            "nonsense",
            "01",
            "\"open",
        ] {
            for text in [
                format!(r#"{{"user_id":{value},"app":"a"}}"#),
                format!(r#"{{"timestamp":{value},"other":[{value}]}}"#),
                format!(r#"{{"properties":{{"price":{value},"a":{{"b":{value}}}}}}}"#),
                format!(r#"{{"properties":{value},"properties":{{"price":1}},"event":"x","event":{value}}}"#),
            ] {
                let [plainly, by_text] = both(&text);
                assert_eq!(plainly, by_text, "{text}");
            }
        }
    }
}
