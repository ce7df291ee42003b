-- Distinct users in windows that roll, by the rows of slices from an instant on.
CREATE OR REPLACE VIEW rolling_since AS
WITH
    latest AS
    (
        SELECT definition, origin, app, slices, dimension, value, slice, at, users
        FROM rolling_rows FINAL
        WHERE definition IN (SELECT id FROM shown WHERE kind = 'unique') AND at >= {since:DateTime('UTC')}
    ),
    -- Each partition is asked for every slice that any partition left a row for.
    asked AS
    (
        SELECT t.definition AS definition, t.app AS app, t.slices AS slices, t.dimension AS dimension, t.value AS value, t.slice AS slice, t.at AS at, o.origin AS origin
        FROM (SELECT DISTINCT definition, app, slices, dimension, value, slice, at FROM latest) AS t
        INNER JOIN (SELECT DISTINCT definition, app, slices, dimension, value, origin FROM latest) AS o
        ON t.definition = o.definition AND t.app = o.app AND t.slices = o.slices AND t.dimension = o.dimension AND t.value = o.value
    ),
    found AS
    (
        SELECT a.definition AS definition, a.app AS app, a.slices AS slices, a.dimension AS dimension, a.value AS value, a.at AS at,
            a.slice - l.slice AS fallen, l.users AS users
        FROM asked AS a
        ASOF INNER JOIN latest AS l
        ON a.definition = l.definition AND a.app = l.app AND a.slices = l.slices AND a.dimension = l.dimension AND a.value = l.value AND a.origin = l.origin AND a.slice >= l.slice
    )
SELECT f.app AS app, d.metric AS metric, w.window AS window, f.dimension AS dimension, f.value AS value, f.at AS at,
    sum(arraySum(arraySlice(f.users, 1, greatest(0, w.length - f.fallen)))) AS users
FROM found AS f
INNER JOIN rolling_windows AS w ON f.slices = w.slices
INNER JOIN (SELECT id, name AS metric FROM shown WHERE kind = 'unique') AS d ON f.definition = d.id
GROUP BY app, metric, window, dimension, value, at;
