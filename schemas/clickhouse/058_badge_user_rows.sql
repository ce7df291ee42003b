-- Who has a badge, and since when. When a row was written says what is to be told to the app.
-- Sharded by cityHash64(user)
CREATE TABLE IF NOT EXISTS badge_user_rows
(
    definition UInt64,
    origin UInt64,
    app LowCardinality(String),
    version UInt64,
    deleted UInt8,
    user UInt64,
    day Date,
    begins DateTime('UTC'),
    written_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree(version, deleted)
ORDER BY (definition, app, user, origin);
