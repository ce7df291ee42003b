-- What each user earned in all, by [[points]].
CREATE OR REPLACE VIEW earned_points AS
SELECT app, user, mapFromArrays(groupArray(points), groupArray(total)) AS earned
FROM
(
    SELECT r.app AS app, user, d.points AS points, sum(r.earned) AS total
    FROM (SELECT definition, app, user, earned FROM point_user_rows FINAL WHERE definition IN (SELECT id FROM shown WHERE kind = 'points')) AS r
    INNER JOIN (SELECT id, name AS points FROM shown WHERE kind = 'points') AS d ON r.definition = d.id
    GROUP BY app, user, points
    ORDER BY points
)
GROUP BY app, user;
