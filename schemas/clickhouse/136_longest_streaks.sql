CREATE OR REPLACE VIEW longest_streaks
(
    app LowCardinality(String),
    streak LowCardinality(String),
    length UInt32 COMMENT 'Days with the event',
    users UInt64 COMMENT 'Whose longest streak so far is so long; exact'
)
AS SELECT r.app AS app, d.streak AS streak, length, sum(r.users) AS users
FROM (SELECT definition, app, length, users FROM longest_streak_rows FINAL WHERE definition IN (SELECT id FROM shown WHERE kind = 'streak')) AS r
INNER JOIN (SELECT id, name AS streak FROM shown WHERE kind = 'streak') AS d ON r.definition = d.id
GROUP BY app, streak, length
COMMENT 'How many users have had a longest streak of so many days';
