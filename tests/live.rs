//! Against a real Kafka and the real ClickHouse engine.
