CREATE OR REPLACE VIEW definitions
(
    id UInt64 COMMENT 'Hash of kind, name, text and generation; part of the key of every row',
    kind LowCardinality(String) COMMENT 'counts, unique, session, funnel, …',
    name String COMMENT 'As it is named in the configuration now',
    text String COMMENT 'Everything the numbers depend on, as JSON',
    generation UInt32 COMMENT 'Raised where history was counted anew on purpose',
    shown Bool COMMENT 'Whether the views show it',
    app LowCardinality(String) COMMENT 'The app that it counts'
)
AS SELECT id, kind, name, text, generation, toBool(id IN (SELECT id FROM shown)) AS shown, app
FROM called
COMMENT 'What is counted, and whether it is shown';
