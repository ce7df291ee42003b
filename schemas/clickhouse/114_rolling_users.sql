CREATE OR REPLACE VIEW rolling_users
(
    app LowCardinality(String),
    metric LowCardinality(String),
    window LowCardinality(String) COMMENT '5m, 30m, 1h, 24h, 7d or 30d: that many slices, the running one included',
    dimension LowCardinality(String) COMMENT 'Empty with an empty value: the total',
    value String,
    at DateTime('UTC') COMMENT 'The beginning of the running slice',
    users UInt64 COMMENT 'Distinct users in the window that ends with the running slice'
)
AS SELECT app, metric, window, dimension, value, at, users FROM rolling_since(since = toDateTime(0, 'UTC'))
COMMENT 'Distinct users in windows that roll, as of each slice that anything happened in';
