//! Acquisition: where new users come from, and which channels lead to a goal.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod attribution;
mod channel;
mod new_users;

pub use attribution::{ATTRIBUTION, Attribution};
pub use new_users::{Acquisition, NEW_USERS};
