//! The real ClickHouse engine in a process of our own, over ClickHouse's own HTTP interface, so that
//! the rest of the program talks to it as it would to any ClickHouse.

mod body;
mod chdb;
mod child;
mod compression;
mod library;
mod request;
mod server;

pub use child::Child;
pub use library::Library;
pub use server::{ADDRESS_FILE, Options, serve};
