-- Which generation of a definition is shown of an app; without a row here the first that there is. Under no app: the
-- generation that is being counted and nobody sees yet; 0: none is. One insert switches all that belong together.
CREATE TABLE IF NOT EXISTS definition_generations
(
    kind LowCardinality(String),
    name String,
    app LowCardinality(String),
    revision UInt64,
    generation UInt32
)
ENGINE = ReplacingMergeTree(revision)
ORDER BY (kind, name, app);
