-- Users who reached a step. Rows pass through; the view behind makes sets of them.
CREATE TABLE IF NOT EXISTS funnel_members
(
    definition UInt64,
    app LowCardinality(String),
    bucket DateTime('UTC'),
    day Date,
    day_bucket DateTime('UTC'),
    platform LowCardinality(String),
    app_version LowCardinality(String),
    channel LowCardinality(String),
    campaign LowCardinality(String),
    country LowCardinality(String),
    properties Map(LowCardinality(String), String),
    step UInt8,
    user UInt64
)
ENGINE = Null;
