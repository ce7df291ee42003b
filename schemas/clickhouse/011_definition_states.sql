-- Which definitions are not shown; one without a row here is.
CREATE TABLE IF NOT EXISTS definition_states
(
    id UInt64,
    revision UInt64,
    shown Bool
)
ENGINE = ReplacingMergeTree(revision)
ORDER BY id;
