CREATE OR REPLACE VIEW activation
(
    app LowCardinality(String),
    activation LowCardinality(String),
    day Date COMMENT 'The local day of the users\' first event ever',
    platform LowCardinality(String) COMMENT 'Of that event; the four behind it too',
    app_version LowCardinality(String),
    channel LowCardinality(String),
    campaign LowCardinality(String),
    country LowCardinality(String),
    properties Map(LowCardinality(String), String) COMMENT 'The properties named in by',
    users UInt64 COMMENT 'Who was new; exact',
    activated UInt64 COMMENT 'Who of them did all actions in time; exact',
    rate Nullable(Float64) COMMENT 'activated / users',
    median_seconds Nullable(Float64) COMMENT 'From the first event to the last of the actions; error at most 2 %',
    complete Bool COMMENT 'The clock of every partition has passed the end of the last user\'s time by the lateness'
)
AS
SELECT r.app AS app, d.activation AS activation, day, platform, app_version, channel, campaign, country, properties,
    sumIf(r.users, bin < 0) AS users, sumIf(r.users, bin >= 0) AS activated,
    if(users = 0, NULL, activated / users) AS rate,
    if(activated = 0, NULL, quantileExactWeightedInterpolated(0.5)(if(bin <= 0, 0, pow(1.02, toFloat64(bin) - 0.5)) / 1000, if(bin < 0, 0, r.users))) AS median_seconds,
    toBool(any(c.last_ms) >= max(ends_ms)) AS complete
FROM
(
    SELECT definition, app, day, bin, platform, app_version, channel, campaign, country, properties, ends_ms, users
    FROM activation_rows FINAL
    WHERE definition IN (SELECT id FROM shown WHERE kind = 'activation')
) AS r
INNER JOIN (SELECT id, name AS activation FROM shown WHERE kind = 'activation') AS d ON r.definition = d.id
LEFT JOIN definition_clocks AS c ON r.definition = c.definition
GROUP BY app, activation, day, platform, app_version, channel, campaign, country, properties
COMMENT 'Of the users who were new on a day, how many did what makes them stay, and how long that took';
