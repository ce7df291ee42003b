CREATE OR REPLACE VIEW attribution
(
    app LowCardinality(String),
    attribution LowCardinality(String),
    day Date COMMENT 'The local day of the goals',
    channel LowCardinality(String) COMMENT 'Of the touch, the app\'s own or derived; empty: no touch within look_back',
    campaign LowCardinality(String),
    first Float64 COMMENT 'Goals, each given to the first touch',
    last Float64 COMMENT 'Goals, each given to the last touch',
    linear Float64 COMMENT 'Goals, each shared equally among all touches',
    position Float64 COMMENT 'Goals, 40 % of each given to the first and to the last touch, the rest shared among those between'
)
AS SELECT r.app AS app, d.attribution AS attribution, day, channel, campaign,
    sumIf(credit, model = 'first') / 1000000 AS first, sumIf(credit, model = 'last') / 1000000 AS last,
    sumIf(credit, model = 'linear') / 1000000 AS linear, sumIf(credit, model = 'position') / 1000000 AS position
FROM (SELECT definition, app, day, channel, campaign, model, credit FROM attribution_rows FINAL WHERE definition IN (SELECT id FROM shown WHERE kind = 'attribution')) AS r
INNER JOIN (SELECT id, name AS attribution FROM shown WHERE kind = 'attribution') AS d ON r.definition = d.id
GROUP BY app, attribution, day, channel, campaign
COMMENT 'Which channels led to how many goals, by four models side by side';
