-- How many users were in which state. Dormant users are written ahead: they are when the period has ended.
-- Held as days, by toDateTime(day, 'UTC')
CREATE TABLE IF NOT EXISTS lifecycle_rows
(
    definition UInt64,
    origin UInt64,
    app LowCardinality(String),
    version UInt64,
    deleted UInt8,
    grain LowCardinality(String),
    day Date,
    state LowCardinality(String),
    platform LowCardinality(String),
    app_version LowCardinality(String),
    channel LowCardinality(String),
    campaign LowCardinality(String),
    country LowCardinality(String),
    properties Map(LowCardinality(String), String),
    ends DateTime('UTC'),
    users UInt64
)
ENGINE = ReplacingMergeTree(version, deleted)
ORDER BY (definition, app, grain, day, state, platform, app_version, channel, campaign, country, properties, origin);
