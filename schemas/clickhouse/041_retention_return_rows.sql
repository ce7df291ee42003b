-- How many users of a cohort came back.
-- Held as days, by toDateTime(cohort, 'UTC')
CREATE TABLE IF NOT EXISTS retention_return_rows
(
    definition UInt64,
    origin UInt64,
    app LowCardinality(String),
    version UInt64,
    deleted UInt8,
    cohort Date,
    period UInt16,
    platform LowCardinality(String),
    app_version LowCardinality(String),
    channel LowCardinality(String),
    campaign LowCardinality(String),
    country LowCardinality(String),
    properties Map(LowCardinality(String), String),
    users UInt64
)
ENGINE = ReplacingMergeTree(version, deleted)
ORDER BY (definition, app, cohort, period, platform, app_version, channel, campaign, country, properties, origin);
