//! What the fuzz targets call, and the tests that replay what was found. No part of the interface.

pub use crate::cli::options::fuzz_config as config;
pub use crate::fronts::operator::fuzz as operator;
pub use crate::fronts::resp::fuzzing::resp;
pub use crate::fronts::resp::users::fuzz as users;
pub use crate::kv::fuzzing::{command, snapshot};
pub use crate::runtime::introductions::fuzz as introduction;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use clap::Args;

    use super::*;
    use crate::cli::options::{LogOptions, ServeOptions};

    fn corpus(target: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target)
    }

    fn replay(target: &str, run: impl Fn(&[u8])) {
        paxos_core::fuzzing::replay(&corpus(target), 200, run);
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
    fn introductions_that_were_found_are_harmless() {
        replay("introduction", introduction);
    }

    #[test]
    fn operators_requests_and_their_answers_that_were_found_are_harmless() {
        replay("operator", operator);
    }

    #[test]
    fn files_of_users_that_were_found_are_harmless() {
        replay("users", users);
    }

    #[test]
    fn configurations_that_were_found_are_harmless() {
        replay("config", config);
    }

    #[test]
    fn the_configuration_with_everything_has_each_option_that_a_file_may_hold() {
        let command = ServeOptions::augment_args(LogOptions::augment_args(clap::Command::new("serve")));
        let options = command.get_arguments().filter(|option| !option.is_hide_set());
        let names = options.filter_map(clap::Arg::get_long).filter(|name| *name != "config");
        let text = std::fs::read_to_string(corpus("config").join("everything.toml")).expect("it is there");
        let given: toml::Table = toml::from_str(&text).expect("it is in order");
        assert_eq!(given.keys().map(String::as_str).collect::<BTreeSet<_>>(), names.collect());
    }
}
