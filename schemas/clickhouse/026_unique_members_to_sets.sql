CREATE MATERIALIZED VIEW IF NOT EXISTS unique_members_to_sets TO unique_sets AS
SELECT definition, app, grain, bucket, day, platform, app_version, channel, campaign, country, properties,
    uniqCombined64State(user) AS users
FROM unique_members
GROUP BY definition, app, grain, bucket, day, platform, app_version, channel, campaign, country, properties;
