-- The clock of the partition that each origin is of.
CREATE OR REPLACE VIEW origin_clocks AS
SELECT o.origin AS origin, max(p.clock_ms) AS clock_ms
FROM (SELECT DISTINCT origin, topic, partition FROM origin_rows) AS o
INNER JOIN partition_clocks AS p ON o.topic = p.topic AND o.partition = p.partition
GROUP BY origin;
