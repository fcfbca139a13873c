//! Commands that three replicas of each library commit in a second. See the README of this crate.

use std::path::PathBuf;
use std::process::ExitCode;

use benches::peers::arguments::{Arguments, LogKind};
use benches::peers::contender::Log;
use benches::peers::table;
use clap::Parser;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let log = match arguments.log {
        LogKind::Memory => Log::Memory,
        // Not where the system keeps temporary files, as that may be memory.
        LogKind::Disk => {
            Log::Disk(arguments.data.clone().unwrap_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR"))))
        }
    };
    let rows = table::measure(&arguments, &log, |line| eprintln!("{line}"));
    print!("{}", table::render(&rows));
    if log != Log::Memory {
        print!("{}", table::render_logs(&arguments.only));
    }
    let Some(file) = &arguments.json else { return ExitCode::SUCCESS };
    let text = serde_json::to_string_pretty(&rows).expect("rows are numbers and names");
    match std::fs::write(file, text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("The rows can't be written to {}: {error}.", file.display());
            ExitCode::FAILURE
        }
    }
}
