CREATE OR REPLACE VIEW funnel_hours AS
SELECT definition, app, bucket, day, day_bucket, toUInt8(1) AS sliced, platform, app_version, channel, campaign, country, properties, step, users
FROM funnel_sets
WHERE definition IN (SELECT id FROM shown WHERE kind = 'funnel')
UNION ALL
SELECT definition, app, bucket, day, day_bucket, sliced, platform, app_version, channel, campaign, country, properties, toUInt8(step) AS step, uniqCombined64State(user) AS users
FROM funnel_rows FINAL
ARRAY JOIN arrayMap(bit -> bit + 1, bitPositionsToArray(steps)) AS step
WHERE definition IN (SELECT id FROM shown WHERE kind = 'funnel')
GROUP BY definition, app, bucket, day, day_bucket, sliced, platform, app_version, channel, campaign, country, properties, step;
