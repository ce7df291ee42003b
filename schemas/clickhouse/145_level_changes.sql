CREATE OR REPLACE VIEW level_changes
(
    app LowCardinality(String),
    level LowCardinality(String) COMMENT 'The [[level]]',
    day Date COMMENT 'The local day',
    direction LowCardinality(String) COMMENT 'up or down',
    from_level LowCardinality(String) COMMENT 'When the day before ended; \'\' none',
    to_level LowCardinality(String) COMMENT 'When the day ended, or now; \'\' none',
    users UInt64 COMMENT 'Exact'
)
AS SELECT r.app AS app, d.level AS level, day, if(to_rank > from_rank, 'up', 'down') AS direction, from_level, to_level, sum(r.users) AS users
FROM
(
    SELECT definition, origin, app, day, from_rank, to_rank, from_level, to_level, begins, users
    FROM level_rows FINAL
    WHERE definition IN (SELECT id FROM shown WHERE kind = 'level')
) AS r
INNER JOIN (SELECT id, name AS level FROM shown WHERE kind = 'level') AS d ON r.definition = d.id
LEFT JOIN origin_clocks AS c ON r.origin = c.origin
WHERE toInt64(toUnixTimestamp(begins)) * 1000 <= c.clock_ms
GROUP BY app, level, day, direction, from_level, to_level
COMMENT 'How many users went from one level to another';
