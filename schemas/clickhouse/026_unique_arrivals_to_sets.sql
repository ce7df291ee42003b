CREATE MATERIALIZED VIEW IF NOT EXISTS unique_arrivals_to_sets TO unique_sets AS
SELECT definition, app, grain, bucket, day, platform, app_version, channel, campaign, country, properties,
    arrayReduce('uniqCombined64State', users) AS users
FROM unique_arrivals;
