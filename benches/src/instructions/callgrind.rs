//! Running a scenario under callgrind.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use super::Scenario;

/// Keeps the C library from choosing its `memcpy` by the width of this processor's registers.
const TUNABLES: (&str, &str) =
    ("GLIBC_TUNABLES", "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX2,-AVX,-ERMS,-FSRM");

/// What instruction counts depend on, beside the code.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Toolchain {
    /// What `rustc --version` prints.
    pub rustc: String,
    /// Name and version of the C library.
    pub libc: String,
}

impl Toolchain {
    /// That of this machine.
    ///
    /// # Errors
    ///
    /// [`CountError::NoProgram`] if it can't be asked for.
    pub fn here() -> Result<Toolchain, CountError> {
        Ok(Toolchain {
            rustc: first_line("rustc", &["--version"])?,
            libc: first_line("getconf", &["GNU_LIBC_VERSION"])?,
        })
    }
}

/// How many instructions `scenario` takes for a command when `program` runs it, given its name and a number
/// of commands.
///
/// # Errors
///
/// [`CountError`] if valgrind is missing or does not tell.
pub fn per_command(program: &Path, scenario: Scenario) -> Result<f64, CountError> {
    let commands = scenario.commands();
    let once = total(program, scenario, commands)?;
    let twice = total(program, scenario, 2 * commands)?;
    Ok(each(once, twice, commands))
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn each(once: u64, twice: u64, commands: u64) -> f64 {
    let each = twice.saturating_sub(once) as f64 / commands as f64;
    (each * 10.0).round() / 10.0
}

fn total(program: &Path, scenario: Scenario, commands: u64) -> Result<u64, CountError> {
    // It stays, for `callgrind_annotate`.
    let path = program.with_file_name(format!("{}.callgrind", scenario.name()));
    let mut valgrind = Command::new("valgrind");
    valgrind.arg("--tool=callgrind").arg("--quiet").arg(format!("--callgrind-out-file={}", path.display()));
    valgrind.arg(program).args(["--scenario", scenario.name(), &commands.to_string()]);
    let output = valgrind.env(TUNABLES.0, TUNABLES.1).output();
    let output = output.map_err(|error| CountError::NoProgram { program: "valgrind", error })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(CountError::Failed { scenario: scenario.name(), said });
    }
    let text = std::fs::read_to_string(&path)
        .map_err(|error| CountError::NoOutput { path: path.clone(), problem: error.to_string() })?;
    parse_total(&text).map_err(|problem| CountError::NoOutput { path, problem: problem.to_owned() })
}

/// The instructions of the whole run, out of what callgrind has written.
fn parse_total(text: &str) -> Result<u64, &'static str> {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let events = field("events:").ok_or("it does not say what was counted")?;
    let position = events.split_whitespace().position(|event| event == "Ir");
    let position = position.ok_or("instructions (Ir) are not among what was counted")?;
    // The last line: without it the run was cut short.
    let totals = field("totals:").ok_or("it has no totals")?;
    let total = totals.split_whitespace().nth(position).ok_or("it has no total of instructions")?;
    total.parse().map_err(|_| "its total of instructions is no number")
}

fn first_line(program: &'static str, arguments: &[&str]) -> Result<String, CountError> {
    let output = Command::new(program).args(arguments).output();
    let output = output.map_err(|error| CountError::NoProgram { program, error })?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().trim().to_owned())
}

/// Why there is no count.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CountError {
    /// A program that is needed can't be started.
    #[error("can't run {program}: {error}; install it, for example by `apt-get install {program}`")]
    NoProgram {
        /// Which one.
        program: &'static str,
        /// What went wrong.
        error: io::Error,
    },
    /// The scenario did not run to its end.
    #[error("{scenario} has failed under valgrind: {said}")]
    Failed {
        /// Which one.
        scenario: &'static str,
        /// What was printed.
        said: String,
    },
    /// Callgrind has not written what it should.
    #[error("{}: {problem}", path.display())]
    NoOutput {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "# callgrind format\nversion: 1\ncmd: instructions\npart: 1\n\npositions: line\nevents: Ir\n\
                          summary: 81\n\nfn=(1) main\n16 40\ncalls=1 50\n16 41\n\ntotals: 8123456\n";

    #[test]
    fn the_total_of_instructions_is_read() {
        assert_eq!(parse_total(OUTPUT), Ok(8_123_456));
        let with_caches = OUTPUT.replace("events: Ir", "events: Dr Ir").replace("totals: ", "totals: 5 ");
        assert_eq!(parse_total(&with_caches), Ok(8_123_456), "the column is found by its name");
    }

    #[test]
    fn output_that_tells_no_total_is_refused() {
        let without = |text: &str| parse_total(&OUTPUT.replace(text, "")).expect_err("something is missing");
        assert!(without("events: Ir").contains("what was counted"));
        assert!(without("totals: 8123456").contains("no totals"));
        assert!(without("8123456").contains("no total of instructions"));
        assert!(parse_total(&OUTPUT.replace("Ir", "Dr")).is_err());
        assert!(parse_total(&OUTPUT.replace("8123456", "many")).is_err());
    }

    #[test]
    fn starting_the_program_does_not_count() {
        let (start, of_each) = (1_000_000, 345);
        let total = |commands: u64| start + of_each * commands;
        assert!((each(total(100), total(200), 100) - 345.0).abs() < f64::EPSILON);
    }
}
