-- Devices that were active and may still become somebody's, by minute, hour and day and slice: one that does is deleted here, and its
-- user is in the set.
-- Sharded by cityHash64(user)
CREATE TABLE IF NOT EXISTS unique_device_rows
(
    definition UInt64,
    origin UInt64,
    app LowCardinality(String),
    version UInt64,
    deleted UInt8,
    user UInt64,
    grain LowCardinality(String),
    bucket DateTime('UTC'),
    day Date,
    platform LowCardinality(String),
    app_version LowCardinality(String),
    channel LowCardinality(String),
    campaign LowCardinality(String),
    country LowCardinality(String),
    properties Map(LowCardinality(String), String)
)
ENGINE = ReplacingMergeTree(version, deleted)
ORDER BY (definition, app, grain, bucket, day, user, platform, app_version, channel, campaign, country, properties, origin);
