CREATE OR REPLACE VIEW churn
(
    app LowCardinality(String),
    churn LowCardinality(String),
    day Date COMMENT 'A local day that has begun',
    state LowCardinality(String) COMMENT 'at_risk: had been away for too long when it began; returned: was at risk, and came back on it',
    platform LowCardinality(String) COMMENT 'Of the earliest event of the last active day; the four behind it too',
    app_version LowCardinality(String),
    channel LowCardinality(String),
    campaign LowCardinality(String),
    country LowCardinality(String),
    properties Map(LowCardinality(String), String) COMMENT 'The properties named in by',
    users UInt64 COMMENT 'Exact'
)
AS SELECT r.app AS app, d.churn AS churn, day, state, platform, app_version, channel, campaign, country, properties, sum(r.users) AS users
FROM
(
    SELECT definition, origin, app, day, state, begins, platform, app_version, channel, campaign, country, properties, users
    FROM churn_rows FINAL
    WHERE definition IN (SELECT id FROM shown WHERE kind = 'churn')
) AS r
INNER JOIN (SELECT id, name AS churn FROM shown WHERE kind = 'churn') AS d ON r.definition = d.id
LEFT JOIN origin_clocks AS c ON r.origin = c.origin
WHERE toInt64(toUnixTimestamp(begins)) * 1000 <= c.clock_ms
GROUP BY app, churn, day, state, platform, app_version, channel, campaign, country, properties
COMMENT 'How many users came to be away for too long, and how many of those came back, by day';
