-- How many users were new on a day (bin -1), and how many of them were activated after how long (bin b ends at 1.02^b ms).
-- Held as days, by toDateTime(day, 'UTC')
CREATE TABLE IF NOT EXISTS activation_rows
(
    definition UInt64,
    origin UInt64,
    app LowCardinality(String),
    version UInt64,
    deleted UInt8,
    day Date,
    bin Int32,
    platform LowCardinality(String),
    app_version LowCardinality(String),
    channel LowCardinality(String),
    campaign LowCardinality(String),
    country LowCardinality(String),
    properties Map(LowCardinality(String), String),
    ends_ms Int64,
    users UInt64
)
ENGINE = ReplacingMergeTree(version, deleted)
ORDER BY (definition, app, day, bin, platform, app_version, channel, campaign, country, properties, origin);
