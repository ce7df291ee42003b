CREATE OR REPLACE VIEW user_levels
(
    app LowCardinality(String),
    level LowCardinality(String) COMMENT 'The [[level]]',
    user UInt64,
    name LowCardinality(String) COMMENT 'The one that the user is on now',
    rank UInt8 COMMENT 'From 1, the lowest',
    since Date COMMENT 'The local day with which it began'
)
AS SELECT app, level, user, argMax(to_level, day) AS name, argMax(h.rank, day) AS rank, max(day) AS since
FROM level_history AS h
GROUP BY app, level, user
HAVING rank > 0
COMMENT 'Who is on which level now';
