//! Counts the instructions that the core takes for a command, and compares them with
//! `benches/instructions.toml`.
//!
//! ```text
//! instructions                            counts and compares; fails if a scenario takes too many
//! instructions --bless                    counts and writes the file anew
//! instructions --scenario NAME COMMANDS   runs one scenario and prints nothing: what is run under valgrind
//! ```

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use benches::instructions::{Ledger, Scenario, Toolchain, Verdict, per_command};

const USAGE: &str = "usage: instructions [--bless | --scenario NAME COMMANDS]";
const HOW_TO_BLESS: &str =
    "if that is as it should be, run `.ci/instructions --bless` and commit benches/instructions.toml";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments[..] {
        [] => compare(),
        ["--bless"] => bless(),
        ["--scenario", name, commands] => run(name, commands),
        _ => Err(String::from(USAGE)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

fn run(name: &str, commands: &str) -> Result<(), String> {
    let scenario = Scenario::named(name).ok_or_else(|| format!("there is no scenario {name}"))?;
    let commands = commands.parse().map_err(|_| format!("{commands} is no number of commands"))?;
    scenario.run(commands);
    Ok(())
}

fn compare() -> Result<(), String> {
    let path = ledger_path();
    let named = |problem: String| format!("{}: {problem}", path.display());
    let text = std::fs::read_to_string(&path).map_err(|error| named(error.to_string()))?;
    let ledger = Ledger::parse(&text).map_err(|error| named(error.to_string()))?;
    let here = Toolchain::here().map_err(|error| error.to_string())?;
    if *ledger.toolchain() != here {
        println!(
            "The counts to compare with were made by {} with {}; this is {} with {}. So {:.0} % more is tolerated;\n\
             {HOW_TO_BLESS}.",
            ledger.toolchain().rustc,
            ledger.toolchain().libc,
            here.rustc,
            here.libc,
            ledger.tolerance(&here) * 100.0,
        );
    }
    println!("{:<34}{:>10}{:>10}{:>11}", "instructions per command", "before", "now", "change");
    let mut failures = Vec::new();
    for scenario in Scenario::ALL {
        let comparison = ledger.compare(scenario, count(scenario)?, &here);
        let before = comparison.before.map_or(String::from("-"), |before| format!("{before:.1}"));
        let change = (comparison.before)
            .map_or(String::from("-"), |before| format!("{:+.2} %", (comparison.now / before - 1.0) * 100.0));
        let remark = match comparison.verdict {
            Verdict::Same => "",
            Verdict::Better => "  better: bless it, so that it stays",
            Verdict::Worse => "  too many",
            Verdict::Unknown => "  unknown",
        };
        println!("{:<34}{before:>10}{:>10.1}{change:>11}{remark}", scenario.name(), comparison.now);
        if comparison.verdict.is_failure() {
            failures.push(scenario.name());
        }
    }
    if failures.is_empty() {
        return Ok(());
    }
    Err(format!("more instructions than before: {}; {HOW_TO_BLESS}", failures.join(", ")))
}

fn bless() -> Result<(), String> {
    let toolchain = Toolchain::here().map_err(|error| error.to_string())?;
    let mut counts = Vec::new();
    for scenario in Scenario::ALL {
        let count = count(scenario)?;
        println!("{:<34}{count:>10.1}", scenario.name());
        counts.push((scenario, count));
    }
    let path = ledger_path();
    let written = std::fs::write(&path, Ledger::new(toolchain, &counts).to_text());
    written.map_err(|error| format!("{}: {error}", path.display()))
}

fn count(scenario: Scenario) -> Result<f64, String> {
    let program = std::env::current_exe().map_err(|error| format!("can't find this program: {error}"))?;
    per_command(&program, scenario).map_err(|error| error.to_string())
}

/// In the source tree that this was built from: it is a tool of that tree.
fn ledger_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.toml")
}
