-- How many devices came to belong to users.
CREATE TABLE IF NOT EXISTS link_rows
(
    definition UInt64,
    origin UInt64,
    app LowCardinality(String),
    version UInt64,
    deleted UInt8,
    devices UInt64,
    links_too_late UInt64
)
ENGINE = ReplacingMergeTree(version, deleted)
ORDER BY (definition, app, origin);
