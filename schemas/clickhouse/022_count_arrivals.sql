-- Who did an event, newly, by set. Rows pass through; the view behind makes sets of them.
-- Sharded by cityHash64(definition, app, event, bucket)
CREATE TABLE IF NOT EXISTS count_arrivals
(
    definition UInt64,
    app LowCardinality(String),
    event LowCardinality(String),
    bucket DateTime('UTC'),
    day Date,
    platform LowCardinality(String),
    app_version LowCardinality(String),
    channel LowCardinality(String),
    campaign LowCardinality(String),
    country LowCardinality(String),
    properties Map(LowCardinality(String), String),
    users Array(UInt64)
)
ENGINE = Null;
