//! A value as it stands in a record: text and numbers are borrowed wherever the format allows it.

use std::borrow::Cow;

use crate::Number;

#[derive(Clone, Debug, Default, PartialEq)]
pub enum Value<'a> {
    /// Not there, or something that is no scalar (a list, an object).
    #[default]
    Missing,
    Null,
    Bool(bool),
    Number(Number<'a>),
    /// The event's time where its type says what it is, in milliseconds since 1970.
    Instant(i64),
    Text(Cow<'a, str>),
}

impl<'a> Value<'a> {
    /// A scalar from its JSON text; what is no scalar is as missing.
    pub(crate) fn from_json(raw: &'a str) -> Value<'a> {
        match raw.as_bytes().first() {
            Some(b'"') => text_from_json(raw),
            Some(b'n') => Value::Null,
            Some(b't') => Value::Bool(true),
            Some(b'f') => Value::Bool(false),
            Some(b'{' | b'[') | None => Value::Missing,
            Some(_) => Value::Number(Number::new(raw)),
        }
    }

    /// The text under which a property's value is kept in a slice: numbers in shortest form,
    /// booleans `true` and `false`; none for a missing or null property.
    pub fn slice_text(&self) -> Option<Cow<'_, str>> {
        match self {
            Value::Missing | Value::Null => None,
            Value::Bool(true) => Some(Cow::Borrowed("true")),
            Value::Bool(false) => Some(Cow::Borrowed("false")),
            Value::Number(number) => Some(number.decimal()),
            Value::Instant(ms) => Some(Cow::Owned(ms.to_string())),
            Value::Text(text) => Some(Cow::Borrowed(text)),
        }
    }
}

fn text_from_json(raw: &str) -> Value<'_> {
    let inner = &raw[1..raw.len() - 1];
    if !inner.contains('\\') {
        return Value::Text(Cow::Borrowed(inner));
    }
    match serde_json::from_str::<String>(raw) {
        Ok(text) => Value::Text(Cow::Owned(text)),
        // A lone surrogate: there is no such text.
        Err(_) => Value::Missing,
    }
}
