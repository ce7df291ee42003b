CREATE OR REPLACE VIEW streaks
(
    app LowCardinality(String),
    streak LowCardinality(String),
    day Date COMMENT 'A local day that has ended',
    state LowCardinality(String) COMMENT 'current: in a streak, by an event or a freeze; broken: it ended because this day was missed',
    length UInt32 COMMENT 'Its days with the event',
    users UInt64 COMMENT 'Exact'
)
AS SELECT r.app AS app, d.streak AS streak, day, state, length, sum(r.users) AS users
FROM
(
    SELECT definition, origin, app, day, state, length, ends, users
    FROM streak_rows FINAL
    WHERE definition IN (SELECT id FROM shown WHERE kind = 'streak')
) AS r
INNER JOIN (SELECT id, name AS streak FROM shown WHERE kind = 'streak') AS d ON r.definition = d.id
LEFT JOIN origin_clocks AS c ON r.origin = c.origin
WHERE toInt64(toUnixTimestamp(ends)) * 1000 <= c.clock_ms
GROUP BY app, streak, day, state, length
COMMENT 'How many users had done something on how many days in a row when a day ended, and how many missed that day';
