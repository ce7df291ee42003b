//! librdkafka's in-process broker. It listens on a port of this machine and talks to librdkafka
//! clients only; its log ends with it, and it keeps about 5 MB a partition.

use anyhow::{Context, Result};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

pub struct InProcess(MockCluster<'static, DefaultProducerContext>);

impl InProcess {
    pub fn start() -> Result<InProcess> {
        Ok(InProcess(
            MockCluster::new(1).context("the in-process broker did not start")?,
        ))
    }

    pub fn brokers(&self) -> String {
        self.0.bootstrap_servers()
    }

    pub fn create_topic(&self, topic: &str, partitions: i32) -> Result<()> {
        self.0
            .create_topic(topic, partitions, 1)
            .with_context(|| format!("the in-process broker has no topic {topic}"))
    }
}
