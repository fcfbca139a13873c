//! Turns errors of the system into those of the storage, and tells shortages from failures.
//!
//! A file that can't be created or opened, because the disk is full or too many files are open, has lost
//! nothing. So a shortage does not stop the storage: it is reported as
//! [`ErrorKind::Full`](crate::ErrorKind::Full), and the operation can be repeated. A failed write or sync of
//! an open file is final; see the callers of [`of_space`].

use std::io;
use std::path::{Path, PathBuf};

use crate::Error;

/// ENFILE and EMFILE on every Unix: too many files are open in the system, or in this process.
pub(crate) const NO_DESCRIPTOR: [i32; 2] = [23, 24];

/// Whether the disk is full.
pub(crate) fn of_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Whether too many files are open. Only opening a file fails with this.
pub(crate) fn of_descriptors(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|code| NO_DESCRIPTOR.contains(&code))
}

/// The error of an operation on which nothing depends yet: any shortage leaves the storage usable.
pub(crate) fn or_failure(operation: &'static str, path: PathBuf, source: io::Error) -> Error {
    if of_space(&source) { Error::Full { path, source } } else { failure(operation, path, source) }
}

/// The error of any other operation: only a lack of file descriptors leaves the storage usable.
pub(crate) fn failure(operation: &'static str, path: PathBuf, source: io::Error) -> Error {
    if of_descriptors(&source) {
        Error::NoDescriptor { path, source }
    } else {
        Error::Io { operation, path, source }
    }
}

/// Adds the operation and the path to an error of the system.
pub(crate) trait During<T> {
    fn during(self, operation: &'static str, path: &Path) -> Result<T, Error>;
}

impl<T> During<T> for io::Result<T> {
    fn during(self, operation: &'static str, path: &Path) -> Result<T, Error> {
        self.map_err(|source| failure(operation, path.to_owned(), source))
    }
}
