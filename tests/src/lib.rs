//! The tests are in `main.rs` and `fuzz.rs`; what is fuzzed lies here, for `fuzz.rs` and for libFuzzer (`fuzz/`).

pub mod fuzz;
