-- Who was active, by minute, hour and day and slice.
-- Sharded by cityHash64(definition, app, bucket)
CREATE TABLE IF NOT EXISTS unique_sets
(
    definition UInt64,
    app LowCardinality(String),
    grain LowCardinality(String),
    bucket DateTime('UTC'),
    day Date,
    platform LowCardinality(String),
    app_version LowCardinality(String),
    channel LowCardinality(String),
    campaign LowCardinality(String),
    country LowCardinality(String),
    properties Map(LowCardinality(String), String),
    users AggregateFunction(uniqCombined64, UInt64)
)
ENGINE = AggregatingMergeTree
ORDER BY (definition, app, grain, bucket, day, platform, app_version, channel, campaign, country, properties);
