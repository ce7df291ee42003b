-- Who reached a step, newly, by set. Rows pass through; the view behind makes sets of them.
-- Sharded by cityHash64(definition, app, bucket)
CREATE TABLE IF NOT EXISTS funnel_arrivals
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
    users Array(UInt64)
)
ENGINE = Null;
