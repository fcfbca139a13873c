//! The command line.

use clap::{Args, Parser, Subcommand};

const EXAMPLES: &str = "\
Examples:
  paxos-sim --events 100M                 a hundred million events over fresh seeds
  paxos-sim --events 1M --seed 7          the same seeds again, from 7 on
  paxos-sim replay 4711                   the scenario and trace of seed 4711, shrunk if it breaks a rule
  paxos-sim mutants                       how fast each of the known bugs is found";

/// Simulates Paxos clusters in bad weather and looks for broken rules.
#[derive(Parser, Debug)]
#[command(version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) action: Option<Action>,
    #[command(flatten)]
    pub(crate) suite: Suite,
}

/// A run over many seeds.
#[derive(Args, Debug)]
pub(crate) struct Suite {
    /// Stop after this many events; k, M and G may follow the number
    #[arg(long, default_value = "10M", value_parser = count)]
    pub(crate) events: u64,
    /// The first seed; if left out, a fresh one for each run
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// The size of all clusters; if left out, each seed draws it
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(["3", "5", "7"]))]
    nodes: Option<String>,
    /// How many threads; if left out, one for each core
    #[arg(long)]
    pub(crate) jobs: Option<usize>,
}

impl Suite {
    pub(crate) fn nodes(&self) -> Option<usize> {
        self.nodes.as_ref().and_then(|nodes| nodes.parse().ok())
    }
}

#[derive(Subcommand, Debug)]
pub(crate) enum Action {
    /// Print the scenario and trace of a seed; if it breaks a rule, those of a smaller scenario that breaks
    /// it, too
    Replay {
        /// The seed
        seed: u64,
        /// The size of the cluster, if the run was started with --nodes
        #[arg(long)]
        nodes: Option<usize>,
    },
    /// Switch the known bugs on, one at a time, and check that each is found
    Mutants {
        /// How many seeds to try for each
        #[arg(long, default_value_t = 40_000)]
        seeds: u64,
        /// Only mutants whose name contains this
        #[arg(long)]
        only: Option<String>,
    },
}

/// Reads a number like `250_000`, `100k`, `100M` or `2G`.
fn count(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(['k', 'M', 'G']);
    let factor = match &text[digits.len()..] {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        other => return Err(format!("unknown unit {other}: use k, M or G")),
    };
    let number: u64 = digits.replace('_', "").parse().map_err(|error| format!("{text}: {error}"))?;
    number.checked_mul(factor).ok_or_else(|| format!("{text} is too large"))
}
