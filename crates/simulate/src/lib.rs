//! A product with users that behave, and the exact truth of its numbers.
//!
//! The truth is worked out naively, over all events at once, straight from the words of the
//! interface; it shares no code with the engine or the processors, so that the two can be compared.

pub mod active;
pub mod attribution;
pub mod calendar;
pub mod funnel;
pub mod membership;
mod product;
pub mod retention;
pub mod series;
pub mod sessions;
mod summary;
pub mod truth;

pub use product::{Product, Publication, Settings};
pub use summary::{PURCHASE, summary};
pub use truth::{Account, Dropped, Event, LatenessChange, Record, Rules, Truth, Which};
