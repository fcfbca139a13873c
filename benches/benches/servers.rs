//! Whole servers under the same load: `cargo bench -p benches --features servers --bench servers -- --help`.

use std::process::ExitCode;

use benches::servers::{Arguments, run};

fn main() -> ExitCode {
    match run(&Arguments::read(env!("CARGO_TARGET_TMPDIR"), env!("CARGO_BIN_EXE_bare"))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("servers: {failure}");
            ExitCode::FAILURE
        }
    }
}
