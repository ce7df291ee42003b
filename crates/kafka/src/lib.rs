//! Kafka: the consumer group that gives each partition to one owner, producing, and a broker of one's own.

mod local;
mod producer;
mod source;

pub use local::LocalKafka;
pub use producer::{Producer, create_topic};
pub use rdkafka::mocking::MockCluster;
pub use source::{Assigner, Settings, Source, Worker};
