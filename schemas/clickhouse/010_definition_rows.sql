-- Every definition that ever counted an app. An id never changes its meaning, so rows are equal.
CREATE TABLE IF NOT EXISTS definition_rows
(
    id UInt64,
    kind LowCardinality(String),
    name String,
    app LowCardinality(String),
    text String,
    generation UInt32,
    zone LowCardinality(String),
    week_start UInt8
)
ENGINE = ReplacingMergeTree
ORDER BY id;
