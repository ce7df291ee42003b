-- When a row was written says what is to be told to the app. Tables of earlier releases lack it.
ALTER TABLE churn_user_rows
    ADD COLUMN IF NOT EXISTS written_at DateTime64(3, 'UTC') DEFAULT now64(3);
