"""ClickHouse counts the events by itself: materialised views for uniques and counts, queries for sessions and funnels.

Its Kafka engine cannot run inside a process (the pool of threads that it needs has size 0 there), so it reads the same
events from a file, with one thread and blocks of a size that the Kafka engine gives. That leaves out what consuming
costs: it is a lower bound.

    peer.py FILE FORMAT STEP EVENTS        prints a line of JSON a figure

Each STEP is for a process of its own, so that its memory is its own.
"""

import json
import resource
import sys
import tempfile
import time

from chdb import session

FIELDS = (
    "message_id Nullable(String), app String, event String, user_id Nullable(String), timestamp Int64, "
    "platform Nullable(String), app_version Nullable(String), channel Nullable(String), country Nullable(String)"
)
COLUMNS = (
    "app LowCardinality(String), event LowCardinality(String), user_id String, time DateTime64(3, 'UTC'), "
    "platform LowCardinality(String), channel LowCardinality(String), country LowCardinality(String), "
    "message_id String, app_version LowCardinality(String)"
)
# One thread, as the one core that every contestant has; blocks as a Kafka engine with a large poll makes them.
SETTINGS = (
    "max_threads = 1, max_insert_threads = 1, input_format_parallel_parsing = 0, max_insert_block_size = 65536, "
    "min_insert_block_size_rows = 65536, min_insert_block_size_bytes = 0, input_format_max_block_size_bytes = 0"
)
VIEWS = [
    "CREATE TABLE uniques (minute DateTime('UTC'), platform LowCardinality(String), channel LowCardinality(String), "
    "users AggregateFunction(uniqCombined64, String)) ENGINE = AggregatingMergeTree "
    "ORDER BY (minute, platform, channel)",
    "CREATE MATERIALIZED VIEW to_uniques TO uniques AS SELECT toStartOfMinute(time) AS minute, platform, channel, "
    "uniqCombined64State(user_id) AS users FROM arriving GROUP BY minute, platform, channel",
    "CREATE TABLE counts (minute DateTime('UTC'), event LowCardinality(String), platform LowCardinality(String), "
    "channel LowCardinality(String), events UInt64) ENGINE = SummingMergeTree "
    "ORDER BY (minute, event, platform, channel)",
    "CREATE MATERIALIZED VIEW to_counts TO counts AS SELECT toStartOfMinute(time) AS minute, event, platform, channel, "
    "count() AS events FROM arriving GROUP BY minute, event, platform, channel",
]
SESSIONS = """
SELECT count(), sum(seconds) FROM (
    SELECT user_id, session, dateDiff('second', min(time), max(time)) AS seconds FROM (
        SELECT user_id, time, sum(begins) OVER (PARTITION BY user_id ORDER BY time) AS session FROM (
            SELECT user_id, time, dateDiff('millisecond', lagInFrame(time, 1, toDateTime64(0, 3, 'UTC'))
                OVER (PARTITION BY user_id ORDER BY time ROWS BETWEEN 1 PRECEDING AND CURRENT ROW), time)
                > 1800000 AS begins FROM arriving
        )
    ) GROUP BY user_id, session
)"""
FUNNEL = """
SELECT level, count() FROM (
    SELECT user_id, windowFunnel(86400000)(toUInt64(toUnixTimestamp64Milli(time)),
        event = 'view', event = 'cart', event = 'checkout', event = 'buy') AS level
    FROM arriving GROUP BY user_id
) GROUP BY level ORDER BY level"""


class Watched:
    """Time and processor time from here on."""

    def __init__(self):
        self.begun, self.processor = time.monotonic(), time.process_time()

    def say(self, who, events):
        figure = {
            "who": who,
            "events": events,
            "seconds": time.monotonic() - self.begun,
            "processor_seconds": time.process_time() - self.processor,
            "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }
        print(json.dumps(figure), flush=True)


def main():
    path, form, step, events = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
    source = {"json": "JSONEachRow", "avro": "Avro"}[form]
    insert = (
        "INSERT INTO arriving SELECT app, event, assumeNotNull(user_id), fromUnixTimestamp64Milli(timestamp, 'UTC'), "
        "ifNull(platform, ''), ifNull(channel, ''), ifNull(country, ''), ifNull(message_id, ''), ifNull(app_version, '') "
        f"FROM file('{path}', '{source}', '{FIELDS}') SETTINGS {SETTINGS}"
    )
    with tempfile.TemporaryDirectory() as directory:
        engine = session.Session(directory)
        engine.query("CREATE DATABASE peer ENGINE = Atomic")
        engine.query("USE peer")
        table = "MergeTree ORDER BY (event, time)" if step == "raw" else "Null"
        engine.query(f"CREATE TABLE arriving ({COLUMNS}) ENGINE = {table}")
        if step == "views":
            for statement in VIEWS:
                engine.query(statement)
        watched = Watched()
        engine.query(insert)
        names = {
            "parse": "ClickHouse, one thread: parses the file, no table",
            "views": "ClickHouse, one thread: views for uniques and counts",
            "raw": "ClickHouse, one thread: raw events into MergeTree",
        }
        watched.say(names[step], events)
        if step == "views":
            counted = int(str(engine.query("SELECT sum(events) FROM counts", "TSV")))
            assert counted == events, f"{counted} of {events} events were counted"
        if step == "raw":
            for name, query in [("sessions", SESSIONS), ("funnel", FUNNEL)]:
                watched = Watched()
                engine.query(query + " SETTINGS max_threads = 1")
                watched.say(f"ClickHouse, one thread: {name} asked of the raw events, once", events)
        engine.close()


if __name__ == "__main__":
    main()
