-- Users by the slice of time of their newest event, newest slice first: a window of n slices is the
-- sum of the first n. `slice` counts slices since 1970; `turns` are the beginnings of the local days after
-- it, where slices are days.
-- Sharded by cityHash64(definition, app, dimension, value)
CREATE TABLE IF NOT EXISTS rolling_rows
(
    definition UInt64,
    origin UInt64,
    app LowCardinality(String),
    version UInt64,
    deleted UInt8,
    slices LowCardinality(String),
    dimension LowCardinality(String),
    value String,
    slice Int64,
    at DateTime('UTC'),
    turns Array(DateTime('UTC')),
    users Array(UInt64)
)
ENGINE = ReplacingMergeTree(version, deleted)
ORDER BY (definition, app, slices, dimension, value, slice, origin);
