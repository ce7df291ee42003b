-- Records that are no events, with the beginning of their bytes.
CREATE TABLE IF NOT EXISTS rejected_rows
(
    topic LowCardinality(String),
    partition Int32,
    offset Int64,
    version UInt64,
    at DateTime64(3, 'UTC'),
    reason LowCardinality(String),
    detail String,
    payload String,
    epoch UInt16
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (topic, partition, offset, epoch);
