//! The tables that a partition itself writes, beside those of its processors.

use cambium_event::{Record, Rejection};

use crate::instance::InForce;
use crate::{Account, Rows, Table, Topic};

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

/// All of them, to be checked against the SQL files.
pub static TABLES: [&Table; 4] = [&REJECTED, &RECORDS, &DEFINITIONS, &ORIGINS];

/// The most bytes that are kept of a rejected record.
const MAX_PAYLOAD_BYTES: usize = 4096;

pub(super) fn put_rejected(
    rows: &mut Rows,
    topic: &Topic,
    version: u64,
    record: &Record<'_>,
    rejection: &Rejection,
) {
    let payload = record.payload.unwrap_or_default();
    let at = record.timestamp.or(record.taken_in_at).unwrap_or(0);
    rows.row(&REJECTED)
        .text(&topic.name)
        .i32(topic.partition)
        .i64(record.offset)
        .u64(version)
        .i64(at.clamp(0, 4_102_444_800_000))
        .text(rejection.reason.name())
        .text(&rejection.detail)
        .raw(&payload[..payload.len().min(MAX_PAYLOAD_BYTES)]);
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
        .i64(in_force.start)
        .i64(started_at.clamp(0, 4_102_444_800_000));
}
