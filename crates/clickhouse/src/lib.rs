//! ClickHouse: the tables and views, the writer, the reader, and the engine itself, embedded.

pub mod embedded;
mod keep;
mod reader;
mod schema;
mod tables;
mod writer;

pub use clickhouse::error::Error as ClientError;
pub use keep::{Keep, delete_past, keep};
pub use reader::{Client, is_passing};
pub use schema::{Described, migrate, statements, tables, tables_with};
pub use tables::Tables;
pub use writer::{RunningFlush, SettledFlush, Writer, WriterStatus};
