-- Up to when changes of people were told to a topic.
CREATE TABLE IF NOT EXISTS published_rows
(
    topic String,
    until DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(until)
ORDER BY topic;
