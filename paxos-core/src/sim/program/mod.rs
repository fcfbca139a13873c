//! A program that runs the simulator from the command line: `paxos-sim`, or one of your own.
//!
//! Its last line is the result. The exit code is 1 if a rule was broken or a mutant survived, 2 if it was
//! called wrongly.

mod arguments;
mod ledger;
mod mutants;
mod replay;
mod suite;

use std::ffi::OsStr;
use std::marker::PhantomData;
use std::path::Path;
use std::process::ExitCode;

use self::arguments::Action;
use super::disk::Disk;
use super::machine::Machine;

/// The exit code for a wrong call.
const CALLED_WRONGLY: u8 = 2;

/// The program `paxos-sim` for state machine `M` on disks `D`: a whole `main`, with all of its subcommands.
///
/// ```no_run
/// use std::process::ExitCode;
///
/// use paxos_core::sim::{ModelDisk, Program, Registers};
///
/// fn main() -> ExitCode {
///     Program::<Registers, ModelDisk>::new().run()
/// }
/// ```
///
/// `--help` shows what it takes. Without a subcommand it runs many seeds on all cores; `replay SEED` tells
/// what happens in one, and shrinks it if it breaks a rule; `mutants` switches known bugs of the protocol on,
/// and counts the seeds until each is found.
#[derive(Debug)]
#[must_use = "it does nothing until it is run"]
pub struct Program<M, D> {
    failed_before: String,
    of: PhantomData<fn() -> (M, D)>,
}

impl<M: Machine, D: Disk> Program<M, D> {
    /// The program, with no seeds that have failed before.
    #[expect(clippy::new_without_default, reason = "a program is made in one place, by its name")]
    pub fn new() -> Self {
        Program { failed_before: String::new(), of: PhantomData }
    }

    /// Begins each run over many seeds with those of this list, which is best kept in a file beside `main`:
    /// `.failed_before(include_str!("failed_seeds.txt"))`. It is read as [`seeds_of`](super::seeds_of) does.
    /// The option `--failed-seeds FILE` names another list when the program is called.
    pub fn failed_before(mut self, list: &str) -> Self {
        list.clone_into(&mut self.failed_before);
        self
    }

    /// Reads the command line, does what it says, and returns the exit code. Ends the process if it was
    /// called wrongly, or for `--help`.
    ///
    /// Replaces the panic hook of the process by one that says nothing, as a panic inside a run is a finding,
    /// and is reported as one.
    #[must_use = "it tells whether a rule was broken"]
    pub fn run(self) -> ExitCode {
        std::panic::set_hook(Box::new(|_| {}));
        let name = own_name();
        let arguments = arguments::parse(&name);
        let done = match arguments.action {
            None => suite::run::<M, D>(&name, &arguments.suite, &self.failed_before),
            Some(Action::Replay { seed, nodes, brief }) => Ok(replay::run::<M, D>(seed, nodes, brief)),
            Some(Action::Mutants { seeds, only }) => Ok(mutants::run::<M, D>(seeds, only.as_deref())),
        };
        match done {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(problem) => {
                eprintln!("error: {problem}");
                ExitCode::from(CALLED_WRONGLY)
            }
        }
    }
}

/// What the program is called.
fn own_name() -> String {
    let path = std::env::args_os().next().unwrap_or_default();
    let name = Path::new(&path).file_stem().unwrap_or(OsStr::new("paxos-sim"));
    name.to_string_lossy().into_owned()
}
