-- The accepted events themselves, where [events_table] is on.
-- Sharded by cityHash64(topic, partition, offset)
CREATE TABLE IF NOT EXISTS event_rows
(
    topic LowCardinality(String),
    partition Int32,
    offset Int64,
    version UInt64,
    app LowCardinality(String),
    event LowCardinality(String),
    time DateTime64(3, 'UTC'),
    user UInt64,
    user_id String,
    anonymous_id String,
    message_id String,
    client_session_id String,
    platform LowCardinality(String),
    app_version LowCardinality(String),
    channel LowCardinality(String),
    campaign LowCardinality(String),
    country LowCardinality(String),
    properties Map(LowCardinality(String), String),
    epoch UInt16
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (app, event, time, topic, partition, offset, epoch);
