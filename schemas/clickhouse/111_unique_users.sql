CREATE OR REPLACE VIEW unique_users
(
    app LowCardinality(String),
    metric LowCardinality(String) COMMENT 'A [[unique]]; active is any event',
    grain LowCardinality(String) COMMENT 'minute, hour or day',
    bucket DateTime('UTC') COMMENT 'The instant at which the local bucket begins',
    day Date COMMENT 'The local day',
    platform LowCardinality(String),
    app_version LowCardinality(String),
    channel LowCardinality(String),
    campaign LowCardinality(String),
    country LowCardinality(String),
    properties Map(LowCardinality(String), String) COMMENT 'The properties named in by',
    users AggregateFunction(uniqCombined64, UInt64) COMMENT 'uniqCombined64Merge(users) over any slices and buckets of one grain'
)
AS SELECT app, metric, grain, bucket, day, platform, app_version, channel, campaign, country, properties, uniqCombined64MergeState(s.users) AS users
FROM
(
    SELECT definition, app, grain, bucket, day, platform, app_version, channel, campaign, country, properties, users
    FROM unique_sets
    WHERE definition IN (SELECT id FROM shown WHERE kind = 'unique')
    UNION ALL
    SELECT definition, app, grain, bucket, day, platform, app_version, channel, campaign, country, properties,
        arrayReduce('uniqCombined64State', [user]) AS users
    FROM unique_device_rows FINAL
    WHERE definition IN (SELECT id FROM shown WHERE kind = 'unique')
) AS s
INNER JOIN (SELECT id, name AS metric FROM shown WHERE kind = 'unique') AS d ON s.definition = d.id
GROUP BY app, metric, grain, bucket, day, platform, app_version, channel, campaign, country, properties
COMMENT 'Distinct users with at least one event that the metric names';
