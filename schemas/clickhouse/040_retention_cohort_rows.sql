-- How many users began in each period; and of the numbers that they are followed by the first period, when it begins
-- and when the last is over.
-- Held as days, by toDateTime(cohort, 'UTC')
CREATE TABLE IF NOT EXISTS retention_cohort_rows
(
    definition UInt64,
    origin UInt64,
    app LowCardinality(String),
    version UInt64,
    deleted UInt8,
    cohort Date,
    platform LowCardinality(String),
    app_version LowCardinality(String),
    channel LowCardinality(String),
    campaign LowCardinality(String),
    country LowCardinality(String),
    properties Map(LowCardinality(String), String),
    users UInt64,
    periods Array(UInt32),
    begins Array(DateTime('UTC')),
    ends Array(DateTime('UTC')),
    lateness_ms Int64
)
ENGINE = ReplacingMergeTree(version, deleted)
ORDER BY (definition, app, cohort, platform, app_version, channel, campaign, country, properties, origin);
