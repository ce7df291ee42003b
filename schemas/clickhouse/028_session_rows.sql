-- One row a session, as of a version.
-- Sharded by cityHash64(user)
CREATE TABLE IF NOT EXISTS session_rows
(
    definition UInt64,
    origin UInt64,
    app LowCardinality(String),
    version UInt64,
    deleted UInt8,
    user UInt64,
    session_id UInt64,
    day Date,
    started_at DateTime64(3, 'UTC'),
    ended_at DateTime64(3, 'UTC'),
    events UInt64,
    pages UInt64,
    entry String,
    exit String,
    bounced UInt8,
    gap_ms Int64,
    platform LowCardinality(String),
    app_version LowCardinality(String),
    channel LowCardinality(String),
    campaign LowCardinality(String),
    country LowCardinality(String)
)
ENGINE = ReplacingMergeTree(version, deleted)
ORDER BY (definition, app, day, user, session_id, origin);
