-- How many users got a badge on a day.
-- Held as days, by toDateTime(day, 'UTC')
CREATE TABLE IF NOT EXISTS badge_rows
(
    definition UInt64,
    origin UInt64,
    app LowCardinality(String),
    version UInt64,
    deleted UInt8,
    day Date,
    users UInt64
)
ENGINE = ReplacingMergeTree(version, deleted)
ORDER BY (definition, app, day, origin);
