//! The command line.

use std::path::PathBuf;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

/// Calls, and what each shows.
const EXAMPLES: [(&str, &str); 4] = [
    ("--events 100M", "a hundred million events over fresh seeds"),
    ("--events 1M --seed 7", "the same seeds again, from 7 on"),
    ("replay 4711", "the scenario and trace of seed 4711, shrunk if it breaks a rule"),
    ("mutants", "how fast each of the known bugs is found"),
];

/// Reads the command line of the program with this name. Ends the process if it can't be understood, or asks
/// for nothing but help.
pub(super) fn parse(name: &str) -> Arguments {
    let examples = EXAMPLES.map(|(call, shows)| format!("\n  {name} {call:<29} {shows}"));
    let command = Arguments::command().after_help(format!("Examples:{}", examples.concat()));
    Arguments::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit())
}

/// Simulates Paxos clusters in bad weather and looks for broken rules.
#[derive(Parser, Debug)]
#[command(version, args_conflicts_with_subcommands = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) action: Option<Action>,
    #[command(flatten)]
    pub(super) suite: SuiteArguments,
}

/// A run over many seeds.
#[derive(Args, Debug)]
pub(super) struct SuiteArguments {
    /// Stop after this many events; k, M and G may follow the number
    #[arg(long, default_value = "10M", value_parser = count)]
    pub(super) events: u64,
    /// The first seed; if left out, a fresh one for each run
    #[arg(long)]
    pub(super) seed: Option<u64>,
    /// The size of all clusters; if left out, each seed draws it
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(["3", "5", "7"]))]
    nodes: Option<String>,
    /// How many threads; if left out, one for each core
    #[arg(long)]
    pub(super) jobs: Option<usize>,
    /// A list of seeds to begin with, one a line; if left out, the program's own
    #[arg(long, value_name = "FILE")]
    pub(super) failed_seeds: Option<PathBuf>,
    /// Add a row about the run to this table in Markdown
    #[arg(long, value_name = "FILE")]
    pub(super) ledger: Option<PathBuf>,
}

impl SuiteArguments {
    pub(super) fn nodes(&self) -> Option<usize> {
        self.nodes.as_ref().and_then(|nodes| nodes.parse().ok())
    }
}

#[derive(Subcommand, Debug)]
pub(super) enum Action {
    /// Print the scenario and trace of a seed; if it breaks a rule, those of a smaller scenario that breaks
    /// it, too
    Replay {
        /// The seed
        seed: u64,
        /// The size of the cluster, if the run was started with --nodes
        #[arg(long)]
        nodes: Option<usize>,
        /// Tell only what the state machine sees: commands and their answers, snapshots, restarts
        #[arg(long)]
        brief: bool,
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
    let parsed = digits.replace('_', "").parse::<u64>();
    let number = parsed.map_err(|_| format!("{text} is no number, or its unit is none of k, M and G"))?;
    number.checked_mul(factor).ok_or_else(|| format!("{text} is too large"))
}
