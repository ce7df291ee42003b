-- What each user's tries of an hour reached (bit n - 1: step n), for funnels in which a late event
-- can undo that. Rows with sliced = 0 are tries that belong to no slice.
-- Sharded by cityHash64(user)
CREATE TABLE IF NOT EXISTS funnel_rows
(
    definition UInt64,
    origin UInt64,
    app LowCardinality(String),
    version UInt64,
    deleted UInt8,
    user UInt64,
    bucket DateTime('UTC'),
    day Date,
    day_bucket DateTime('UTC'),
    sliced UInt8,
    platform LowCardinality(String),
    app_version LowCardinality(String),
    channel LowCardinality(String),
    campaign LowCardinality(String),
    country LowCardinality(String),
    properties Map(LowCardinality(String), String),
    steps UInt32
)
ENGINE = ReplacingMergeTree(version, deleted)
ORDER BY (definition, app, day, bucket, user, sliced, platform, app_version, channel, campaign, country, properties, origin);
