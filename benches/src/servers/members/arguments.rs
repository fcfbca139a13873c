//! The command line.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Parser, ValueEnum};
use serde::Serialize;

use super::super::contender::Contender;
use super::super::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  cargo build --release -p paxos-node
  cargo bench -p benches --features servers --bench members
  cargo bench -p benches --features servers --bench members -- --rounds 9 --json members.json --check
  cargo bench -p benches --features servers --bench members -- --only paxos-node --rounds 1 --keep /var/tmp/members

Exit codes: 0 done, 1 failed, or with --check a goal was missed, 2 usage";

/// Measures how long clients wait at most while members of a cluster come, go and lead: paxos-node and etcd.
///
/// Paths are relative to the directory `benches`, where cargo runs this program.
#[derive(Parser, Clone, Debug)]
#[command(name = "members", after_help = EXAMPLES)]
pub struct Arguments {
    /// The program of paxos-node [default: where `cargo build --release -p paxos-node` puts it].
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
    /// The program of etcd.
    #[arg(long, value_name = "PATH", default_value = "etcd")]
    pub(super) etcd: PathBuf,
    /// How many times each server goes through all actions, each time as a new cluster.
    #[arg(long, value_name = "COUNT", default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=50))]
    pub(super) rounds: u8,
    /// How many clients write all the time.
    #[arg(long, value_name = "COUNT", default_value_t = 8, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(super) clients: u8,
    /// How long a client waits for an answer before it asks another node; etcd itself gives up after 7.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u8).range(1..=30))]
    answer_timeout: u8,
    /// Which servers to measure [default: all].
    #[arg(long, value_name = "SERVER,..", value_delimiter = ',')]
    only: Vec<Server>,
    /// Write all results to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    pub(super) json: Option<PathBuf>,
    /// Fail if a goal is missed or was not measured; one below what bare processes reach counts as met.
    #[arg(long)]
    pub(super) check: bool,
    /// Have the nodes of paxos-node log at level `debug`, and keep what all servers logged in this new
    /// directory; it slows them down a little.
    #[arg(long, value_name = "DIR")]
    pub(super) keep: Option<PathBuf>,
    /// A directory on a disk, in which a temporary one is made for all data [default: cargo's target
    /// directory].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Given by cargo to each bench.
    #[arg(long, hide = true)]
    bench: bool,
    /// A program beside which cargo puts that of paxos-node.
    #[arg(skip)]
    built: PathBuf,
    /// The default of `data`.
    #[arg(skip)]
    target: PathBuf,
}

/// A server, and for paxos-node what carries its messages.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Server {
    /// Over QUIC.
    PaxosNode,
    /// Over TCP.
    PaxosNodeTcp,
    Etcd,
    /// Three bare processes, which no action is done to.
    Bare,
}

impl Server {
    pub(super) fn name(self) -> &'static str {
        match self {
            Server::PaxosNode => "paxos-node",
            Server::PaxosNodeTcp => "paxos-node-tcp",
            Server::Etcd => "etcd",
            Server::Bare => "bare",
        }
    }

    /// Which protocol its clients speak.
    pub(super) fn contender(self) -> Contender {
        match self {
            Server::PaxosNode | Server::PaxosNodeTcp => Contender::PaxosNode,
            Server::Etcd => Contender::Etcd,
            Server::Bare => Contender::Bare,
        }
    }
}

impl Arguments {
    /// Reads the command line; ends the program with a message if it is wrong. `built` is a program that
    /// cargo has put where it puts paxos-node.
    #[must_use]
    pub fn read(target: impl Into<PathBuf>, built: impl Into<PathBuf>) -> Arguments {
        Arguments { target: target.into(), built: built.into(), ..Arguments::parse() }
    }

    pub(super) fn program(&self) -> PathBuf {
        self.program.clone().unwrap_or_else(|| self.built.with_file_name("paxos-node"))
    }

    /// The program of the bare processes.
    pub(super) fn bare(&self) -> &Path {
        &self.built
    }

    /// Those that are asked for, each once, in their usual order.
    pub(super) fn servers(&self) -> Vec<Server> {
        let all = Server::value_variants().iter().copied();
        all.filter(|server| self.only.is_empty() || self.only.contains(server)).collect()
    }

    pub(super) fn answer_timeout(&self) -> Duration {
        Duration::from_secs(self.answer_timeout.into())
    }

    pub(super) fn data(&self) -> &Path {
        self.data.as_deref().unwrap_or(&self.target)
    }

    /// Checks that all results can be written before minutes are spent on measuring.
    pub(super) fn check(&self) -> Result<(), Failure> {
        if let Some(json) = &self.json {
            let opened = std::fs::File::options().append(true).create(true).open(json);
            opened.map_err(|error| Failure::new(format!("--json {}: {error}", json.display())))?;
        }
        if let Some(keep) = &self.keep {
            std::fs::create_dir(keep)
                .map_err(|error| Failure::new(format!("--keep {}: {error}", keep.display())))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_come_once_each_and_numbers_have_bounds() {
        let parse = |words: &[&str]| Arguments::try_parse_from([&["members"], words].concat());
        let all = parse(&["--bench"]).expect("cargo's flag is known");
        assert_eq!(all.servers(), Server::value_variants());
        assert_eq!((all.rounds, all.clients, all.check), (5, 8, false));
        let some = parse(&["--only", "etcd,paxos-node,etcd", "--check"]).expect("these are servers");
        assert_eq!((some.servers(), some.check), (vec![Server::PaxosNode, Server::Etcd], true));
        let built = Arguments { built: PathBuf::from("elsewhere/release/bare"), ..all };
        assert_eq!(built.program(), Path::new("elsewhere/release/paxos-node"));
        for wrong in [["--only", "redis"], ["--rounds", "0"], ["--clients", "65"]] {
            assert!(parse(&wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_directory_with_earlier_logs_is_not_written_to() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let keep = directory.path().display().to_string();
        let arguments = Arguments::try_parse_from(["members", "--keep", &keep]).expect("it is a path");
        let failure = arguments.check().expect_err("the directory is there already");
        assert!(failure.to_string().contains("--keep"), "{failure}");
    }
}
