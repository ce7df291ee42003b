//! Cambium: the program. Configuration, the list of processors, and the commands.

mod changes;
pub mod commands;
pub mod config;
pub mod files;
pub mod health;
pub mod http;
pub mod reader;
pub mod warehouse;
mod workers;

use cambium_acquisition::{Acquisition, Attribution};
use cambium_activity::{Activation, Stickiness, Streak};
use cambium_counts::EventCounts;
use cambium_engine::Identity;
use cambium_funnels::Funnel;
use cambium_lifecycle::{Churn, Lifecycle};
use cambium_membership::{Badge, Levels, Points};
use cambium_retention::Retention;
use cambium_sessions::Sessions;
use cambium_uniques::Uniques;

/// Every processor, in the order in which an event meets them. One line more, and there is one more.
pub type Processors = cambium_engine::list!(
    EventCounts,
    Uniques,
    Sessions,
    Funnel,
    rarely: Retention,
    Lifecycle,
    Stickiness,
    Activation,
    Streak,
    Acquisition,
    Attribution,
    Churn,
    Points,
    Levels,
    Badge,
    Identity,
);
