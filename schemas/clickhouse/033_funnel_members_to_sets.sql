CREATE MATERIALIZED VIEW IF NOT EXISTS funnel_members_to_sets TO funnel_sets AS
SELECT definition, app, bucket, day, day_bucket, platform, app_version, channel, campaign, country, properties, step,
    uniqCombined64State(user) AS users
FROM funnel_members
GROUP BY definition, app, bucket, day, day_bucket, platform, app_version, channel, campaign, country, properties, step;
