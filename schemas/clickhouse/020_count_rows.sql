-- Events by name, minute and slice: the whole count, as of a version.
-- Sharded by cityHash64(definition, app, event, bucket)
CREATE TABLE IF NOT EXISTS count_rows
(
    definition UInt64,
    origin UInt64,
    app LowCardinality(String),
    version UInt64,
    deleted UInt8,
    event LowCardinality(String),
    bucket DateTime('UTC'),
    day Date,
    platform LowCardinality(String),
    app_version LowCardinality(String),
    channel LowCardinality(String),
    campaign LowCardinality(String),
    country LowCardinality(String),
    properties Map(LowCardinality(String), String),
    events UInt64
)
ENGINE = ReplacingMergeTree(version, deleted)
ORDER BY (definition, app, event, bucket, day, platform, app_version, channel, campaign, country, properties, origin);
