CREATE OR REPLACE VIEW retention
(
    app LowCardinality(String),
    retention LowCardinality(String),
    cohort Date COMMENT 'The first local day of the period in which they began',
    period UInt16 COMMENT 'From 0, the one in which they began; of a bracket the first',
    platform LowCardinality(String) COMMENT 'Of the event that made the cohort; the four behind it too',
    app_version LowCardinality(String),
    channel LowCardinality(String),
    campaign LowCardinality(String),
    country LowCardinality(String),
    properties Map(LowCardinality(String), String) COMMENT 'The properties named in by',
    users UInt64 COMMENT 'Who began then',
    returned UInt64 COMMENT 'Who of them came back in that period, bracket, or then or later: exact',
    rate Nullable(Float64) COMMENT 'returned / users',
    complete Bool COMMENT 'The clock of every partition has passed the end by the lateness'
)
AS
SELECT r.app AS app, d.retention AS retention, r.cohort AS cohort, toUInt16(r.period) AS period,
    platform, app_version, channel, campaign, country, properties,
    r.users AS users, r.returned AS returned, if(users = 0, NULL, returned / users) AS rate,
    toBool(c.last_ms >= r.ends_ms) AS complete
FROM
(
    SELECT definition, app, cohort, period, platform, app_version, channel, campaign, country, properties,
        sum(began) AS users, sum(came_back) AS returned, max(begins_ms) AS begins_ms, max(ends_ms) AS ends_ms
    FROM
    (
        SELECT definition, app, cohort, toUInt32(period) AS period, platform, app_version, channel, campaign, country, properties,
            users AS began, toUInt64(0) AS came_back, toInt64(toUnixTimestamp(begin)) * 1000 AS begins_ms, toInt64(toUnixTimestamp(end)) * 1000 + lateness_ms AS ends_ms
        FROM retention_cohort_rows FINAL
        ARRAY JOIN periods AS period, begins AS begin, ends AS end
        WHERE definition IN (SELECT id FROM shown WHERE kind = 'retention')
        UNION ALL
        SELECT definition, app, cohort, toUInt32(period) AS period, platform, app_version, channel, campaign, country, properties,
            toUInt64(0) AS began, users AS came_back, toInt64(0) AS begins_ms, toInt64(0) AS ends_ms
        FROM retention_return_rows FINAL
        WHERE definition IN (SELECT id FROM shown WHERE kind = 'retention')
    )
    GROUP BY definition, app, cohort, period, platform, app_version, channel, campaign, country, properties
) AS r
INNER JOIN (SELECT id, name AS retention FROM shown WHERE kind = 'retention') AS d ON r.definition = d.id
LEFT JOIN definition_clocks AS c ON r.definition = c.definition
WHERE r.begins_ms <= c.first_ms
COMMENT 'Of the users who began in a period, how many came back in which of those that follow: every period that has begun';
