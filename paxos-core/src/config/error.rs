//! What is wrong with a configuration.

/// Settings that do not fit together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ConfigError {
    /// What is wrong, in a sentence for the person who chose the settings.
    pub problem: &'static str,
}

impl std::fmt::Display for ConfigError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.problem)
    }
}

impl std::error::Error for ConfigError {}

pub(crate) fn check(fits: bool, problem: &'static str) -> Result<(), ConfigError> {
    if fits { Ok(()) } else { Err(ConfigError { problem }) }
}
