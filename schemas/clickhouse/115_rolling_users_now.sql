CREATE OR REPLACE VIEW rolling_users_now
(
    app LowCardinality(String),
    metric LowCardinality(String),
    window LowCardinality(String) COMMENT '5m, 30m, 1h, 24h, 7d or 30d',
    dimension LowCardinality(String) COMMENT 'Empty with an empty value: the total',
    value String,
    users UInt64 COMMENT 'Distinct users in the window that ends now',
    as_of DateTime('UTC') COMMENT 'The beginning of the running slice: that of now, or of the newest event where its clock is ahead'
)
AS
SELECT app, metric, window, dimension, value,
    sum(arraySum(arraySlice(users, 1, greatest(0, w.length - fallen)))) AS users, max(running_at) AS as_of
FROM
(
    SELECT app, definition, slices, dimension, value, users,
        greatest(0, multiIf(slices = 'minute', intDiv(toUnixTimestamp(now()), 60) - slice, slices = 'quarter', intDiv(toUnixTimestamp(now()), 900) - slice, toInt64(arrayCount(turn -> turn <= now(), turns)))) AS fallen,
        greatest(at, multiIf(slices = 'minute', toStartOfMinute(now('UTC')), slices = 'quarter', toStartOfFifteenMinutes(now('UTC')), arrayMax(arrayPushBack(arrayFilter(turn -> turn <= now(), turns), at)))) AS running_at
    FROM rolling_rows FINAL
    WHERE definition IN (SELECT id FROM shown WHERE kind = 'unique')
    ORDER BY slice DESC
    LIMIT 1 BY definition, app, slices, dimension, value, origin
) AS l
INNER JOIN rolling_windows AS w ON l.slices = w.slices
INNER JOIN (SELECT id, name AS metric FROM shown WHERE kind = 'unique') AS d ON l.definition = d.id
GROUP BY app, metric, window, dimension, value
COMMENT 'Distinct users in windows that end now: when nothing arrives any more they fall to zero';
