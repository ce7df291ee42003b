CREATE OR REPLACE VIEW sessions
(
    app LowCardinality(String),
    user UInt64,
    session_id UInt64 COMMENT 'Hash of app, user and started_at',
    started_at DateTime64(3, 'UTC'),
    ended_at DateTime64(3, 'UTC') COMMENT 'The time of the last event',
    day Date COMMENT 'The local day on which it began',
    seconds Float64 COMMENT 'From the first event to the last',
    events UInt64,
    pages UInt64 COMMENT '0 where no pages are configured',
    entry String COMMENT 'The first page',
    exit String COMMENT 'The last page',
    bounced Bool COMMENT 'At most one page, or one event where no pages are configured',
    is_open Bool COMMENT 'The clock of its partition has not passed its end by the gap',
    platform LowCardinality(String) COMMENT 'As the earliest event has it that has one; the four behind it too',
    app_version LowCardinality(String),
    channel LowCardinality(String),
    campaign LowCardinality(String),
    country LowCardinality(String),
    properties Map(LowCardinality(String), String) COMMENT 'Empty'
)
AS SELECT s.app AS app, user, session_id, started_at, ended_at, day,
    toFloat64(toUnixTimestamp64Milli(ended_at) - toUnixTimestamp64Milli(started_at)) / 1000 AS seconds,
    events, pages, entry, exit, toBool(s.bounced) AS bounced,
    toBool(toUnixTimestamp64Milli(ended_at) + gap_ms >= c.clock_ms) AS is_open,
    platform, app_version, channel, campaign, country, CAST(map(), 'Map(LowCardinality(String), String)') AS properties
FROM session_rows AS s FINAL
LEFT JOIN origin_clocks AS c ON s.origin = c.origin
WHERE definition IN (SELECT id FROM shown WHERE kind = 'session')
COMMENT 'What users did in an app without a longer pause';
