-- What tells the record before `offset` from any other; 0: not known. Tables of earlier releases lack it.
ALTER TABLE progress_rows
    ADD COLUMN IF NOT EXISTS last_record UInt64 DEFAULT 0;
