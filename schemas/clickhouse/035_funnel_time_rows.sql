-- How long a step took since the one before: users by bin, bin n ending at 1.02^n ms.
-- Sharded by cityHash64(definition, app, day)
CREATE TABLE IF NOT EXISTS funnel_time_rows
(
    definition UInt64,
    origin UInt64,
    app LowCardinality(String),
    version UInt64,
    deleted UInt8,
    day Date,
    step UInt8,
    bins Array(UInt32),
    users Array(UInt64)
)
ENGINE = ReplacingMergeTree(version, deleted)
ORDER BY (definition, app, day, step, origin);
