-- How many records of a partition ended how, up to a version.
CREATE TABLE IF NOT EXISTS record_rows
(
    topic LowCardinality(String),
    partition Int32,
    origin UInt64,
    version UInt64,
    read UInt64,
    accepted UInt64,
    duplicate UInt64,
    late UInt64,
    rejected UInt64,
    dropped UInt64,
    ahead UInt64
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (topic, partition, origin);
