//! The counts that are kept in the tree.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Scenario, Toolchain};

/// By how much a count may be above that of the ledger.
const TOLERANCE: f64 = 0.03;
/// The same if compiler or C library are not those of the ledger.
const TOLERANCE_ELSEWHERE: f64 = 0.15;
const HEAD: &str = "\
# Instructions of the core for each command, counted by callgrind: see `benches/src/instructions/mod.rs`.
# `.ci/instructions` compares with them; `.ci/instructions --bless` writes them anew.

";

/// What each scenario took when the ledger was written.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ledger {
    toolchain: Toolchain,
    instructions_per_command: BTreeMap<String, f64>,
}

/// How a count compares with the ledger's.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Comparison {
    /// What the ledger says, if it knows the scenario.
    pub before: Option<f64>,
    /// What was counted.
    pub now: f64,
    /// What to make of it.
    pub verdict: Verdict,
}

/// What to make of a count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// About as before.
    Same,
    /// Less than before by more than what is tolerated the other way.
    Better,
    /// More than what is tolerated.
    Worse,
    /// The ledger does not know the scenario, so that nothing would show.
    Unknown,
}

impl Verdict {
    /// Whether a change with it must not land as it is.
    #[must_use]
    pub fn is_failure(self) -> bool {
        matches!(self, Verdict::Worse | Verdict::Unknown)
    }
}

impl Ledger {
    /// A ledger of these counts.
    #[must_use]
    pub fn new(toolchain: Toolchain, counts: &[(Scenario, f64)]) -> Ledger {
        let counts = counts.iter().map(|(scenario, count)| (scenario.name().to_owned(), *count));
        Ledger { toolchain, instructions_per_command: counts.collect() }
    }

    /// Reads what [`to_text`](Ledger::to_text) has written.
    ///
    /// # Errors
    ///
    /// [`LedgerError`] if that is no ledger, or one of a scenario that does not exist.
    pub fn parse(text: &str) -> Result<Ledger, LedgerError> {
        let ledger: Ledger =
            toml::from_str(text).map_err(|error| LedgerError { problem: error.to_string() })?;
        for (name, count) in &ledger.instructions_per_command {
            if Scenario::named(name).is_none() {
                return Err(LedgerError { problem: format!("there is no scenario {name}") });
            }
            if !count.is_finite() || *count <= 0.0 {
                return Err(LedgerError { problem: format!("{name} can't take {count} instructions") });
            }
        }
        Ok(ledger)
    }

    /// As it is kept in the tree.
    ///
    /// # Panics
    ///
    /// Never: names and numbers can always be written.
    #[must_use]
    pub fn to_text(&self) -> String {
        HEAD.to_owned() + &toml::to_string(self).expect("names and numbers can be written as TOML")
    }

    /// With what it was written.
    #[must_use]
    pub fn toolchain(&self) -> &Toolchain {
        &self.toolchain
    }

    /// How much more than before is tolerated with this toolchain, as a part of one.
    #[must_use]
    pub fn tolerance(&self, toolchain: &Toolchain) -> f64 {
        if self.toolchain == *toolchain { TOLERANCE } else { TOLERANCE_ELSEWHERE }
    }

    /// Compares a count of `scenario`.
    #[must_use]
    pub fn compare(&self, scenario: Scenario, now: f64, toolchain: &Toolchain) -> Comparison {
        let before = self.instructions_per_command.get(scenario.name()).copied();
        let tolerance = self.tolerance(toolchain);
        let verdict = match before {
            None => Verdict::Unknown,
            Some(before) if now > before * (1.0 + tolerance) => Verdict::Worse,
            Some(before) if now < before * (1.0 - tolerance) => Verdict::Better,
            Some(_) => Verdict::Same,
        };
        Comparison { before, now, verdict }
    }
}

/// Text is not a ledger.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{problem}")]
pub struct LedgerError {
    /// What is wrong with it.
    pub problem: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn toolchain(rustc: &str) -> Toolchain {
        Toolchain { rustc: rustc.to_owned(), libc: String::from("glibc 2.36") }
    }

    fn ledger() -> Ledger {
        Ledger::new(toolchain("rustc 1.89.0"), &[(Scenario::Follower, 1000.0), (Scenario::Wire, 12.5)])
    }

    #[test]
    fn a_ledger_is_read_as_it_was_written() {
        let text = ledger().to_text();
        assert_eq!(Ledger::parse(&text), Ok(ledger()), "{text}");
        assert!(
            text.contains("follower = 1000.0\n") && text.contains("rustc = \"rustc 1.89.0\"\n"),
            "{text}"
        );
    }

    #[test]
    fn what_is_no_ledger_is_refused() {
        let problem = |from: &str, to: &str| {
            let text = ledger().to_text().replace(from, to);
            Ledger::parse(&text).expect_err("something is wrong").problem
        };
        assert!(problem("follower", "leader-of-none").contains("no scenario leader-of-none"));
        assert!(problem("1000.0", "0.0").contains("can't take 0 instructions"));
        assert!(problem("1000.0", "nan").contains("can't take NaN"));
        assert!(problem("rustc = ", "cargo = ").contains("cargo"));
        assert!(problem("1000.0", "\"many\"").contains("many"));
    }

    #[test]
    fn three_percent_more_is_tolerated_and_no_more() {
        let here = toolchain("rustc 1.89.0");
        let verdict = |now| ledger().compare(Scenario::Follower, now, &here).verdict;
        assert_eq!(verdict(1029.9), Verdict::Same);
        assert_eq!(verdict(1030.1), Verdict::Worse);
        assert_eq!(verdict(970.1), Verdict::Same);
        assert_eq!(verdict(969.9), Verdict::Better);
        assert!(Verdict::Worse.is_failure() && !Verdict::Better.is_failure() && !Verdict::Same.is_failure());
    }

    #[test]
    fn with_another_toolchain_more_is_tolerated_but_not_everything() {
        let elsewhere = toolchain("rustc 1.90.0");
        let verdict = |now| ledger().compare(Scenario::Follower, now, &elsewhere).verdict;
        assert_eq!(verdict(1149.0), Verdict::Same);
        assert_eq!(verdict(1151.0), Verdict::Worse);
    }

    #[test]
    fn a_scenario_that_nobody_has_counted_before_is_a_failure() {
        let comparison = ledger().compare(Scenario::Reads, 5.0, &toolchain("rustc 1.89.0"));
        assert_eq!((comparison.before, comparison.verdict), (None, Verdict::Unknown));
        assert!(comparison.verdict.is_failure());
    }

    #[test]
    fn the_ledger_in_the_tree_knows_every_scenario() {
        let ledger =
            Ledger::parse(include_str!("../../instructions.toml")).expect("it was written by --bless");
        for scenario in Scenario::ALL {
            assert!(ledger.instructions_per_command.contains_key(scenario.name()), "{scenario:?}");
        }
    }
}
