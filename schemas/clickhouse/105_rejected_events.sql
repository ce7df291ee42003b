CREATE OR REPLACE VIEW rejected_events
(
    topic LowCardinality(String),
    partition Int32,
    offset Int64,
    at DateTime64(3, 'UTC') COMMENT 'The Kafka timestamp; of a file, when it was taken in',
    reason LowCardinality(String) COMMENT 'unreadable, unknown_schema, no_app, no_event, no_user, bad_time, too_large or tombstone',
    detail String COMMENT 'What was seen',
    payload String COMMENT 'The record, its first 4 kB'
)
AS SELECT topic, partition, offset, at, reason, detail, payload FROM rejected_rows FINAL
COMMENT 'Records that are no events, and why';
