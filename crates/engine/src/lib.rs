//! The engine: a partition as a pure state machine over its log.
//!
//! What a [`Partition`] knows after an offset depends on the records before it and on the
//! definitions, and on nothing else. Processors (counts, uniques, sessions, …) are given each
//! accepted event and their own part of its user's state, and leave rows: full values with a
//! version, or members of sets. No I/O, no clock, no random numbers: clippy enforces it.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod arrivals;
mod bins;
mod bugs;
mod by;
mod by_name;
mod calendar;
mod chosen;
mod definition;
mod devices;
mod filter;
mod identity;
mod instance;
mod kept;
mod map;
mod names;
mod partition;
mod processor;
mod recent;
mod renames;
mod room;
mod rows;

pub mod sessionise;
mod setup;
mod snapshot;
mod tally;
mod time;
mod users;
mod varint;

pub use arrivals::Arrivals;
pub use bins::time_bin;
#[cfg(feature = "bugs")]
pub use bugs::switch_on;
pub use bugs::{Bug, bug};
pub use by::{By, Slice};
pub use by_name::ByName;
pub use calendar::{Calendar, Period};
pub use chosen::Chosen;
pub use definition::{Definition, DefinitionError};
pub use devices::{Identity, LINKS};
pub use filter::{Filter, FilterError, quoted};
pub use identity::{Found, HashKey, Mark, of_version, origin_hash, version};
pub use instance::{KindInfo, List, Rarely};
pub use kept::Kept;
pub use map::Map;
pub use names::{Kind, Names, OTHER};
pub use partition::{Account, Outcome, Partition, REJECTED, TABLES, Topic, saved_setup};
pub use processor::{Compiler, Context, EventNames, Input, Matcher, Processor, PropertyTable, Replaced};
pub use renames::Renames;
pub use room::room_for_one;
pub use rows::{Row, Rows, Table, TableRows};
pub(crate) use setup::Times;
pub use setup::{AppSetup, Beside, RejectedPayload, Setup, Spec, TimeRules};
pub use snapshot::{Capture, SnapshotError};
pub use tally::Tally;
pub use time::{DAY_MS, Day, Duration, HOUR_MS, LONGEST_DAY_MS, MINUTE_MS, WeekStart, Zone, duration_ms};
pub use varint::{put_varint, take_varint};
