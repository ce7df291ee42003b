//! From a record to an event: the fields' own rules, whatever the format was.

use std::str::FromStr;

use bumpalo::Bump;
use jiff::Timestamp;

use crate::plan::Outside;
use crate::slots::{Slot, Slots};
use crate::{DIMENSIONS, Event, Field, MAX_RECORD_BYTES, Plan, Reason, Rejection, Value, json};

/// The end of the calendar for events, exclusive: 2100-01-01T00:00:00Z.
const END_OF_TIME_MS: i64 = 4_102_444_800_000;

/// A Kafka message, or a line of a file, borrowed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Record<'a> {
    pub offset: i64,
    /// The Kafka timestamp in milliseconds; none for a line of a file.
    pub timestamp: Option<i64>,
    pub key: Option<&'a [u8]>,
    pub headers: &'a [(&'a str, &'a [u8])],
    /// When a line of a file was taken in, in milliseconds.
    pub taken_in_at: Option<i64>,
    /// The Avro schema of the payload, where what the record came in named it: a container file.
    pub schema: Option<u32>,
    pub payload: Option<&'a [u8]>,
}

impl<'a> Record<'a> {
    /// The bytes to be decoded; or why there is nothing to decode.
    #[inline]
    pub(crate) fn checked_payload(&self) -> Result<&'a [u8], Rejection> {
        let Some(payload) = self.payload else {
            return Err(Rejection::new(Reason::Tombstone, "the record has no value"));
        };
        if payload.len() > MAX_RECORD_BYTES {
            let detail = format!("{} bytes, at most {MAX_RECORD_BYTES} are read", payload.len());
            return Err(Rejection::new(Reason::TooLarge, detail));
        }
        Ok(payload)
    }
}

/// Reads a record of JSON and hands the event to `use_event`; or says why it is none.
///
/// The event borrows from the record and from what had to be unescaped on the way, which lives
/// as long as the call.
pub fn read<R>(
    record: &Record<'_>,
    plan: &Plan,
    use_event: impl FnOnce(&Event<'_>) -> R,
) -> Result<R, Rejection> {
    let payload = record.checked_payload()?;
    let made = Bump::new();
    let mut slots = Slots::new(&made);
    slots.expect_properties(plan.properties);
    json::read(payload, &plan.root, &mut slots)?;
    fill_from_outside(record, plan, &mut slots);
    event_of(&slots, plan).map(|event| use_event(&event))
}

/// From the slots of a plan to the event: the fields' own rules, whatever the format was.
#[inline]
pub(crate) fn event_of<'s>(slots: &'s Slots<'_>, plan: &Plan) -> Result<Event<'s>, Rejection> {
    let name = |field: Field| slots.names[field as usize];
    let mut event = Event {
        message_id: name(Field::MessageId),
        app: required(name(Field::App), Reason::NoApp, "app")?,
        event: required(name(Field::Event), Reason::NoEvent, "event")?,
        user_id: name(Field::UserId),
        anonymous_id: name(Field::AnonymousId),
        time: 0,
        session_id: name(Field::SessionId),
        dimensions: DIMENSIONS.map(name),
        properties: &slots.properties,
        all_properties: slots.all_properties,
    };
    required(event.user(), Reason::NoUser, "user_id and anonymous_id")?;
    event.time = time_ms(&slots.time, plan)?;
    Ok(event)
}

#[inline]
fn required<'a>(text: &'a str, reason: Reason, name: &str) -> Result<&'a str, Rejection> {
    if text.is_empty() {
        return Err(missing(reason, name));
    }
    Ok(text)
}

#[cold]
fn missing(reason: Reason, name: &str) -> Rejection {
    Rejection::new(reason, format!("{name}: missing or empty"))
}

#[inline]
pub(crate) fn fill_from_outside<'a>(record: &Record<'a>, plan: &'a Plan, slots: &mut Slots<'a>) {
    for (field, outside) in &plan.outside {
        let bytes = match outside {
            Outside::Value(value) => Some(value.as_bytes()),
            Outside::Key => record.key,
            Outside::Header(name) => record
                .headers
                .iter()
                .rev()
                .find(|(header, _)| header == name)
                .map(|(_, value)| *value),
        };
        let text = bytes.and_then(|bytes| std::str::from_utf8(bytes).ok());
        slots.put(
            text.map_or(Value::Missing, |text| Value::Text(text.into())),
            &[Slot::of(*field)],
        );
    }
}

fn time_ms(value: &Value<'_>, plan: &Plan) -> Result<i64, Rejection> {
    let bad = |detail: String| Rejection::new(Reason::BadTime, detail);
    let ms = match value {
        Value::Number(number) => number
            .to_ms(plan.unit.digits())
            .ok_or_else(|| bad(format!("timestamp: {} is out of range", number.decimal())))?,
        Value::Instant(ms) => *ms,
        Value::Text(text) => {
            rfc3339_ms(text).map_err(|why| bad(format!("timestamp: '{}': {why}", short(text))))?
        }
        _ => return Err(bad("timestamp: missing, or neither a number nor text".to_owned())),
    };
    if (0..END_OF_TIME_MS).contains(&ms) {
        Ok(ms)
    } else {
        Err(bad(format!("timestamp: {ms} ms is not between 1970 and 2100")))
    }
}

fn rfc3339_ms(text: &str) -> Result<i64, jiff::Error> {
    let time = Timestamp::from_str(text)?;
    Ok(time.as_nanosecond().div_euclid(1_000_000) as i64)
}

fn short(text: &str) -> &str {
    let end = text.char_indices().nth(64).map_or(text.len(), |(index, _)| index);
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Fields, Number};

    fn read_line(line: &str, fields: &str) -> String {
        let fields: Fields = serde_json::from_str(fields).unwrap();
        let properties = [vec!["price".to_owned()], vec!["a".to_owned(), "b".to_owned()]];
        let plan = Plan::new(&fields, &properties);
        let headers = [("id", b"h7".as_slice())];
        let record = Record {
            headers: &headers,
            key: Some(b"k1"),
            payload: Some(line.as_bytes()),
            ..Record::default()
        };
        let outcome = read(&record, &plan, |event| {
            let properties: Vec<_> = event.properties.iter().map(Value::slice_text).collect();
            format!(
                "{}|{}|{}|{}|{}|{:?}|{:?}",
                event.message_id,
                event.app,
                event.event,
                event.user(),
                event.time,
                event.dimensions,
                properties
            )
        });
        outcome.unwrap_or_else(|rejection| rejection.reason.to_string())
    }

    #[track_caller]
    fn check(line: &str, starts: &str) {
        let read = read_line(line, "{}");
        assert!(read.starts_with(starts), "{line}: {read}");
    }

    #[test]
    fn each_field_has_its_rule() {
        check(
            r#"{"app":"shop","event":"view","user_id":"u1","timestamp":5}"#,
            "|shop|view|u1|5|",
        );
        check(
            r#"{"app":7,"event":"view","user_id":12345678901234567890123,"timestamp":5.9}"#,
            "|7|view|12345678901234567890123|5|",
        );
        check(
            r#"{"app":"s","event":"v","user_id":"","anonymous_id":"a","timestamp":"1970-01-01T00:00:01.0019Z"}"#,
            "|s|v|a|1001|",
        );
        check(
            r#"{"app":"s","event":"v","user_id":"u","timestamp":"1970-01-01T08:00:00+08:00"}"#,
            "|s|v|u|0|",
        );
        check(
            r#"{"app":"s","event":"v","user_id":"u","timestamp":"1970-01-01T08:00:00"}"#,
            "bad_time",
        );
        check(
            r#"{"app":"s","event":"v","user_id":"u","timestamp":4102444800000}"#,
            "bad_time",
        );
        check(
            r#"{"app":"s","event":"v","user_id":"u","timestamp":-1}"#,
            "bad_time",
        );
        check(
            r#"{"app":"s","event":"v","user_id":"u","timestamp":null}"#,
            "bad_time",
        );
        check(r#"{"app":"","event":"v","user_id":"u","timestamp":1}"#, "no_app");
        check(r#"{"app":"a","user_id":"u","timestamp":1}"#, "no_event");
        check(
            r#"{"app":"a","event":"e","user_id":null,"timestamp":1}"#,
            "no_user",
        );
        check(
            r#"{"app":"a","event":"e","user_id":"u","timestamp":1"#,
            "unreadable",
        );
        check(r#"[1]"#, "unreadable");
        check("", "unreadable");
        check(
            r#"{"app":"\u0073hop","event":"e","user_id":"u","timestamp":1,"other":[{}]}"#,
            "|shop|e|u|1|",
        );
    }

    #[test]
    fn properties_are_read_as_far_as_they_are_asked_for() {
        let line = |properties: &str| {
            let line =
                format!(r#"{{"app":"a","event":"e","user_id":"u","timestamp":1,"properties":{properties}}}"#);
            read_line(&line, "{}").split('|').next_back().unwrap().to_owned()
        };
        assert_eq!(
            line(r#"{"price":12.50,"a":{"b":true,"c":1}}"#),
            r#"[Some("12.5"), Some("true")]"#
        );
        assert_eq!(line(r#"{"price":null,"a":"x"}"#), "[None, None]");
        assert_eq!(
            line(r#"{"price":"","a":{"b":1},"a":{"c":1}}"#),
            r#"[Some(""), None]"#
        );
        assert_eq!(line("[1]"), "[None, None]");
    }

    #[test]
    fn fields_come_from_where_the_source_keeps_them() {
        let fields = r#"{"user_id":"ctx.userId","timestamp":{"field":"ts","unit":"s"},"app":{"value":"shop"},
            "message_id":{"header":"id"},"session_id":{"key":true},"properties":"."}"#;
        assert_eq!(
            read_line(r#"{"event":"e","ctx":{"userId":5},"ts":1.5,"price":3}"#, fields),
            r#"h7|shop|e|5|1500|["", "", "", "", ""]|[Some("3"), None]"#
        );
    }

    #[test]
    fn numbers_beyond_64_bits_compare_as_floats() {
        assert_eq!(
            Number::new("1e3").compare(&Number::Int(1000)),
            Some(std::cmp::Ordering::Equal)
        );
    }
}
