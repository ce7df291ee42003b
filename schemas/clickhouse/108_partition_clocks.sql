-- The clock of each partition: its watermark or, once it has been read to its end, the later of that and when progress
-- was written; of a file log, now.
CREATE OR REPLACE VIEW partition_clocks AS
SELECT topic, partition,
    if(offset >= end_offset,
        greatest(toUnixTimestamp64Milli(watermark), if(startsWith(topic, 'file-'), toUnixTimestamp64Milli(now64(3)), toUnixTimestamp64Milli(flushed_at))),
        toUnixTimestamp64Milli(watermark)) AS clock_ms
FROM progress_rows FINAL;
