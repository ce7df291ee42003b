//! Files as a log: what is replayed into one directory is one topic, `file-ID`, whose offsets go on
//! from command to command. The files of one command are read together in order of event time.

mod log;
mod read;
mod sort;

pub use log::{Command, FileLog, KnownFile};
pub use read::{Entry, Input, open};
pub use sort::{Sorter, Spool};
