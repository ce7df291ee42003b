//! The same rows, whatever the order, the batches, the flushes, the crashes and the owners.

mod against_engine;
mod captures;
pub mod case;
pub mod check;
mod flushes;
mod funnels;
mod horizon;
pub mod members;
pub mod model;
pub mod people;
mod property;
mod releases;
mod rolling;
mod semantics;
mod take_over;
