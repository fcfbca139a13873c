//! What the same data takes in the memory of three nodes and of one Redis: `cargo bench -p benches --features
//! servers --bench memory -- --help`.

use std::process::ExitCode;

use benches::servers::{MemoryArguments, run_memory};

fn main() -> ExitCode {
    match run_memory(&MemoryArguments::read(env!("CARGO_TARGET_TMPDIR"), env!("CARGO_BIN_EXE_bare"))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("memory: {failure}");
            ExitCode::FAILURE
        }
    }
}
