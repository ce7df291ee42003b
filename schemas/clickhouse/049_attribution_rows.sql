-- The credit of each channel for the goals of a day, in millionths of a goal.
-- Held as days, by toDateTime(day, 'UTC')
CREATE TABLE IF NOT EXISTS attribution_rows
(
    definition UInt64,
    origin UInt64,
    app LowCardinality(String),
    version UInt64,
    deleted UInt8,
    day Date,
    channel LowCardinality(String),
    campaign LowCardinality(String),
    model LowCardinality(String),
    credit UInt64
)
ENGINE = ReplacingMergeTree(version, deleted)
ORDER BY (definition, app, day, channel, campaign, model, origin);
