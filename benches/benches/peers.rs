//! Commands that three replicas of each library commit in a second. See the README of this crate.

use std::path::PathBuf;
use std::process::ExitCode;

use benches::peers::arguments::{Arguments, LogKind};
use benches::peers::contender::Log;
use benches::peers::table::{self, Row};
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
    let mut files = Vec::new();
    if let Some(file) = &arguments.json {
        files.push((file.clone(), serde_json::to_string_pretty(&rows).expect("rows are numbers and names")));
    }
    if let (Some(directory), Some(chart)) = (&arguments.plots, table::chart(&rows)) {
        let name = if log == Log::Memory { "libraries.svg" } else { "libraries-disk.svg" };
        files.push((directory.join(name), chart));
    }
    for (file, text) in files {
        if let Err(error) = std::fs::write(&file, text) {
            eprintln!("{} can't be written: {error}.", file.display());
            return ExitCode::FAILURE;
        }
    }
    if arguments.check { checked(&rows) } else { ExitCode::SUCCESS }
}

/// Tells in which rows `paxos-node` is behind; a success if there is none.
fn checked(rows: &[Row]) -> ExitCode {
    match table::behind(rows) {
        Ok(behind) => {
            print!("\n{behind}");
            if behind.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(nothing) => {
            eprintln!("{nothing}.");
            ExitCode::FAILURE
        }
    }
}
