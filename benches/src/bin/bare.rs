//! One of three processes that copy and sync, and do nothing else; the bench `servers` starts them.

use std::process::ExitCode;

use benches::servers::Role;
use clap::Parser;

fn main() -> ExitCode {
    match Role::parse().play() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bare: {error}");
            ExitCode::FAILURE
        }
    }
}
