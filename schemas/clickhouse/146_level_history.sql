CREATE OR REPLACE VIEW level_history
(
    app LowCardinality(String),
    level LowCardinality(String) COMMENT 'The [[level]]',
    user UInt64,
    day Date COMMENT 'The local day with which it begins',
    from_level LowCardinality(String) COMMENT 'When the day before ended; \'\' none',
    to_level LowCardinality(String) COMMENT 'From then on, up to the user\'s next row; \'\' none',
    rank UInt8 COMMENT 'Of to_level, from 1, the lowest; 0 none'
)
AS SELECT r.app AS app, d.level AS level, user, day, from_level, to_level, to_rank AS rank
FROM
(
    SELECT definition, origin, app, user, day, from_level, to_level, to_rank, begins
    FROM level_user_rows FINAL
    WHERE definition IN (SELECT id FROM shown WHERE kind = 'level')
) AS r
INNER JOIN (SELECT id, name AS level FROM shown WHERE kind = 'level') AS d ON r.definition = d.id
LEFT JOIN origin_clocks AS c ON r.origin = c.origin
WHERE toInt64(toUnixTimestamp(begins)) * 1000 <= c.clock_ms
ORDER BY r.origin DESC
LIMIT 1 BY app, level, user, day
COMMENT 'Which user came to which level on which day';
