//! The command line: what is measured, and for how long.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Parser, ValueEnum};

use super::contender::Contender;
use super::failure::Failure;

/// Puts paxos-node, etcd and Redis under the same load, one at a time and round by round, and compares them.
///
/// Paths are relative to the directory `benches`, where cargo runs this program.
#[derive(Parser, Clone, Debug)]
#[command(name = "servers")]
pub struct Arguments {
    /// The program of paxos-node [default: where `cargo build --release -p paxos-node` puts it].
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
    /// The program of etcd.
    #[arg(long, value_name = "PATH", default_value = "etcd")]
    pub(super) etcd: PathBuf,
    /// The program of Redis.
    #[arg(long, value_name = "PATH", default_value = "redis-server")]
    pub(super) redis: PathBuf,
    /// How long each measurement takes.
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=60))]
    seconds: u16,
    /// How many times each measurement is made; the median is reported.
    #[arg(long, value_name = "COUNT", default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=50))]
    pub(super) rounds: u8,
    /// Which servers to measure [default: all].
    #[arg(long, value_name = "SERVER,..", value_delimiter = ',')]
    only: Vec<Contender>,
    /// Measure the longest waits of paxos-node and Redis instead, over minutes of writing.
    #[arg(long, conflicts_with_all = ["seconds", "rounds", "only", "json", "plots"])]
    pub(super) tail: bool,
    /// Fail if one of these is above its bound.
    #[arg(long, requires = "tail")]
    pub(super) check: bool,
    /// Write all results to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    pub(super) json: Option<PathBuf>,
    /// Write servers.svg to this directory.
    #[arg(long, value_name = "DIR")]
    pub(super) plots: Option<PathBuf>,
    /// A directory on a disk, in which a temporary one is made for all data [default: cargo's target
    /// directory].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Given by cargo to each bench.
    #[arg(long, hide = true)]
    bench: bool,
    /// The bare process, as cargo built it.
    #[arg(skip)]
    pub(super) bare: PathBuf,
    /// The default of `data`.
    #[arg(skip)]
    target: PathBuf,
}

impl Arguments {
    /// Reads the command line; ends the program with a message if it is wrong.
    #[must_use]
    pub fn read(target: impl Into<PathBuf>, bare: impl Into<PathBuf>) -> Arguments {
        Arguments { target: target.into(), bare: bare.into(), ..Arguments::parse() }
    }

    /// The program of paxos-node: cargo puts it beside the bare process, whatever its target directory is.
    pub(super) fn program(&self) -> PathBuf {
        self.program.clone().unwrap_or_else(|| self.bare.with_file_name("paxos-node"))
    }

    pub(super) fn time(&self) -> Duration {
        Duration::from_secs(self.seconds.into())
    }

    /// Those that are asked for, each once, in their usual order.
    pub(super) fn contenders(&self) -> Vec<Contender> {
        let all = Contender::value_variants().iter().copied();
        all.filter(|contender| self.only.is_empty() || self.only.contains(contender)).collect()
    }

    /// Where all data goes.
    pub(super) fn data(&self) -> &Path {
        self.data.as_deref().unwrap_or(&self.target)
    }

    /// Checks that all reports can be written before minutes are spent on measuring.
    pub(super) fn check(&self) -> Result<(), Failure> {
        if let Some(plots) = self.plots.as_ref().filter(|plots| !plots.is_dir()) {
            return Err(Failure::new(format!("--plots {}: there is no such directory", plots.display())));
        }
        if let Some(json) = &self.json {
            std::fs::File::options()
                .append(true)
                .create(true)
                .open(json)
                .map_err(|error| Failure::new(format!("--json {}: {error}", json.display())))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_come_once_each_and_the_flag_of_cargo_is_taken() {
        let parse = |words: &[&str]| Arguments::try_parse_from([&["servers"], words].concat());
        let all = parse(&["--bench"]).expect("cargo's flag is known");
        assert_eq!(all.contenders(), Contender::value_variants());
        let some = parse(&["--only", "redis,paxos-node,redis"]).expect("these are servers");
        assert_eq!(some.contenders(), [Contender::PaxosNode, Contender::Redis]);
        let built = Arguments { bare: PathBuf::from("elsewhere/release/bare"), ..all };
        assert_eq!(built.program(), Path::new("elsewhere/release/paxos-node"));
        assert_eq!(parse(&["--program", "mine"]).expect("it is a path").program(), Path::new("mine"));
        assert!(parse(&["--only", "zookeeper"]).is_err());
        assert!(parse(&["--rounds", "0"]).is_err());
    }
}
