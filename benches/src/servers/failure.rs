//! Why a run ends early.

use std::fmt;

/// Why a run has ended early.
#[derive(Debug)]
pub struct Failure(String);

impl Failure {
    pub(super) fn new(line: impl Into<String>) -> Failure {
        Failure(line.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}
