CREATE OR REPLACE VIEW point_balances
(
    app LowCardinality(String),
    points LowCardinality(String) COMMENT 'The [[points]]',
    user UInt64,
    earned UInt64 COMMENT 'In all',
    spent UInt64 COMMENT 'In all',
    expired UInt64 COMMENT 'In all, up to now',
    balance Int64 COMMENT 'earned - spent - expired; below zero where more was spent than was there',
    expires_next Nullable(DateTime('UTC')) COMMENT 'When the next of them will be gone'
)
AS SELECT r.app AS app, d.points AS points, user, sum(r.earned) AS earned, sum(r.spent) AS spent,
    toUInt64(toInt64(earned) - toInt64(spent) - balance) AS expired,
    sum(r.balance - toInt64(arraySum(arrayMap((at, left) -> if(toInt64(toUnixTimestamp(at)) * 1000 <= c.clock_ms, left, 0), gone, going)))) AS balance,
    min(arrayFirstOrNull(at -> toInt64(toUnixTimestamp(at)) * 1000 > c.clock_ms, gone)) AS expires_next
FROM
(
    SELECT definition, origin, app, user, earned, spent, balance, gone, going
    FROM point_user_rows FINAL
    WHERE definition IN (SELECT id FROM shown WHERE kind = 'points')
) AS r
INNER JOIN (SELECT id, name AS points FROM shown WHERE kind = 'points') AS d ON r.definition = d.id
LEFT JOIN origin_clocks AS c ON r.origin = c.origin
GROUP BY app, points, user
COMMENT 'What each user has: a function of their events, and of the days that have passed';
