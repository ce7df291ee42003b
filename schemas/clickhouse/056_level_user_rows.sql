-- Who went from one level to another on a day, or will. When a row was written says what is to be told to the app.
-- Sharded by cityHash64(user)
CREATE TABLE IF NOT EXISTS level_user_rows
(
    definition UInt64,
    origin UInt64,
    app LowCardinality(String),
    version UInt64,
    deleted UInt8,
    user UInt64,
    day Date,
    from_rank UInt8,
    to_rank UInt8,
    from_level LowCardinality(String),
    to_level LowCardinality(String),
    begins DateTime('UTC'),
    written_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree(version, deleted)
ORDER BY (definition, app, user, day, origin);
