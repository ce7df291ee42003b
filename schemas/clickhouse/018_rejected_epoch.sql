-- Records of a topic that was created again stand beside those of the earlier one. Tables of earlier releases lack it.
ALTER TABLE rejected_rows
    ADD COLUMN IF NOT EXISTS epoch UInt16,
    MODIFY ORDER BY (topic, partition, offset, epoch);
