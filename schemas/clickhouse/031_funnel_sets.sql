-- Who reached each step, by the hour that their try began in.
-- Sharded by cityHash64(definition, app, bucket)
CREATE TABLE IF NOT EXISTS funnel_sets
(
    definition UInt64,
    app LowCardinality(String),
    bucket DateTime('UTC'),
    day Date,
    day_bucket DateTime('UTC'),
    platform LowCardinality(String),
    app_version LowCardinality(String),
    channel LowCardinality(String),
    campaign LowCardinality(String),
    country LowCardinality(String),
    properties Map(LowCardinality(String), String),
    step UInt8,
    users AggregateFunction(uniqCombined64, UInt64)
)
ENGINE = AggregatingMergeTree
ORDER BY (definition, app, bucket, step, day, day_bucket, platform, app_version, channel, campaign, country, properties);
