-- How many users went from one level to another on a day. What lies ahead is written too: it is so when that day has begun.
CREATE TABLE IF NOT EXISTS level_rows
(
    definition UInt64,
    origin UInt64,
    app LowCardinality(String),
    version UInt64,
    deleted UInt8,
    day Date,
    from_rank UInt8,
    to_rank UInt8,
    from_level LowCardinality(String),
    to_level LowCardinality(String),
    begins DateTime('UTC'),
    users UInt64
)
ENGINE = ReplacingMergeTree(version, deleted)
ORDER BY (definition, app, day, from_rank, to_rank, origin);
