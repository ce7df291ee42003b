CREATE OR REPLACE VIEW funnel_users
(
    app LowCardinality(String),
    funnel LowCardinality(String),
    grain LowCardinality(String) COMMENT 'hour or day, in which the try began',
    bucket DateTime('UTC') COMMENT 'The instant at which the local bucket begins',
    day Date COMMENT 'The local day',
    platform LowCardinality(String),
    app_version LowCardinality(String),
    channel LowCardinality(String),
    campaign LowCardinality(String),
    country LowCardinality(String),
    properties Map(LowCardinality(String), String) COMMENT 'The properties named in by',
    step UInt8 COMMENT 'From 1',
    users AggregateFunction(uniqCombined64, UInt64) COMMENT 'Who reached that step: uniqCombined64Merge(users)'
)
AS SELECT h.app AS app, d.funnel AS funnel, grain,
    if(grain = 'hour', h.bucket, h.day_bucket) AS bucket,
    h.day AS day, platform, app_version, channel, campaign, country, properties, step, uniqCombined64MergeState(h.users) AS users
FROM funnel_hours AS h
INNER JOIN (SELECT id, name AS funnel FROM shown WHERE kind = 'funnel') AS d ON h.definition = d.id
ARRAY JOIN ['hour', 'day'] AS grain
WHERE sliced
GROUP BY app, funnel, grain, bucket, day, platform, app_version, channel, campaign, country, properties, step
COMMENT 'Who reached each step, by the hour and day in which their try began';
