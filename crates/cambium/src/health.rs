//! What a process that counts lacks: what its `/readyz` says.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use cambium_clickhouse::WriterStatus;
use cambium_kafka::News;
use cambium_snapshots::Store;

#[derive(Default)]
pub struct Health {
    /// Once ClickHouse is there.
    opened: OnceLock<(Arc<WriterStatus>, Store)>,
    has_partitions: AtomicBool,
    broker_is_silent: AtomicBool,
    topic_is_gone: AtomicBool,
    /// Partitions that wait for a schema registry.
    waiting_for_registry: Arc<AtomicUsize>,
    /// More than one while a partition starts again.
    first_partitions: Arc<AtomicUsize>,
}

impl Health {
    /// What is missing; none: all is well.
    pub fn missing(&self) -> Option<&'static str> {
        let Some((writer, store)) = self.opened.get() else {
            return Some("ClickHouse is waited for");
        };
        let all = [
            (writer.is_failing(), "ClickHouse does not take rows"),
            (
                self.broker_is_silent.load(Ordering::Relaxed),
                "Kafka does not answer",
            ),
            (
                self.topic_is_gone.load(Ordering::Relaxed),
                "a topic does not exist any more",
            ),
            (
                self.waiting_for_registry.load(Ordering::Relaxed) > 0,
                "the schema registry does not answer, and reading waits",
            ),
            (
                store.is_failing(),
                "snapshots cannot be written: a crash would cost a long replay",
            ),
            (
                !self.has_partitions.load(Ordering::Relaxed),
                "no partition is assigned yet",
            ),
        ];
        all.into_iter().find_map(|(is_so, said)| is_so.then_some(said))
    }

    pub fn watches(&self, writer: Arc<WriterStatus>, store: Store) {
        let _ = self.opened.set((writer, store));
    }

    pub fn has_partitions(&self) {
        self.has_partitions.store(true, Ordering::Relaxed);
    }

    pub fn hears(&self, news: News) {
        let is = |what| news == what;
        self.broker_is_silent
            .store(is(News::NoBrokerAnswers), Ordering::Relaxed);
        self.topic_is_gone.store(is(News::TopicIsGone), Ordering::Relaxed);
    }

    /// For as long as what it gives lives.
    pub fn waits_for_registry(&self) -> Counted {
        Counted::among(&self.waiting_for_registry)
    }

    /// For as long as what it gives lives: the partition that one process has, of all, is here.
    pub fn has_first_partition(&self) -> Counted {
        Counted::among(&self.first_partitions)
    }

    /// Whether this process does what one of all does.
    pub fn is_first(&self) -> bool {
        self.first_partitions.load(Ordering::Relaxed) > 0
    }
}

/// One that counts for as long as it lives.
pub struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn among(all: &Arc<AtomicUsize>) -> Counted {
        all.fetch_add(1, Ordering::Relaxed);
        Counted(all.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
