-- Alerts as they are now. The version is the place of the entry in the alerts' journal.
CREATE TABLE IF NOT EXISTS alert_rows
(
    id String,
    version UInt64,
    deleted UInt8,
    rule String,
    slice String,
    state LowCardinality(String),
    severity LowCardinality(String),
    value Nullable(Float64),
    expected Nullable(Float64),
    low Nullable(Float64),
    high Nullable(Float64),
    started_at DateTime64(3, 'UTC'),
    detected_at DateTime64(3, 'UTC'),
    resolved_at Nullable(DateTime64(3, 'UTC')),
    evidence String
)
ENGINE = ReplacingMergeTree(version, deleted)
ORDER BY (id);
