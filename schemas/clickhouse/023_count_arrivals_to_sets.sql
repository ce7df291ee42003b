CREATE MATERIALIZED VIEW IF NOT EXISTS count_arrivals_to_sets TO count_sets AS
SELECT definition, app, event, bucket, day, platform, app_version, channel, campaign, country, properties,
    arrayReduce('uniqCombined64State', users) AS users
FROM count_arrivals;
