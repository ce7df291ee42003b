CREATE OR REPLACE VIEW records
(
    topic LowCardinality(String),
    partition Int32,
    read UInt64 COMMENT 'accepted + duplicate + late + rejected + dropped',
    accepted UInt64 COMMENT 'Counted in every number',
    duplicate UInt64 COMMENT 'The message id was accepted already, within the lateness',
    late UInt64 COMMENT 'Older than the watermark minus the lateness',
    rejected UInt64 COMMENT 'No events; see rejected_events',
    dropped UInt64 COMMENT 'A [[drop]] rule matches',
    ahead UInt64 COMMENT 'Came with a time in the future and were taken at their Kafka timestamp'
)
AS SELECT topic, partition, sum(r.read) AS read, sum(r.accepted) AS accepted, sum(r.duplicate) AS duplicate, sum(r.late) AS late, sum(r.rejected) AS rejected, sum(r.dropped) AS dropped, sum(r.ahead) AS ahead
FROM record_rows AS r FINAL
GROUP BY topic, partition
COMMENT 'Every record ends in exactly one of five';
