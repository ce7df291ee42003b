#![no_main]

libfuzzer_sys::fuzz_target!(
    init: cambium_tests::fuzz::plant("json"),
    |bytes: &[u8]| {
        cambium_tests::fuzz::run("json", bytes);
    }
);
