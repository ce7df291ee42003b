//! What a snapshot holds: the state of one partition at one offset, as bytes.
//!
//! The users are apart from the rest, each under their own key, so that a snapshot can be saved as
//! a chain of changes. How the chain is kept and checked is the matter of the snapshots crate.

/// The parts of a partition's state that changed since the last capture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capture {
    /// All records before it are in the state.
    pub position: i64,
    pub epoch: u16,
    /// Everything but the users; whole in every capture.
    pub head: Vec<u8>,
    /// Changed users, sorted: the number of their app, their own, and their state; none: forgotten.
    pub users: Vec<(u32, u64, Option<Vec<u8>>)>,
}

/// Raised when what is saved changes its form.
pub const FORMAT: u32 = 6;
/// The oldest form that is read. It has the zeros at a user's end that are left out since; up to 5 a funnel has every event
/// of the day, of which it keeps the furthest try alone since, and nothing says what was late before.
pub const OLDEST_FORMAT: u32 = 4;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    #[error(
        "the snapshot was written in format {0}, this release reads format {FORMAT}; start the release that wrote it"
    )]
    Format(u32),
    #[error("the snapshot's head cannot be read: {0}")]
    Head(String),
    #[error("a user's state in the snapshot cannot be read")]
    User,
    #[error("{0}")]
    Definition(#[from] crate::DefinitionError),
    #[error("{0}")]
    Schema(#[from] cambium_event::SchemaError),
}
