//! Kafka: the consumer group that gives each partition to one owner, producing, and a broker of one's own.

mod in_process;
mod local;
mod producer;
mod read;
mod registry;
mod source;

pub use in_process::InProcess;
pub use local::LocalKafka;
pub use producer::{Producer, create_topic};
pub use read::read_all;
pub use registry::Registry;
pub use source::{Assigner, Settings, Source, Worker};
