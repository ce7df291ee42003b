//! The tests are in `main.rs`; a package needs a library to stand in a workspace.
