-- What a channel cost on a day. Yours to fill, from wherever it is known; the row that is noted last holds.
CREATE TABLE IF NOT EXISTS costs
(
    app LowCardinality(String),
    day Date,
    channel LowCardinality(String),
    campaign LowCardinality(String) DEFAULT '',
    cost Float64,
    noted_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree(noted_at)
ORDER BY (app, day, channel, campaign);
