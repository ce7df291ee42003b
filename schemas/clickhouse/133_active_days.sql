CREATE OR REPLACE VIEW active_days
(
    app LowCardinality(String),
    metric LowCardinality(String) COMMENT 'The [[unique]] that a [[stickiness]] is of',
    user UInt64,
    month Date COMMENT 'Its first day',
    days UInt32 COMMENT 'Bit d - 1: active on the local day d; bitCount(days) is on how many'
)
AS SELECT r.app AS app, if(u.name = '', d.of, u.name) AS metric, r.user AS user, r.month AS month, groupBitOr(r.days) AS days
FROM (SELECT definition, app, user, month, days FROM active_day_rows FINAL WHERE definition IN (SELECT id FROM shown WHERE kind = 'stickiness')) AS r
INNER JOIN (SELECT id, app, JSONExtractString(text, 'definition', 'of') AS of FROM shown WHERE kind = 'stickiness') AS d ON r.definition = d.id
LEFT JOIN (SELECT app, first_name, any(name) AS name FROM shown WHERE kind = 'unique' GROUP BY app, first_name) AS u ON d.app = u.app AND d.of = u.first_name
GROUP BY app, metric, user, month
COMMENT 'On which local days of a month each user was active: stickiness over any range, exact';
