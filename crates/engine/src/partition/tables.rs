//! The tables that a partition itself writes, beside those of its processors.

use std::borrow::Cow;

use cambium_event::{Event, Field, Number, Reason, Record, Rejection};

use crate::identity::of_version;
use crate::instance::InForce;
use crate::{Account, RejectedPayload, Rows, Table, Topic};

pub static REJECTED: Table = Table {
    name: "rejected_rows",
    columns: &[
        ("topic", "LowCardinality(String)"),
        ("partition", "Int32"),
        ("offset", "Int64"),
        ("version", "UInt64"),
        ("at", "DateTime64(3, 'UTC')"),
        ("reason", "LowCardinality(String)"),
        ("detail", "String"),
        ("payload", "String"),
        ("epoch", "UInt16"),
    ],
};

static RECORDS: Table = Table {
    name: "record_rows",
    columns: &[
        ("topic", "LowCardinality(String)"),
        ("partition", "Int32"),
        ("origin", "UInt64"),
        ("version", "UInt64"),
        ("read", "UInt64"),
        ("accepted", "UInt64"),
        ("duplicate", "UInt64"),
        ("late", "UInt64"),
        ("rejected", "UInt64"),
        ("dropped", "UInt64"),
        ("ahead", "UInt64"),
    ],
};

static DEFINITIONS: Table = Table {
    name: "definition_rows",
    columns: &[
        ("id", "UInt64"),
        ("kind", "LowCardinality(String)"),
        ("name", "String"),
        ("app", "LowCardinality(String)"),
        ("text", "String"),
        ("generation", "UInt32"),
        ("zone", "LowCardinality(String)"),
        ("week_start", "UInt8"),
    ],
};

static ORIGINS: Table = Table {
    name: "origin_rows",
    columns: &[
        ("id", "UInt64"),
        ("origin", "UInt64"),
        ("topic", "LowCardinality(String)"),
        ("partition", "Int32"),
        ("start", "Int64"),
        ("started_at", "DateTime64(3, 'UTC')"),
    ],
};

static EVENTS: Table = Table {
    name: "event_rows",
    columns: &[
        ("topic", "LowCardinality(String)"),
        ("partition", "Int32"),
        ("offset", "Int64"),
        ("version", "UInt64"),
        ("app", "LowCardinality(String)"),
        ("event", "LowCardinality(String)"),
        ("time", "DateTime64(3, 'UTC')"),
        ("user", "UInt64"),
        ("user_id", "String"),
        ("anonymous_id", "String"),
        ("message_id", "String"),
        ("client_session_id", "String"),
        ("platform", "LowCardinality(String)"),
        ("app_version", "LowCardinality(String)"),
        ("channel", "LowCardinality(String)"),
        ("campaign", "LowCardinality(String)"),
        ("country", "LowCardinality(String)"),
        ("properties", "Map(LowCardinality(String), String)"),
        ("epoch", "UInt16"),
    ],
};

/// All of them, to be checked against the SQL files.
pub static TABLES: [&Table; 5] = [&REJECTED, &RECORDS, &DEFINITIONS, &ORIGINS, &EVENTS];

/// The most bytes that are kept of a rejected record.
const MAX_PAYLOAD_BYTES: usize = 4096;

pub(super) fn put_rejected(
    rows: &mut Rows,
    topic: &Topic,
    version: u64,
    record: &Record<'_>,
    rejection: &Rejection,
    kept: RejectedPayload,
) {
    let payload = record.payload.unwrap_or_default();
    let payload = &payload[..payload.len().min(MAX_PAYLOAD_BYTES)];
    let payload = match kept {
        RejectedPayload::Keep => Cow::Borrowed(payload),
        RejectedPayload::Redact => redacted(payload).into_bytes().into(),
        RejectedPayload::None => Cow::Borrowed(b"".as_slice()),
    };
    // What was seen may be a piece of the payload.
    let detail = match (kept, rejection.reason) {
        (RejectedPayload::Keep, _) => rejection.detail.as_str(),
        (_, Reason::BadTime) => "timestamp: no time between 1970 and 2100",
        (_, Reason::Unreadable) => "it cannot be read in the source's format",
        _ => rejection.detail.as_str(),
    };
    let at = record.timestamp.or(record.taken_in_at).unwrap_or(0);
    rows.row(&REJECTED)
        .text(&topic.name)
        .i32(topic.partition)
        .i64(record.offset)
        .u64(version)
        .i64(at.clamp(0, 4_102_444_800_000))
        .text(rejection.reason.name())
        .text(detail)
        .raw(&payload)
        .u16(of_version(version).0);
}

/// The form of a payload without its content: letters are x, digits 0; the names of fields stay.
fn redacted(payload: &[u8]) -> String {
    let text = String::from_utf8_lossy(payload);
    let mut out = String::with_capacity(text.len());
    // Between quotes stands a name or a value; outside of them a number, or what is no JSON.
    for (index, part) in text.split('"').enumerate() {
        if index > 0 {
            out.push('"');
        }
        if index % 2 == 1 && (part == "properties" || Field::from_name(part).is_some()) {
            out.push_str(part);
            continue;
        }
        out.extend(part.chars().map(|char| match char {
            _ if char.is_numeric() => '0',
            _ if char.is_alphabetic() => 'x',
            _ => char,
        }));
    }
    out
}

/// An accepted event as a row of its own.
pub(super) fn put_event(
    rows: &mut Rows,
    topic: &Topic,
    version: u64,
    (epoch, offset): (u16, i64),
    user: u64,
    event: &Event<'_>,
    raw_ids: bool,
) {
    let raw = |id| if raw_ids { id } else { "" };
    let mut properties = Vec::new();
    if let Ok(all) = serde_json::from_str(event.all_properties) {
        flatten(String::new(), &all, &mut properties);
    }
    let mut row = rows
        .row(&EVENTS)
        .text(&topic.name)
        .i32(topic.partition)
        .i64(offset)
        .u64(version)
        .text(event.app)
        .text(event.event)
        .i64(event.time)
        .u64(user)
        .text(raw(event.user_id))
        .text(raw(event.anonymous_id))
        .text(event.message_id)
        .text(event.session_id);
    for dimension in event.dimensions {
        row = row.text(dimension);
    }
    row.map(
        properties
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str())),
    )
    .u16(epoch);
}

/// Scalars by their paths, as the other tables hold properties; lists as JSON.
fn flatten(path: String, value: &serde_json::Value, out: &mut Vec<(String, String)>) {
    let text = match value {
        serde_json::Value::Null => return,
        serde_json::Value::Object(members) => {
            for (name, value) in members {
                let path = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                flatten(path, value, out);
            }
            return;
        }
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Number(number) => Number::new(&number.to_string()).decimal().into_owned(),
        other => other.to_string(),
    };
    out.push((path, text));
}

pub(super) fn put_records(rows: &mut Rows, topic: &Topic, origin: u64, version: u64, account: &Account) {
    rows.row(&RECORDS)
        .text(&topic.name)
        .i32(topic.partition)
        .u64(origin)
        .u64(version)
        .u64(account.read)
        .u64(account.accepted)
        .u64(account.duplicate)
        .u64(account.late)
        .u64(account.rejected)
        .u64(account.dropped)
        .u64(account.ahead);
}

pub(super) fn put_definition(rows: &mut Rows, topic: &Topic, in_force: &InForce<'_>, started_at: i64) {
    let definition = in_force.definition;
    rows.row(&DEFINITIONS)
        .u64(definition.id)
        .text(definition.kind)
        .text(&definition.name)
        .text(&definition.app)
        .text(&definition.text)
        .u32(definition.generation)
        .text(&definition.zone)
        .u8(definition.week_start);
    rows.row(&ORIGINS)
        .u64(definition.id)
        .u64(in_force.origin)
        .text(&topic.name)
        .i32(topic.partition)
        .i64(of_version(in_force.start).1)
        .i64(started_at.clamp(0, 4_102_444_800_000));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version;

    #[test]
    fn a_redacted_payload_keeps_its_form_and_the_names_of_fields() {
        for (payload, form) in [
            (
                r#"{"user_id":"Zoë-7","n":12.5}"#,
                r#"{"user_id":"xxx-0","x":00.0}"#,
            ),
            (
                r#"{"properties":{"price":null}}"#,
                r#"{"properties":{"xxxxx":xxxx}}"#,
            ),
            // Outside of quotes, and as part of a text, it is no field's name.
            (r#"app {"apps":"my app"}"#, r#"xxx {"xxxx":"xx xxx"}"#),
            ("", ""),
        ] {
            assert_eq!(redacted(payload.as_bytes()), form);
        }
    }

    /// What is told of a rejection: that which was seen may be a piece of the payload.
    #[test]
    fn the_detail_of_a_rejection_gives_away_no_more_than_is_kept_of_the_payload() {
        let (keep, redact, none) = (
            RejectedPayload::Keep,
            RejectedPayload::Redact,
            RejectedPayload::None,
        );
        for (kept, reason, told) in [
            (keep, Reason::BadTime, "seen: b7"),
            (keep, Reason::Unreadable, "seen: b7"),
            (
                redact,
                Reason::BadTime,
                "timestamp: no time between 1970 and 2100",
            ),
            (
                none,
                Reason::Unreadable,
                "it cannot be read in the source's format",
            ),
            (redact, Reason::NoApp, "seen: b7"),
        ] {
            let (mut rows, mut expected) = (Rows::default(), Rows::default());
            let topic = Topic {
                name: "t".to_owned(),
                partition: 0,
            };
            let record = Record {
                payload: Some(b"b7"),
                ..Record::default()
            };
            put_rejected(
                &mut rows,
                &topic,
                version(1, 5),
                &record,
                &Rejection::new(reason, "seen: b7"),
                kept,
            );
            let payload = match kept {
                RejectedPayload::Keep => "b7",
                RejectedPayload::Redact => "x0",
                RejectedPayload::None => "",
            };
            expected
                .row(&REJECTED)
                .text("t")
                .i32(0)
                .i64(0)
                .u64(version(1, 5))
                .i64(0)
                .text(reason.name())
                .text(told)
                .text(payload)
                .u16(1);
            let bytes = |rows: &Rows| {
                let blocks = rows.tables.iter().flat_map(|table| table.block());
                blocks.flat_map(|part| part.to_vec()).collect::<Vec<u8>>()
            };
            assert_eq!(bytes(&rows), bytes(&expected), "{kept:?} {reason:?}");
        }
    }

    #[test]
    fn properties_are_flattened_to_scalars() {
        let json =
            serde_json::json!({"a": {"b": 1.50, "c": {"d": "x"}}, "e": [1, {"f": 2}], "g": null, "h": true});
        let mut out = Vec::new();
        flatten(String::new(), &json, &mut out);
        let out: Vec<_> = out.iter().map(|(path, text)| format!("{path}={text}")).collect();
        assert_eq!(out.join(" "), r#"a.b=1.5 a.c.d=x e=[1,{"f":2}] h=true"#);
    }
}
