//! The same rows, whatever the order, the batches, the flushes, the crashes and the owners.

mod against_engine;
mod captures;
mod case;
mod model;
mod property;
