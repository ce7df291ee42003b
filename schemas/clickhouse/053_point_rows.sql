-- How many points were earned, spent and gone on a day, and of how many users. What will be gone is written too: it is so
-- when that day has begun.
-- Held as days, by begins
CREATE TABLE IF NOT EXISTS point_rows
(
    definition UInt64,
    origin UInt64,
    app LowCardinality(String),
    version UInt64,
    deleted UInt8,
    day Date,
    kind LowCardinality(String),
    rule LowCardinality(String),
    measure LowCardinality(String),
    begins DateTime('UTC'),
    amount UInt64
)
ENGINE = ReplacingMergeTree(version, deleted)
ORDER BY (definition, app, day, kind, rule, measure, origin);
