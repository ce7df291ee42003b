CREATE OR REPLACE VIEW event_counts
(
    app LowCardinality(String),
    event LowCardinality(String),
    bucket DateTime('UTC') COMMENT 'The minute',
    day Date COMMENT 'The local day',
    platform LowCardinality(String),
    app_version LowCardinality(String),
    channel LowCardinality(String),
    campaign LowCardinality(String),
    country LowCardinality(String),
    properties Map(LowCardinality(String), String) COMMENT 'The properties named in by',
    events UInt64 COMMENT 'Accepted events',
    users AggregateFunction(uniqCombined64, UInt64) COMMENT 'Who did them: uniqCombined64Merge(users)'
)
AS SELECT app, event, bucket, day, platform, app_version, channel, campaign, country, properties,
    sum(n) AS events, uniqCombined64MergeState(who) AS users
FROM
(
    SELECT app, event, bucket, day, platform, app_version, channel, campaign, country, properties,
        c.events AS n, arrayReduce('uniqCombined64State', emptyArrayUInt64()) AS who
    FROM count_rows AS c FINAL
    WHERE definition IN (SELECT id FROM shown)
    UNION ALL
    SELECT app, event, bucket, day, platform, app_version, channel, campaign, country, properties, 0 AS n, s.users AS who
    FROM count_sets AS s
    WHERE definition IN (SELECT id FROM shown)
    UNION ALL
    SELECT app, event, bucket, day, platform, app_version, channel, campaign, country, properties, 0 AS n,
        arrayReduce('uniqCombined64State', [user]) AS who
    FROM count_device_rows FINAL
    WHERE definition IN (SELECT id FROM shown)
)
GROUP BY app, event, bucket, day, platform, app_version, channel, campaign, country, properties
COMMENT 'How often each event happened and who did it, by minute and slice';
