//! What the fuzz targets call, and the tests that replay what was found. No part of the interface.

pub use crate::cli::options::fuzz_config as config;
pub use crate::kv::fuzzing::{command, snapshot};
pub use crate::resp::fuzzing::resp;

#[cfg(test)]
mod tests {
    use super::*;

    fn replay(target: &str, run: impl Fn(&[u8])) {
        let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        paxos_core::fuzzing::replay(&corpus, 200, run);
    }

    #[test]
    fn requests_that_were_found_are_harmless() {
        replay("resp", resp);
    }

    #[test]
    fn commands_that_were_found_are_harmless() {
        replay("command", command);
    }

    #[test]
    fn snapshots_that_were_found_are_harmless() {
        replay("snapshot", snapshot);
    }

    #[test]
    fn configurations_that_were_found_are_harmless() {
        replay("config", config);
    }
}
