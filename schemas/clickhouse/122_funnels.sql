CREATE OR REPLACE VIEW funnels
(
    app LowCardinality(String),
    funnel LowCardinality(String),
    grain LowCardinality(String) COMMENT 'day, week or month',
    day Date COMMENT 'The first local day',
    step UInt8 COMMENT 'From 1',
    step_name LowCardinality(String),
    users UInt64 COMMENT 'Distinct users who reached the step in a try begun then; error at most 1 %',
    from_start Nullable(Float64) COMMENT 'Share of the users of step 1',
    from_previous Nullable(Float64) COMMENT 'Share of the users of the required step before',
    median_seconds Nullable(Float64) COMMENT 'From the step done before; error at most 2 %'
)
AS
WITH
    named AS
    (
        SELECT id, app, name AS funnel, week_start,
            JSONExtractString(text, 'definition', 'order') = 'any' AS any_order,
            JSONExtract(text, 'definition', 'steps', 'Array(Tuple(name String, optional Bool))') AS steps
        FROM shown WHERE kind = 'funnel'
    ),
    reached AS
    (
        SELECT h.definition AS definition, h.app AS app, grain,
            multiIf(grain = 'day', h.day, grain = 'month', toStartOfMonth(h.day), h.day - toIntervalDay((toDayOfWeek(h.day) + 7 - n.week_start) % 7)) AS first_day,
            h.step AS step, uniqCombined64Merge(h.users) AS users
        FROM funnel_hours AS h
        INNER JOIN named AS n ON h.definition = n.id
        ARRAY JOIN ['day', 'week', 'month'] AS grain
        GROUP BY definition, app, grain, first_day, step
    ),
    all_steps AS
    (
        SELECT r.definition AS definition, r.app AS app, r.grain AS grain, r.first_day AS first_day,
            any(n.funnel) AS funnel, any(n.any_order) AS any_order, any(n.steps) AS steps,
            mapFromArrays(groupArray(r.step), groupArray(r.users)) AS users
        FROM reached AS r
        INNER JOIN named AS n ON r.definition = n.id
        GROUP BY definition, app, grain, first_day
    ),
    times AS
    (
        SELECT t.definition AS definition, t.app AS app, grain,
            multiIf(grain = 'day', t.day, grain = 'month', toStartOfMonth(t.day), t.day - toIntervalDay((toDayOfWeek(t.day) + 7 - n.week_start) % 7)) AS first_day,
            t.step AS step,
            quantileExactWeightedInterpolated(0.5)(if(bin = 0, 0, pow(1.02, toFloat64(bin) - 0.5)) / 1000, n_users) AS median_seconds
        FROM (SELECT definition, app, day, step, bin, n_users FROM funnel_time_rows FINAL ARRAY JOIN bins AS bin, users AS n_users) AS t
        INNER JOIN named AS n ON t.definition = n.id
        ARRAY JOIN ['day', 'week', 'month'] AS grain
        GROUP BY definition, app, grain, first_day, step
    )
SELECT a.app AS app, a.funnel AS funnel, a.grain AS grain, a.first_day AS day, toUInt8(number) AS step,
    if(a.any_order, concat(toString(number), ' steps'), a.steps[number].name) AS step_name,
    a.users[toUInt8(number)] AS users,
    if(a.users[1] = 0, NULL, a.users[toUInt8(number)] / a.users[1]) AS from_start,
    if(a.users[toUInt8(previous)] = 0, NULL, a.users[toUInt8(number)] / a.users[toUInt8(previous)]) AS from_previous,
    if(t.step = 0, NULL, t.median_seconds) AS median_seconds
FROM
(
    SELECT *, arrayJoin(range(1, length(steps) + 1)) AS number,
        if(number = 1, 1, arrayLastIndex(one -> NOT one.optional, arraySlice(steps, 1, number - 1))) AS previous
    FROM all_steps
) AS a
LEFT JOIN times AS t ON a.definition = t.definition AND a.app = t.app AND a.grain = t.grain AND a.first_day = t.first_day AND toUInt8(a.number) = t.step
COMMENT 'How many users went how far, by the day, week and month in which their try began';
