CREATE OR REPLACE VIEW churn_risk
(
    app LowCardinality(String),
    churn LowCardinality(String),
    user UInt64,
    last_day Date COMMENT 'The last local day on which they were active',
    usual_days Nullable(Float64) COMMENT 'The median of their last 15 pauses from one active day to the next',
    since Date COMMENT 'The local day that began when they had been away for too long',
    platform LowCardinality(String) COMMENT 'Of the earliest event of the last active day; the four behind it too',
    app_version LowCardinality(String),
    channel LowCardinality(String),
    campaign LowCardinality(String),
    country LowCardinality(String),
    properties Map(LowCardinality(String), String) COMMENT 'The properties named in by',
    earned Map(LowCardinality(String), UInt64) COMMENT 'What they are worth: of each [[points]] what they earned in all'
)
AS SELECT r.app AS app, d.churn AS churn, r.user AS user, last_day, if(usual_half_days = 0, NULL, usual_half_days / 2) AS usual_days, at_risk AS since,
    platform, app_version, channel, campaign, country, properties, e.earned AS earned
FROM
(
    SELECT definition, origin, app, user, last_day, usual_half_days, at_risk, begins, platform, app_version, channel, campaign, country, properties
    FROM churn_user_rows FINAL
    WHERE definition IN (SELECT id FROM shown WHERE kind = 'churn')
) AS r
INNER JOIN (SELECT id, name AS churn FROM shown WHERE kind = 'churn') AS d ON r.definition = d.id
LEFT JOIN origin_clocks AS c ON r.origin = c.origin
LEFT JOIN earned_points AS e ON r.app = e.app AND r.user = e.user
WHERE toInt64(toUnixTimestamp(begins)) * 1000 <= c.clock_ms
ORDER BY last_day DESC
LIMIT 1 BY app, churn, user
COMMENT 'Who has been away for too long now: who comes back leaves it';
