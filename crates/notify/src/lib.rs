//! Telling people: what a message says, and the channels that carry it.

mod channel;
mod email;
mod message;
mod request;
mod send;

pub use channel::{Channel, Kind};
pub use message::{Language, Message, State};
pub use request::{Request, request};
pub use send::send;
