#![no_main]

libfuzzer_sys::fuzz_target!(
    init: cambium_tests::fuzz::plant("snapshot_state"),
    |bytes: &[u8]| {
        cambium_tests::fuzz::run("snapshot_state", bytes);
    }
);
