-- The clocks of all partitions of the topics that a definition counts: of the one that is furthest behind, and of the
-- one in front.
CREATE OR REPLACE VIEW definition_clocks AS
SELECT o.id AS definition, min(p.clock_ms) AS last_ms, max(p.clock_ms) AS first_ms
FROM (SELECT DISTINCT id, topic FROM origin_rows) AS o
INNER JOIN partition_clocks AS p ON o.topic = p.topic
GROUP BY definition;
