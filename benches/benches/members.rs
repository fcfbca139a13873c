//! Clients of a cluster whose members change: `cargo bench -p benches --features servers --bench members`.

use std::process::ExitCode;

use benches::servers::members::{Arguments, run};

fn main() -> ExitCode {
    match run(&Arguments::read(env!("CARGO_TARGET_TMPDIR"), env!("CARGO_BIN_EXE_bare"))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("members: {failure}");
            ExitCode::FAILURE
        }
    }
}
