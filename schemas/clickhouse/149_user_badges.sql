CREATE OR REPLACE VIEW user_badges
(
    app LowCardinality(String),
    badge LowCardinality(String) COMMENT 'The [[badge]]',
    user UInt64,
    day Date COMMENT 'The local day on which they got it'
)
AS SELECT r.app AS app, d.badge AS badge, user, min(r.day) AS day
FROM (SELECT definition, app, user, day FROM badge_user_rows FINAL WHERE definition IN (SELECT id FROM shown WHERE kind = 'badge')) AS r
INNER JOIN (SELECT id, name AS badge FROM shown WHERE kind = 'badge') AS d ON r.definition = d.id
GROUP BY app, badge, user
COMMENT 'Who has which badge';
