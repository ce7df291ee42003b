//! Deliberate bugs, to prove that the tests see: one at a time may be switched on where the feature `bugs` is on, as it
//! is for the simulation alone. In every other build there is none, and what asks for one is compiled to nothing.

macro_rules! bugs {
    ($($(#[$what:meta])* $name:ident,)*) => {
        /// Something that would be wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Bug {
            $($(#[$what])* $name,)*
        }

        impl Bug {
            pub const ALL: &[Bug] = &[$(Bug::$name,)*];
        }
    };
}

bugs! {
    /// Rows bear no version.
    VersionLeftOut,
    /// The older of two versions is kept.
    OlderRowWins,
    /// A snapshot is published before ClickHouse has what it no longer remembers.
    SnapshotBeforeAcknowledgement,
    /// Message ids are forgotten when some time has passed, and not some of the log.
    ForgetsByTheClock,
    /// What is forgotten is not written first.
    ForgottenKeyUnflushed,
    /// Message ids are left out of the snapshot.
    DuplicatesForgottenInSnapshot,
    /// Records that lie before the position are applied again.
    AppliedTwice,
    /// A topic that was created again is counted on in the same epoch.
    EpochNotRaised,
    /// Rows of all origins have one key.
    OriginLeftOut,
    /// A set holds members that a late event can undo.
    SetWhereUndone,
    /// What ceased to exist is not written once more.
    DeletedKeyNotWritten,
    /// Records of one partition are judged by the watermark of another.
    WatermarkOfAnother,
    /// Who gives a partition up does not wait for what is on its way.
    WorkDroppedAtRevoke,
    /// Rows and snapshots are in the order of a random map.
    MapOrderLeaks,
    /// A late record is counted as two.
    LateCountedTwice,
    /// What is journaled enters a little before its offset where the log is read again.
    SetupAtAnotherOffset,
    /// Rejected records are in no account.
    RejectedNotAccounted,
    /// `progress` is written before what it speaks of.
    ProgressBeforeRows,
    /// An insert that failed is taken for one that was written.
    FailedInsertAcknowledged,
    /// Who changes while a capture is under way is captured as they are then.
    CaptureOfLaterState,
    /// A snapshot is not checked for damage.
    DamageNotSeen,
    /// Only what changed here is written again, and not what an owner before may have written.
    UnchangedLeftOut,
    /// A snapshot is gone on from whoever took it, under whatever setup.
    SnapshotOfAnotherSetup,
    /// A log is the same where it holds nothing in the place of the last record that was counted.
    HoleOverlooked,
    /// A journal counts as written when the store says so.
    JournalNotReadAgain,
    /// The rows of who is forgotten come back where the log is counted again.
    ForgottenRowsComeBack,
    /// What was counted beside is taken over before its rows are in the tables.
    PastBeforeRows,
    /// Who is forgotten stays in the state, and in snapshots.
    ForgottenKept,
    /// A late event adds a user to where they belong, and leaves them where they were.
    CountedTwice,
    /// A count that falls to nothing is not written once more.
    NothingNotWritten,
    /// What a device did before a link is its user's, and stays its own.
    DeviceStaysCounted,
    /// What a device did before a link is nobody's any more.
    LinkedEventsLost,
    /// A try whose events are forgotten is no more the furthest of its day.
    ForgottenTryUncounted,
    /// A lateness that became longer lets events in for what is forgotten.
    LatenessReachesBack,
}

#[cfg(feature = "bugs")]
mod switch {
    #![allow(clippy::disallowed_types)]

    use std::cell::Cell;
    use std::collections::hash_map::RandomState;
    use std::hash::BuildHasher;

    use super::Bug;

    thread_local! {
        static ON: Cell<Option<Bug>> = const { Cell::new(None) };
        static HIGHEST_WATERMARK: Cell<i64> = const { Cell::new(i64::MIN) };
    }

    /// Switches a bug on, or all off, for what runs on this thread.
    pub fn switch_on(bug: Option<Bug>) {
        ON.set(bug);
        HIGHEST_WATERMARK.set(i64::MIN);
    }

    /// Whether this bug is switched on.
    pub fn bug(bug: Bug) -> bool {
        ON.get() == Some(bug)
    }

    /// The highest of all watermarks that were ever given.
    pub(crate) fn watermark_of_all(own: Option<i64>) -> Option<i64> {
        let highest = HIGHEST_WATERMARK.get().max(own.unwrap_or(i64::MIN));
        HIGHEST_WATERMARK.set(highest);
        Some(highest).filter(|highest| *highest > i64::MIN)
    }

    /// Puts items into an order that is another each time.
    pub(crate) fn disorder<T>(items: &mut [T]) {
        let random = RandomState::new().hash_one(0) as usize;
        if !items.is_empty() {
            items.rotate_left(random % items.len());
        }
    }
}

#[cfg(not(feature = "bugs"))]
mod switch {
    use super::Bug;

    #[inline(always)]
    pub const fn bug(_: Bug) -> bool {
        false
    }

    pub(crate) fn watermark_of_all(own: Option<i64>) -> Option<i64> {
        own
    }

    pub(crate) fn disorder<T>(_: &mut [T]) {}
}

pub use switch::bug;
#[cfg(feature = "bugs")]
pub use switch::switch_on;
pub(crate) use switch::{disorder, watermark_of_all};
