-- Where each definition's state began with nothing.
CREATE TABLE IF NOT EXISTS origin_rows
(
    id UInt64,
    origin UInt64,
    topic LowCardinality(String),
    partition Int32,
    start Int64,
    started_at DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree
ORDER BY (id, origin);
