CREATE OR REPLACE VIEW channel_costs
(
    app LowCardinality(String),
    day Date COMMENT 'The local day',
    channel LowCardinality(String),
    cost Float64 COMMENT 'Of all campaigns, from the table costs',
    acquisition LowCardinality(String) COMMENT 'The [[acquisition]] whose users they are; its by names the channel',
    users UInt64 COMMENT 'Who was new on that day by that channel',
    per_user Nullable(Float64) COMMENT 'cost / users',
    activation LowCardinality(String) COMMENT 'The [[activation]] of those who were activated, where its by names the channel; or empty',
    activated UInt64 COMMENT 'Who of the new ones of that day was activated since',
    per_activated_user Nullable(Float64) COMMENT 'cost / activated'
)
AS SELECT c.app AS app, c.day AS day, c.channel AS channel, c.cost AS cost, n.acquisition AS acquisition, n.users AS users,
    if(users = 0, NULL, cost / users) AS per_user, a.activation AS activation, a.activated AS activated,
    if(activated = 0, NULL, cost / activated) AS per_activated_user
FROM (SELECT app, day, channel, sum(cost) AS cost FROM costs FINAL GROUP BY app, day, channel) AS c
LEFT JOIN (SELECT app, acquisition, day, channel, sum(users) AS users FROM new_users WHERE grain = 'day' GROUP BY app, acquisition, day, channel) AS n
    ON c.app = n.app AND c.day = n.day AND c.channel = n.channel
LEFT JOIN (SELECT app, activation, day, channel, sum(activated) AS activated FROM activation GROUP BY app, activation, day, channel) AS a
    ON c.app = a.app AND c.day = a.day AND c.channel = a.channel
COMMENT 'What a new user and an activated one cost, by channel and day';
