//! How soon a node with many keys is ready after a restart:
//! `cargo bench -p benches --features servers --bench restart -- --help`.

use std::process::ExitCode;

use benches::servers::{RestartArguments, run_restart};

fn main() -> ExitCode {
    match run_restart(&RestartArguments::read(env!("CARGO_TARGET_TMPDIR"), env!("CARGO_BIN_EXE_bare"))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("restart: {failure}");
            ExitCode::FAILURE
        }
    }
}
