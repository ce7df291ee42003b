CREATE OR REPLACE VIEW events
(
    topic LowCardinality(String),
    partition Int32,
    offset Int64,
    app LowCardinality(String),
    event LowCardinality(String),
    time DateTime64(3, 'UTC') COMMENT 'The time of the event',
    user UInt64 COMMENT 'As in all views; cambium user gives the number of an id',
    user_id String COMMENT 'As it came, where raw_ids is on',
    anonymous_id String COMMENT 'As it came, where raw_ids is on',
    message_id String,
    client_session_id String COMMENT 'The session_id that the event carried',
    platform LowCardinality(String),
    app_version LowCardinality(String),
    channel LowCardinality(String),
    campaign LowCardinality(String),
    country LowCardinality(String),
    properties Map(LowCardinality(String), String) COMMENT 'All of them, nested ones by their paths'
)
AS SELECT topic, partition, offset, app, event, time, user, user_id, anonymous_id, message_id, client_session_id, platform, app_version, channel, campaign, country, properties
FROM event_rows FINAL
COMMENT 'The accepted events themselves, one row a record, where [events_table] is on';
