CREATE MATERIALIZED VIEW IF NOT EXISTS funnel_arrivals_to_sets TO funnel_sets AS
SELECT definition, app, bucket, day, day_bucket, platform, app_version, channel, campaign, country, properties, step,
    arrayReduce('uniqCombined64State', users) AS users
FROM funnel_arrivals;
