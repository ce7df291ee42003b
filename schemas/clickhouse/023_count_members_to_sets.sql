CREATE MATERIALIZED VIEW IF NOT EXISTS count_members_to_sets TO count_sets AS
SELECT definition, app, event, bucket, day, platform, app_version, channel, campaign, country, properties,
    uniqCombined64State(user) AS users
FROM count_members
GROUP BY definition, app, event, bucket, day, platform, app_version, channel, campaign, country, properties;
