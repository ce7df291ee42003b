//! Cambium: the program. Configuration, the list of processors, and the commands.

pub mod commands;
pub mod config;
pub mod files;
pub mod health;
pub mod http;
pub mod reader;
pub mod warehouse;
mod workers;

use cambium_counts::EventCounts;
use cambium_funnels::Funnel;
use cambium_sessions::Sessions;
use cambium_uniques::Uniques;

/// Every processor, in the order in which an event meets them. One line more, and there is one more.
pub type Processors = (EventCounts, (Uniques, (Sessions, (Funnel, ()))));
