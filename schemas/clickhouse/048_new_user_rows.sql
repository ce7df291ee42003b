-- How many users were seen for the first time ever, by minute.
-- Held as days, by bucket
CREATE TABLE IF NOT EXISTS new_user_rows
(
    definition UInt64,
    origin UInt64,
    app LowCardinality(String),
    version UInt64,
    deleted UInt8,
    bucket DateTime('UTC'),
    hour DateTime('UTC'),
    day_bucket DateTime('UTC'),
    day Date,
    platform LowCardinality(String),
    app_version LowCardinality(String),
    channel LowCardinality(String),
    campaign LowCardinality(String),
    country LowCardinality(String),
    properties Map(LowCardinality(String), String),
    users UInt64
)
ENGINE = ReplacingMergeTree(version, deleted)
ORDER BY (definition, app, day, bucket, platform, app_version, channel, campaign, country, properties, origin);
