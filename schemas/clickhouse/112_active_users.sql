CREATE OR REPLACE VIEW active_users
(
    app LowCardinality(String),
    metric LowCardinality(String),
    grain LowCardinality(String) COMMENT 'day, week or month',
    day Date COMMENT 'The first local day',
    users UInt64 COMMENT 'Distinct users; error at most 1 %'
)
AS SELECT app, metric, grain,
    multiIf(grain = 'day', s.day, grain = 'month', toStartOfMonth(s.day), s.day - toIntervalDay((toDayOfWeek(s.day) + 7 - week_start) % 7)) AS day,
    uniqCombined64Merge(s.users) AS users
FROM
(
    SELECT app, definition, day, users FROM unique_sets
    WHERE grain = 'day' AND definition IN (SELECT id FROM shown WHERE kind = 'unique')
    UNION ALL
    SELECT app, definition, day, arrayReduce('uniqCombined64State', [user]) AS users FROM unique_device_rows FINAL
    WHERE grain = 'day' AND definition IN (SELECT id FROM shown WHERE kind = 'unique')
) AS s
INNER JOIN (SELECT id, name AS metric, week_start FROM shown WHERE kind = 'unique') AS d ON s.definition = d.id
ARRAY JOIN ['day', 'week', 'month'] AS grain
GROUP BY app, metric, grain, day
COMMENT 'Distinct users by local day, week and month';
