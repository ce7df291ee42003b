-- How many users had been away for too long when a day began, and how many of those came back on it. What lies ahead is
-- written too.
-- Held as days, by begins
CREATE TABLE IF NOT EXISTS churn_rows
(
    definition UInt64,
    origin UInt64,
    app LowCardinality(String),
    version UInt64,
    deleted UInt8,
    day Date,
    state LowCardinality(String),
    begins DateTime('UTC'),
    platform LowCardinality(String),
    app_version LowCardinality(String),
    channel LowCardinality(String),
    campaign LowCardinality(String),
    country LowCardinality(String),
    properties Map(LowCardinality(String), String),
    users UInt64
)
ENGINE = ReplacingMergeTree(version, deleted)
ORDER BY (definition, app, day, state, platform, app_version, channel, campaign, country, properties, origin);
