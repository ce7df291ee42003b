-- How many users were in a streak of some length on a day, and how many lost one. What lies ahead is written too: it is
-- so when the day has ended.
-- Held as days, by toDateTime(day, 'UTC')
CREATE TABLE IF NOT EXISTS streak_rows
(
    definition UInt64,
    origin UInt64,
    app LowCardinality(String),
    version UInt64,
    deleted UInt8,
    day Date,
    state LowCardinality(String),
    length UInt32,
    ends DateTime('UTC'),
    users UInt64
)
ENGINE = ReplacingMergeTree(version, deleted)
ORDER BY (definition, app, day, state, length, origin);
