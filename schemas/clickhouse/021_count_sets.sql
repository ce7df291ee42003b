-- Who did each event, by minute and slice.
-- Sharded by cityHash64(definition, app, event, bucket)
CREATE TABLE IF NOT EXISTS count_sets
(
    definition UInt64,
    app LowCardinality(String),
    event LowCardinality(String),
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
ORDER BY (definition, app, event, bucket, day, platform, app_version, channel, campaign, country, properties);
