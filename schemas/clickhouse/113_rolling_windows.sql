CREATE OR REPLACE VIEW rolling_windows AS
SELECT tupleElement(w, 1) AS window, tupleElement(w, 2) AS slices, tupleElement(w, 3) AS length
FROM (SELECT arrayJoin([('5m', 'minute', 5), ('30m', 'minute', 30), ('1h', 'minute', 60), ('24h', 'quarter', 96), ('7d', 'day', 7), ('30d', 'day', 30)]) AS w);
