-- Users who were active. Rows pass through; the view behind makes sets of them.
CREATE TABLE IF NOT EXISTS unique_members
(
    definition UInt64,
    app LowCardinality(String),
    grain LowCardinality(String),
    bucket DateTime('UTC'),
    day Date,
    platform LowCardinality(String),
    app_version LowCardinality(String),
    channel LowCardinality(String),
    campaign LowCardinality(String),
    country LowCardinality(String),
    properties Map(LowCardinality(String), String),
    user UInt64
)
ENGINE = Null;
