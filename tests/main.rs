//! All tests that need more than one crate, in one binary.

mod arrows;
mod crash;
mod live;
mod replay;
mod watches;
