-- What each user has, as of the last day on which it changed, and when how much of it will be gone.
-- Sharded by cityHash64(user)
CREATE TABLE IF NOT EXISTS point_user_rows
(
    definition UInt64,
    origin UInt64,
    app LowCardinality(String),
    version UInt64,
    deleted UInt8,
    user UInt64,
    earned UInt64,
    spent UInt64,
    balance Int64,
    gone Array(DateTime('UTC')),
    going Array(UInt64)
)
ENGINE = ReplacingMergeTree(version, deleted)
ORDER BY (definition, app, user, origin);
