CREATE OR REPLACE VIEW alerts
(
    id String COMMENT 'The same from the first message to the last',
    rule String,
    slice String COMMENT 'Empty: the whole',
    state LowCardinality(String) COMMENT 'pending, firing, resolved, acknowledged or silenced',
    severity LowCardinality(String) COMMENT 'info, warning, error or critical',
    value Nullable(Float64) COMMENT 'When it was detected',
    expected Nullable(Float64),
    low Nullable(Float64) COMMENT 'From here to high is as it should be',
    high Nullable(Float64),
    started_at DateTime64(3, 'UTC') COMMENT 'The beginning of the window that told',
    detected_at DateTime64(3, 'UTC'),
    resolved_at Nullable(DateTime64(3, 'UTC')) COMMENT 'Since when the number is back',
    evidence String COMMENT 'JSON: the window, what the expectation rests on, the slice that explains most'
)
AS SELECT id, rule, slice, state, severity, value, expected, low, high, started_at, detected_at, resolved_at, evidence
FROM alert_rows FINAL
COMMENT 'What was out of the ordinary, and what is';
