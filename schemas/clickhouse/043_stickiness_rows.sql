-- How many users were active on so many days of a week or month.
-- Held as days, by toDateTime(day, 'UTC')
CREATE TABLE IF NOT EXISTS stickiness_rows
(
    definition UInt64,
    origin UInt64,
    app LowCardinality(String),
    version UInt64,
    deleted UInt8,
    grain LowCardinality(String),
    day Date,
    active UInt8,
    users UInt64
)
ENGINE = ReplacingMergeTree(version, deleted)
ORDER BY (definition, app, grain, day, active, origin);
