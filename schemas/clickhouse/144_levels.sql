CREATE OR REPLACE VIEW levels
(
    app LowCardinality(String),
    level LowCardinality(String) COMMENT 'The [[level]]',
    day Date COMMENT 'A local day that has begun',
    rank UInt8 COMMENT 'From 1, the lowest',
    name LowCardinality(String) COMMENT 'One of its levels',
    users UInt64 COMMENT 'Who were on it when the day ended, or are now; exact'
)
AS SELECT app, level, on_day.1 AS day, rank, name, toUInt64(on_day.2) AS users
FROM
(
    SELECT app, level, rank, name, sumMap(map(changed_on, change)) AS changes,
        arrayMap(n -> any(first) + n, range(toUInt32(any(last) - any(first)) + 1)) AS days,
        arrayJoin(arrayZip(days, arrayCumSum(arrayMap(one -> changes[one], days)))) AS on_day
    FROM
    (
        SELECT r.app AS app, d.level AS level, r.day AS changed_on, side.1 AS rank, side.2 AS name, side.3 * toInt64(r.users) AS change,
            min(r.day) OVER (PARTITION BY r.app, d.level) AS first,
            max(toDate(toTimeZone(fromUnixTimestamp64Milli(c.clock_ms), d.zone))) OVER (PARTITION BY r.app, d.level) AS last
        FROM
        (
            SELECT definition, origin, app, day, from_rank, to_rank, from_level, to_level, begins, users
            FROM level_rows FINAL
            WHERE definition IN (SELECT id FROM shown WHERE kind = 'level')
        ) AS r
        INNER JOIN (SELECT id, name AS level, zone FROM shown WHERE kind = 'level') AS d ON r.definition = d.id
        LEFT JOIN origin_clocks AS c ON r.origin = c.origin
        ARRAY JOIN [(r.from_rank, r.from_level, -1), (r.to_rank, r.to_level, 1)] AS side
        WHERE toInt64(toUnixTimestamp(begins)) * 1000 <= c.clock_ms
    )
    WHERE rank > 0
    GROUP BY app, level, rank, name
)
SETTINGS allow_nonconst_timezone_arguments = 1
COMMENT 'How many users were on which level, day by day';
