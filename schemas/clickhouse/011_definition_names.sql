-- What a definition is called, where that is not the name it was counted under first (`was`). Under no app: of all apps.
-- '': as it was counted.
CREATE TABLE IF NOT EXISTS definition_names
(
    kind LowCardinality(String),
    name String,
    app LowCardinality(String),
    revision UInt64,
    called String
)
ENGINE = ReplacingMergeTree(revision)
ORDER BY (kind, name, app);
