-- How many users have had no streak that was longer.
CREATE TABLE IF NOT EXISTS longest_streak_rows
(
    definition UInt64,
    origin UInt64,
    app LowCardinality(String),
    version UInt64,
    deleted UInt8,
    length UInt32,
    users UInt64
)
ENGINE = ReplacingMergeTree(version, deleted)
ORDER BY (definition, app, length, origin);
