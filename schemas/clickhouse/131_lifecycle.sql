CREATE OR REPLACE VIEW lifecycle
(
    app LowCardinality(String),
    lifecycle LowCardinality(String),
    grain LowCardinality(String) COMMENT 'day, week or month',
    day Date COMMENT 'The first local day',
    state LowCardinality(String) COMMENT 'new: first active ever; returning: also in the period before; resurrected: not in that one, but earlier; dormant: active in the period before and not in this one, which has ended',
    platform LowCardinality(String) COMMENT 'Of the earliest event of the last active period; the four behind it too',
    app_version LowCardinality(String),
    channel LowCardinality(String),
    campaign LowCardinality(String),
    country LowCardinality(String),
    properties Map(LowCardinality(String), String) COMMENT 'The properties named in by',
    users UInt64 COMMENT 'Exact'
)
AS
SELECT r.app AS app, d.lifecycle AS lifecycle, grain, day, state, platform, app_version, channel, campaign, country, properties,
    sum(r.users) AS users
FROM
(
    SELECT definition, origin, app, grain, day, state, platform, app_version, channel, campaign, country, properties, ends, users
    FROM lifecycle_rows FINAL
    WHERE definition IN (SELECT id FROM shown WHERE kind = 'lifecycle')
) AS r
INNER JOIN (SELECT id, name AS lifecycle FROM shown WHERE kind = 'lifecycle') AS d ON r.definition = d.id
LEFT JOIN origin_clocks AS c ON r.origin = c.origin
WHERE state != 'dormant' OR toInt64(toUnixTimestamp(ends)) * 1000 <= c.clock_ms
GROUP BY app, lifecycle, grain, day, state, platform, app_version, channel, campaign, country, properties
COMMENT 'How many users were new, returning, resurrected and dormant';
