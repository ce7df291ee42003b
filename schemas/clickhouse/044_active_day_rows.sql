-- On which days of a month each user was active (bit d - 1: day d).
-- Sharded by cityHash64(user)
-- Held as days, by toDateTime(month, 'UTC')
CREATE TABLE IF NOT EXISTS active_day_rows
(
    definition UInt64,
    origin UInt64,
    app LowCardinality(String),
    version UInt64,
    deleted UInt8,
    user UInt64,
    month Date,
    days UInt32
)
ENGINE = ReplacingMergeTree(version, deleted)
ORDER BY (definition, app, month, user, origin);
