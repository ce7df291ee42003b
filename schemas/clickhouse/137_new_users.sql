CREATE OR REPLACE VIEW new_users
(
    app LowCardinality(String),
    acquisition LowCardinality(String),
    grain LowCardinality(String) COMMENT 'minute, hour or day',
    bucket DateTime('UTC') COMMENT 'The instant at which the local bucket begins',
    day Date COMMENT 'The local day',
    platform LowCardinality(String) COMMENT 'Of the user\'s first event ever; the four behind it too',
    app_version LowCardinality(String),
    channel LowCardinality(String),
    campaign LowCardinality(String),
    country LowCardinality(String),
    properties Map(LowCardinality(String), String) COMMENT 'The properties named in by',
    users UInt64 COMMENT 'Whose first event in the app that was; exact'
)
AS SELECT r.app AS app, d.acquisition AS acquisition, grain,
    multiIf(grain = 'minute', r.bucket, grain = 'hour', r.hour, r.day_bucket) AS bucket, r.day AS day,
    platform, app_version, channel, campaign, country, properties, sum(r.users) AS users
FROM
(
    SELECT definition, app, bucket, hour, day_bucket, day, platform, app_version, channel, campaign, country, properties, users
    FROM new_user_rows FINAL
    WHERE definition IN (SELECT id FROM shown WHERE kind = 'acquisition')
) AS r
INNER JOIN (SELECT id, name AS acquisition FROM shown WHERE kind = 'acquisition') AS d ON r.definition = d.id
ARRAY JOIN ['minute', 'hour', 'day'] AS grain
GROUP BY app, acquisition, grain, bucket, day, platform, app_version, channel, campaign, country, properties
COMMENT 'How many users were seen for the first time ever';
