-- What a start that was told to go on without it has lost.
CREATE TABLE IF NOT EXISTS gap_rows
(
    topic LowCardinality(String),
    partition Int32,
    from_offset Int64,
    to_offset Int64,
    reason String,
    at DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree
ORDER BY (topic, partition, from_offset, to_offset);
