-- What the queries of `[[alert]] sql` answered: the past that such a rule is judged against.
CREATE TABLE IF NOT EXISTS alert_sample_rows
(
    rule String,
    slice String,
    at DateTime('UTC'),
    value Float64
)
ENGINE = ReplacingMergeTree
ORDER BY (rule, slice, at)
TTL at + toIntervalDay(36);
