#![no_main]

libfuzzer_sys::fuzz_target!(
    init: cambium_tests::fuzz::plant("avro_confluent"),
    |bytes: &[u8]| {
        cambium_tests::fuzz::run("avro_confluent", bytes);
    }
);
