CREATE OR REPLACE VIEW links
(
    app LowCardinality(String),
    devices UInt64 COMMENT 'That came to belong to a user, by an event that names both',
    links_too_late UInt64 COMMENT 'Of these, devices that had done something longer before than link_within: it stays their own'
)
AS SELECT app, sum(r.devices) AS devices, sum(r.links_too_late) AS links_too_late
FROM link_rows AS r FINAL
WHERE definition IN (SELECT id FROM shown WHERE kind = 'identity')
GROUP BY app
COMMENT 'Devices and the users whom they belong to, where [identity] is on';
