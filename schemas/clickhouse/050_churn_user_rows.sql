-- When each user was active last, and the day that begins when they will have been away for too long.
-- Sharded by cityHash64(user)
-- Held as days, by begins
CREATE TABLE IF NOT EXISTS churn_user_rows
(
    definition UInt64,
    origin UInt64,
    app LowCardinality(String),
    version UInt64,
    deleted UInt8,
    user UInt64,
    last_day Date,
    usual_half_days UInt32,
    at_risk Date,
    begins DateTime('UTC'),
    platform LowCardinality(String),
    app_version LowCardinality(String),
    channel LowCardinality(String),
    campaign LowCardinality(String),
    country LowCardinality(String),
    properties Map(LowCardinality(String), String),
    written_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree(version, deleted)
ORDER BY (definition, app, user, origin);
