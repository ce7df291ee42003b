CREATE OR REPLACE VIEW progress
(
    topic LowCardinality(String),
    partition Int32,
    offset Int64 COMMENT 'All records before it are in the numbers',
    end_offset Int64 COMMENT 'The end of the log when this was written',
    watermark DateTime64(3, 'UTC') COMMENT 'The largest event time seen',
    flushed_at DateTime64(3, 'UTC') COMMENT 'When this was written'
)
AS SELECT topic, partition, offset, end_offset, watermark, flushed_at FROM progress_rows FINAL
COMMENT 'How far each partition is';
