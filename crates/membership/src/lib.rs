//! Membership: points that users earn and spend, the levels that those lead to, and badges.
//!
//! All of it is counted by local days: what is earned on a day counts before what is spent on it, whatever the order in
//! which events come. What time alone will do (points expire, a level is lost) is written ahead; what comes later takes
//! it back.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod account;
mod badge;
mod level;
mod points;
mod rule;

pub use badge::{BADGE_USERS, BADGES, Badge};
pub use level::{LEVEL_USERS, LEVELS, Levels};
pub use points::{POINT_USERS, POINTS, Points};
