//! One of the fuzz targets, driven by what code its inputs reach.
//!
//!     cargo install cargo-fuzz
//!     cd tests/coverage
//!     TARGET=json cargo +nightly fuzz run --fuzz-dir . --sanitizer none target corpus/json -- -max_total_time=600
//!
//! Inputs that reach something new stay in the corpus; what panics or hangs is kept in `artifacts`.
#![no_main]

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use cambium_tests::fuzz::{TARGETS, Target, sample};
use libfuzzer_sys::fuzz_target;

static TARGET: OnceLock<Target> = OnceLock::new();

/// Finds the target that is asked for, and puts its sample into the corpus.
fn init() {
    let asked = std::env::var("TARGET").unwrap_or_default();
    let found = TARGETS.into_iter().find(|(name, _)| *name == asked);
    let (name, target) = found.unwrap_or_else(|| {
        let names: Vec<_> = TARGETS.iter().map(|(name, _)| *name).collect();
        panic!("TARGET is one of {}, not '{asked}'", names.join(", "))
    });
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    fs::create_dir_all(&corpus).expect("there is room for a corpus");
    fs::write(corpus.join("sample"), sample(name)).expect("the corpus can be written");
    TARGET.get_or_init(|| target);
}

fuzz_target!(
    init: init(),
    |bytes: &[u8]| {
        TARGET.get().expect("it was found")(bytes);
    }
);
