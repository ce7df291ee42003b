CREATE OR REPLACE VIEW origins
(
    id UInt64 COMMENT 'The definition',
    topic LowCardinality(String),
    partition Int32,
    start Int64 COMMENT 'The first offset that is counted',
    started_at DateTime64(3, 'UTC') COMMENT 'The watermark there'
)
AS SELECT id, topic, partition, start, started_at FROM origin_rows FINAL
COMMENT 'Where the counting of each definition began';
