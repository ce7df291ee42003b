//! Why a record is not an event.

use std::fmt;

/// A record larger than this is rejected unread: 1 MiB.
pub const MAX_RECORD_BYTES: usize = 1 << 20;

/// The closed set of reasons, as they are named in `rejected_events`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    Unreadable,
    UnknownSchema,
    NoApp,
    NoEvent,
    NoUser,
    BadTime,
    TooLarge,
    Tombstone,
}

impl Reason {
    pub const ALL: [Reason; 8] = [
        Reason::Unreadable,
        Reason::UnknownSchema,
        Reason::NoApp,
        Reason::NoEvent,
        Reason::NoUser,
        Reason::BadTime,
        Reason::TooLarge,
        Reason::Tombstone,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Reason::Unreadable => "unreadable",
            Reason::UnknownSchema => "unknown_schema",
            Reason::NoApp => "no_app",
            Reason::NoEvent => "no_event",
            Reason::NoUser => "no_user",
            Reason::BadTime => "bad_time",
            Reason::TooLarge => "too_large",
            Reason::Tombstone => "tombstone",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// A reason, and what was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub reason: Reason,
    pub detail: String,
}

impl Rejection {
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Rejection {
            reason,
            detail: detail.into(),
        }
    }
}
