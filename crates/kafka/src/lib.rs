//! Kafka: the consumer group that gives each partition to one owner, producing, and a broker of one's own.

mod batch;
mod copy;
mod in_process;
mod journal;
mod local;
mod log;
mod look;
mod producer;
mod read;
mod registry;
mod sample;
mod silence;
mod source;
mod topics;

pub use copy::{Copied, Copy, Original};
pub use in_process::InProcess;
pub use journal::{Journal, JournalEntry, JournalWriter, Place};
pub use local::{LocalKafka, Secure, free_port};
pub use log::{LogReader, Retention};
pub use look::PartitionLog;
pub use producer::{Producer, create_topic};
pub use read::{RawRecord, read_all};
pub use registry::Registry;
pub use sample::{Held, sample};
pub use silence::is_silence;
pub use source::{Assigner, News, Settings, Source, TopicChanged, Worker};
pub use topics::TopicNow;
