CREATE OR REPLACE VIEW gaps
(
    topic LowCardinality(String),
    partition Int32,
    from_offset Int64,
    to_offset Int64 COMMENT 'Exclusive',
    reason String,
    at DateTime64(3, 'UTC')
)
AS SELECT topic, partition, from_offset, to_offset, reason, at FROM gap_rows FINAL
COMMENT 'Records that are possibly missing from some numbers';
