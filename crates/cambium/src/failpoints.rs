//! The program as the tests start it: `FAILPOINTS` (crate `fail`) says where it dies, as by `kill -9`, or what fails. It
//! has a name of its own, so that nobody ever takes it for the program.

use std::process::ExitCode;

#[path = "main.rs"]
mod program;

fn main() -> ExitCode {
    // Lives as long as the process.
    std::mem::forget(fail::FailScenario::setup());
    let as_ever = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let said = panic.payload_as_str().unwrap_or_default();
        if said.starts_with("failpoint ") {
            eprintln!("{said}");
            // No destructor runs, and no thread goes on.
            std::process::abort();
        }
        as_ever(panic);
    }));
    program::main()
}
