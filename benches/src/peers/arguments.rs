//! What the bench is asked on its command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum, builder::RangedU64ValueParser};
use paxos_node::in_process::Threads;

use super::contender::Contender;

/// How many commands a second three replicas of each library commit, side by side.
///
/// Every row is measured in rounds, all contenders one after the other in each, and the median over the
/// rounds counts. The table goes to stdout, progress to stderr.
#[derive(Clone, Parser, Debug)]
#[command(name = "cargo bench -p benches --features peers --bench peers --")]
pub struct Arguments {
    /// How long each contender is measured in each round.
    #[arg(long, default_value = "1", value_parser = seconds)]
    pub seconds: Duration,
    /// How long its clients run before that.
    #[arg(long, default_value = "0.3", value_parser = seconds)]
    pub warm_up_seconds: Duration,
    /// How many rounds there are.
    #[arg(long, default_value = "5", value_parser = RangedU64ValueParser::<usize>::new().range(1..=100))]
    pub rounds: usize,
    /// How many clients there are; each waits for its command before it has another.
    #[arg(long, value_delimiter = ',', default_value = "1,64,256,4096",
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=16384))]
    pub clients: Vec<usize>,
    /// How long commands are.
    #[arg(long, value_delimiter = ',', default_value = "0,256",
          value_parser = RangedU64ValueParser::<usize>::new().range(0..=65536))]
    pub command_bytes: Vec<usize>,
    /// Which threads the replicas run on: all on one, or each on its own.
    #[arg(long, value_delimiter = ',', default_value = "shared,per-node")]
    pub threads: Vec<Threads>,
    /// Only these contenders.
    #[arg(long, value_delimiter = ',', value_enum, default_values_t = Contender::ALL)]
    pub only: Vec<Contender>,
    /// Where logs are kept. Those without a log on disk are left out with `disk`.
    #[arg(long, value_enum, default_value = "memory")]
    pub log: LogKind,
    /// Where directories for logs on disk are made, instead of Cargo's target directory.
    #[arg(long)]
    pub data: Option<PathBuf>,
    /// Write the rows to this file, too.
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// Draw the last table as `libraries.svg` in this directory, with logs on disk as `libraries-disk.svg`.
    #[arg(long)]
    pub plots: Option<PathBuf>,
    /// Fail if `paxos-node` is behind the best of the others in a row with 64 clients or more.
    #[arg(long)]
    pub check: bool,
    /// Cargo passes it to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Where logs are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum LogKind {
    /// In memory.
    Memory,
    /// On disk, synced.
    Disk,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "it is not a number of seconds".to_owned())?;
    if (0.01..=600.0).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err("it must be between 0.01 and 600".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cargo_passes_is_ignored() {
        let arguments = Arguments::try_parse_from(["peers", "--rounds", "3", "--bench"]);
        assert_eq!(arguments.map(|arguments| arguments.rounds).ok(), Some(3));
    }

    #[test]
    fn no_clients_are_refused() {
        assert!(Arguments::try_parse_from(["peers", "--clients", "0"]).is_err());
    }
}
