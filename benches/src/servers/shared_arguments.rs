//! What the benches of a large state are told alike: where programs and data are, and whether bounds must
//! hold.

use std::path::{Path, PathBuf};

use clap::Args;

use super::failure::Failure;

#[derive(Args, Clone, Debug)]
pub(super) struct SharedArguments {
    /// The program of paxos-node [default: where `cargo build --release -p paxos-node` puts it].
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
    /// A directory on a disk, in which a temporary one is made for all data [default: cargo's target
    /// directory].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Fail if a figure is beyond its bound.
    #[arg(long)]
    pub(super) check: bool,
    /// Given by cargo to each bench.
    #[arg(long, hide = true)]
    bench: bool,
    /// The bare process, as cargo built it: beside it lies the program of paxos-node.
    #[arg(skip)]
    bare: PathBuf,
    /// The default of `data`.
    #[arg(skip)]
    target: PathBuf,
}

impl SharedArguments {
    /// Takes in what cargo knows.
    pub(super) fn set_built(&mut self, target: impl Into<PathBuf>, bare: impl Into<PathBuf>) {
        (self.target, self.bare) = (target.into(), bare.into());
    }

    pub(super) fn program(&self) -> PathBuf {
        self.program.clone().unwrap_or_else(|| self.bare.with_file_name("paxos-node"))
    }

    /// Measures with a temporary directory for all data. If that fails, the directory is kept for what the
    /// servers have logged.
    pub(super) fn run<T>(
        &self,
        name: &str,
        measure: impl AsyncFnOnce(&Path) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let data = self.data.as_ref().unwrap_or(&self.target);
        let fail = |error: std::io::Error| Failure::new(format!("{}: {error}", data.display()));
        std::fs::create_dir_all(data).map_err(fail)?;
        let directory = tempfile::Builder::new().prefix(name).tempdir_in(data).map_err(fail)?;
        let result = super::until_stopped(measure(directory.path()));
        if result.is_err() {
            eprintln!("what the servers logged is kept in {}", directory.keep().display());
        }
        result
    }
}

/// Makes a directory within that of all data.
pub(super) fn subdirectory(directory: &Path, name: &str) -> Result<PathBuf, Failure> {
    let path = directory.join(name);
    std::fs::create_dir(&path).map(|()| path).map_err(|error| Failure::new(format!("{name}: {error}")))
}
