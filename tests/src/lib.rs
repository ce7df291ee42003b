//! The tests are in `main.rs` and `fuzz.rs`; what is fuzzed lies here.

pub mod fuzz;
