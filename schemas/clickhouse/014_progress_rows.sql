-- How far each partition is. Written once a second for each partition that is owned.
CREATE TABLE IF NOT EXISTS progress_rows
(
    topic LowCardinality(String),
    partition Int32,
    version UInt64,
    offset Int64,
    end_offset Int64,
    watermark DateTime64(3, 'UTC'),
    flushed_at DateTime64(3, 'UTC'),
    last_record UInt64 DEFAULT 0
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (topic, partition);
