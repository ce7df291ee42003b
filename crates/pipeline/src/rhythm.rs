//! How often a partition is flushed and saved, and how much is done of it at a time.

use std::time::Duration;

use tokio::time::Instant;

/// When what happens.
#[derive(Clone, Copy, Debug)]
pub struct Rhythm {
    /// Beats are counted from here on. The partitions of a process have one beat, so that their flushes come together,
    /// and go as one.
    pub since: Instant,
    pub flush: Duration,
    /// What users owe (open sessions, tries) is flushed each time where so few owe something, and otherwise so often.
    pub settle: Duration,
    pub few: usize,
    pub snapshot: Duration,
    /// How often it is looked whether definitions are to be given a past.
    pub look_for_past: Duration,
    /// For so long captures and settling stop the partition at a time, and look at the clock after so many users.
    pub at_a_time: Duration,
    pub users_at_a_time: usize,
    /// Rows that wait for a flush; beyond it reading stops until ClickHouse is back.
    pub max_waiting_bytes: usize,
}

impl Default for Rhythm {
    fn default() -> Self {
        Rhythm {
            since: Instant::now(),
            flush: Duration::from_secs(1),
            settle: Duration::from_secs(5),
            few: 10_000,
            snapshot: Duration::from_secs(60),
            look_for_past: Duration::from_secs(5),
            at_a_time: Duration::from_millis(2),
            users_at_a_time: 64,
            max_waiting_bytes: 64 << 20,
        }
    }
}

impl Rhythm {
    /// Whether a beat of this length has passed since then.
    pub(crate) fn has_passed(&self, every: Duration, since: Instant) -> bool {
        let beat = |at: Instant| at.saturating_duration_since(self.since).div_duration_f64(every) as u64;
        beat(Instant::now()) > beat(since)
    }
}
