//! `paxos-node backup`: takes backups and checks them.

#[cfg(any(feature = "quic", feature = "tcp"))]
mod file;
#[cfg(any(feature = "quic", feature = "tcp"))]
mod take;
mod verify;

pub(super) use self::verify::{open, when};
use clap::{Args, Subcommand};
use paxos_node::backup::BackupError;

use super::Failure;

const EXAMPLES: &str = "\
Examples:
  paxos-node backup --via a:9001,b:9001 --certs certs --out today.backup
  paxos-node backup --via a:9001 --certs certs --out today.backup --overwrite --node 3
  paxos-node backup verify today.backup
  paxos-node backup verify today.backup --json | jq .slot

'paxos-node restore' makes a new cluster from a backup. Exit codes: 0 done, 1 not done, 2 usage, 4 the backup is damaged";

/// Take a backup of a running cluster, or check one.
///
/// A backup is the state after one slot: everything that was acknowledged before it was begun, and nothing by
/// halves. It comes from a follower or a learner, if there is one, and nobody waits for it. FILE appears
/// under its name only when all of it is on the disk.
#[derive(Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[cfg(any(feature = "quic", feature = "tcp"))]
    #[command(flatten)]
    take: take::Take,
}

#[derive(Subcommand)]
enum Command {
    Verify(verify::Verify),
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.command {
        Some(Command::Verify(arguments)) => verify::run(arguments),
        None => take(arguments),
    }
}

#[cfg(any(feature = "quic", feature = "tcp"))]
fn take(arguments: &Arguments) -> Result<(), Failure> {
    take::run(&arguments.take)
}

#[cfg(not(any(feature = "quic", feature = "tcp")))]
fn take(_: &Arguments) -> Result<(), Failure> {
    Err(Failure::usage("this program is built without a network: it can only check backups"))
}

/// A failure to read the backup in a file.
pub(super) fn unreadable(file: &std::path::Path, error: BackupError) -> Failure {
    let line = format!("{}: {error}", file.display());
    match error {
        BackupError::Storage(error) => error.into(),
        BackupError::Io(_) | BackupError::TooManyRevisions { .. } | BackupError::Version { .. } => {
            Failure::usage(line)
        }
        _ => Failure::damaged(line),
    }
}
