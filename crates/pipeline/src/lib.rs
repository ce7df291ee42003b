//! One partition's life: how it starts, and the rhythm of apply, flush, acknowledgement, snapshot.
//!
//! Where records come from is not known here: Kafka and files drive the same [`Owner`].

mod held;
mod meters;
mod owner;
mod rhythm;
mod start;

pub use held::{Held, Progress, VERSIONED};
pub use owner::{Applied, Owner};
pub use rhythm::Rhythm;
pub use start::{Log, Start, StartError, count_anew, show_definitions, start};
