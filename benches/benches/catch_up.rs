//! A node that was away catches up over a long link:
//! `cargo bench -p benches --features servers --bench catch_up -- --help`.

use std::process::ExitCode;

use benches::servers::{CatchUpArguments, run_catch_up};

fn main() -> ExitCode {
    match run_catch_up(&CatchUpArguments::read(env!("CARGO_TARGET_TMPDIR"), env!("CARGO_BIN_EXE_bare"))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("catch_up: {failure}");
            ExitCode::FAILURE
        }
    }
}
