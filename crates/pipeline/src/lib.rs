//! One partition's life: how it starts, and the rhythm of apply, flush, acknowledgement, snapshot.
//!
//! Where records come from is not known here: Kafka and files drive the same [`Owner`].

mod held;
mod meters;
mod owner;
mod past;
mod rhythm;
mod shown;
mod start;

pub use held::{Held, Progress, versioned_tables};
pub use owner::{Applied, Owner};
pub use past::{BeginsLater, Counting, InFront, Pasts, Reader, taken_over};
pub use rhythm::Rhythm;
pub use shown::{
    Generations, Renamed, counted_elsewhere, counted_generations, hide_generations, highest_generations,
    show_definitions, show_generations, show_names,
};
pub use start::{Log, Start, StartError, count_anew, start};
