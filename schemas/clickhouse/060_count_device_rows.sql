-- Devices that did an event and may still become somebody's, by minute and slice: one that does is deleted here, and its user is in
-- the set.
-- Sharded by cityHash64(user)
-- Held as counts, by bucket
CREATE TABLE IF NOT EXISTS count_device_rows
(
    definition UInt64,
    origin UInt64,
    app LowCardinality(String),
    version UInt64,
    deleted UInt8,
    user UInt64,
    event LowCardinality(String),
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
ORDER BY (definition, app, event, bucket, day, user, platform, app_version, channel, campaign, country, properties, origin);
