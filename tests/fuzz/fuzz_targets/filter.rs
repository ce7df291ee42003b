#![no_main]

libfuzzer_sys::fuzz_target!(
    init: cambium_tests::fuzz::plant("filter"),
    |bytes: &[u8]| {
        cambium_tests::fuzz::run("filter", bytes);
    }
);
