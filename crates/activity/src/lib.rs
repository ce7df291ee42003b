//! Activity: on how many days users come, for how many in a row, and who of the new ones does what makes them stay.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod activation;
mod stickiness;
mod streak;

pub use activation::{ACTIVATION, Activation};
pub use stickiness::{ACTIVE_DAYS, STICKINESS, Stickiness};
pub use streak::{LONGEST, STREAKS, Streak};
