CREATE OR REPLACE VIEW badges
(
    app LowCardinality(String),
    badge LowCardinality(String) COMMENT 'The [[badge]]',
    day Date COMMENT 'The local day on which they got it',
    users UInt64 COMMENT 'Exact; each user once'
)
AS SELECT r.app AS app, d.badge AS badge, day, sum(r.users) AS users
FROM (SELECT definition, app, day, users FROM badge_rows FINAL WHERE definition IN (SELECT id FROM shown WHERE kind = 'badge')) AS r
INNER JOIN (SELECT id, name AS badge FROM shown WHERE kind = 'badge') AS d ON r.definition = d.id
GROUP BY app, badge, day
COMMENT 'How many users got a badge';
