CREATE OR REPLACE VIEW points
(
    app LowCardinality(String),
    points LowCardinality(String) COMMENT 'The [[points]]',
    day Date COMMENT 'The local day',
    kind LowCardinality(String) COMMENT 'earned, spent, or expired: gone when this day began',
    rule LowCardinality(String) COMMENT 'The rule by which they were earned or spent; of what expired \'\'',
    amount UInt64 COMMENT 'Points; exact',
    users UInt64 COMMENT 'Whose they were; exact for a row, and not to be added up over days or rules'
)
AS SELECT r.app AS app, d.points AS points, day, kind, rule, sumIf(r.amount, measure = 'points') AS amount, sumIf(r.amount, measure = 'users') AS users
FROM
(
    SELECT definition, origin, app, day, kind, rule, measure, begins, amount
    FROM point_rows FINAL
    WHERE definition IN (SELECT id FROM shown WHERE kind = 'points')
) AS r
INNER JOIN (SELECT id, name AS points FROM shown WHERE kind = 'points') AS d ON r.definition = d.id
LEFT JOIN origin_clocks AS c ON r.origin = c.origin
WHERE r.kind != 'expired' OR toInt64(toUnixTimestamp(begins)) * 1000 <= c.clock_ms
GROUP BY app, points, day, kind, rule
COMMENT 'How many points users earned and spent, and how many expired';
