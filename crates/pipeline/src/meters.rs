//! What a partition tells about itself. Names and units are documented in README.md.

use cambium_engine::{Account, List, Partition};
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

pub(crate) struct Meters {
    accepted: Counter,
    duplicate: Counter,
    late: Counter,
    rejected: Counter,
    dropped: Counter,
    ahead: Counter,
    overflow: Counter,
    pub offset: Gauge,
    pub acknowledged: Gauge,
    pub end: Gauge,
    pub lag: Gauge,
    /// Up to where the newest snapshot goes, and for how long something behind it has been in none.
    pub snapshot: Gauge,
    pub uncovered: Gauge,
    pub watermark: Gauge,
    pub users: Gauge,
    pub waiting: Gauge,
    /// From a flush to ClickHouse's acknowledgement: of what is flushed each second, and of what users owe.
    pub flush: Histogram,
    pub settle: Histogram,
    pub pause: Histogram,
    pub publish: Histogram,
    /// What was counted already.
    counted: Account,
    overflown: u64,
}

impl Meters {
    pub fn new<L: List>(partition: &Partition<L>) -> Meters {
        let topic = partition.topic();
        let labels = [
            ("topic", topic.name.clone()),
            ("partition", topic.partition.to_string()),
        ];
        let outcome = |outcome: &'static str| {
            let [topic, partition] = labels.clone();
            counter!(
                "cambium_records_total",
                &[topic, partition, ("outcome", outcome.to_owned())]
            )
        };
        Meters {
            accepted: outcome("accepted"),
            duplicate: outcome("duplicate"),
            late: outcome("late"),
            rejected: outcome("rejected"),
            dropped: outcome("dropped"),
            ahead: counter!("cambium_records_ahead_total", &labels),
            overflow: counter!("cambium_other_values_total", &labels),
            offset: gauge!("cambium_offset", &labels),
            acknowledged: gauge!("cambium_acknowledged_offset", &labels),
            end: gauge!("cambium_end_offset", &labels),
            lag: gauge!("cambium_lag_records", &labels),
            snapshot: gauge!("cambium_snapshot_offset", &labels),
            uncovered: gauge!("cambium_uncovered_seconds", &labels),
            watermark: gauge!("cambium_watermark_seconds", &labels),
            users: gauge!("cambium_users", &labels),
            waiting: gauge!("cambium_waiting_bytes", &labels),
            flush: histogram!("cambium_flush_seconds", &labels),
            settle: histogram!("cambium_settle_seconds", &labels),
            pause: histogram!("cambium_snapshot_pause_seconds", &labels),
            publish: histogram!("cambium_snapshot_publish_seconds", &labels),
            counted: partition.account(),
            overflown: partition.overflow(),
        }
    }

    /// Adds what became of the records since the last time.
    pub fn count<L: List>(&mut self, partition: &Partition<L>) {
        let account = partition.account();
        let before = std::mem::replace(&mut self.counted, account);
        self.accepted.increment(account.accepted - before.accepted);
        self.duplicate.increment(account.duplicate - before.duplicate);
        self.late.increment(account.late - before.late);
        self.rejected.increment(account.rejected - before.rejected);
        self.dropped.increment(account.dropped - before.dropped);
        self.ahead.increment(account.ahead - before.ahead);
        let overflown = partition.overflow();
        let before = std::mem::replace(&mut self.overflown, overflown);
        if before == 0 && overflown > 0 {
            tracing::warn!(
                "{}: a field has more values than are kept (max_values, and 16 MB): further ones are counted as \
                 (other), see cambium_other_values_total",
                partition.topic()
            );
        }
        self.overflow.increment(overflown - before);
    }
}
