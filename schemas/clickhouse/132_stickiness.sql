CREATE OR REPLACE VIEW stickiness
(
    app LowCardinality(String),
    stickiness LowCardinality(String),
    grain LowCardinality(String) COMMENT 'week or month',
    day Date COMMENT 'The first local day',
    active UInt8 COMMENT 'On how many local days of it',
    users UInt64 COMMENT 'Who was active on exactly so many; exact'
)
AS SELECT r.app AS app, d.stickiness AS stickiness, grain, day, active, sum(r.users) AS users
FROM (SELECT definition, app, grain, day, active, users FROM stickiness_rows FINAL WHERE definition IN (SELECT id FROM shown WHERE kind = 'stickiness')) AS r
INNER JOIN (SELECT id, name AS stickiness FROM shown WHERE kind = 'stickiness') AS d ON r.definition = d.id
GROUP BY app, stickiness, grain, day, active
COMMENT 'How many users were active on how many days of a week or month';
