//! The command line: the subcommands, and the exit codes of the program.
//!
//! Exit codes: 0 done, 1 failed otherwise, 2 usage or configuration, 3 the storage failed, 4 the storage is
//! damaged, 5 the node was removed from its cluster, 6 the data needs a newer version of the program.

#[cfg(feature = "file")]
mod backup;
mod bench;
mod certs;
#[cfg(any(feature = "quic", feature = "tcp"))]
mod check;
mod choice;
mod descriptors;
#[cfg(feature = "file")]
mod format;
#[cfg(any(feature = "quic", feature = "tcp"))]
mod join;
mod listen;
#[cfg(feature = "file")]
mod local;
mod logging;
#[cfg(any(feature = "quic", feature = "tcp"))]
mod member;
mod memory;
pub(crate) mod options;
#[cfg(feature = "file")]
mod refound;
#[cfg(any(feature = "quic", feature = "tcp"))]
mod reread;
#[cfg(feature = "file")]
mod rescue;
#[cfg(feature = "file")]
mod restore;
mod runtime;
#[cfg(any(feature = "quic", feature = "tcp"))]
mod serve;
#[cfg(all(feature = "file", any(feature = "quic", feature = "tcp")))]
mod space;
mod status;
#[cfg(any(feature = "quic", feature = "tcp"))]
mod supervisor;
mod terminal;
#[cfg(feature = "file")]
mod wal;

use std::fmt;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use self::logging::start_log;
use self::options::LogOptions;

/// Why the program ends with an error: one line for the user, and a code for scripts.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    line: String,
}

impl Failure {
    /// The user has to change the command line, the configuration or the machine's set-up first.
    pub(crate) fn usage(line: impl fmt::Display) -> Failure {
        Failure { code: 2, line: line.to_string() }
    }

    /// Any other failure.
    pub(crate) fn other(line: impl fmt::Display) -> Failure {
        Failure { code: 1, line: line.to_string() }
    }

    /// The storage is damaged, or is not the one that the node's peers know.
    pub(crate) fn damaged(line: impl fmt::Display) -> Failure {
        Failure { code: 4, line: line.to_string() }
    }

    fn storage(error: &paxos_storage::Error) -> Failure {
        use paxos_storage::ErrorKind;
        let code = match error.kind() {
            _ if error.needs_newer_program() => 6,
            ErrorKind::Damaged => 4,
            ErrorKind::Unusable => 2,
            _ => 3,
        };
        Failure { code, line: format!("{error}{}", storage_advice(error)) }
    }
}

/// What to do about an error of the storage with the means of this program.
fn storage_advice(error: &paxos_storage::Error) -> &'static str {
    match error {
        paxos_storage::Error::NotFormatted { .. } => " If the node is new, run 'paxos-node format' first",
        paxos_storage::Error::Damaged(damage) if !damage.is_promise_intact => {
            ", as the README tells under 'Replacing a node'"
        }
        _ => "",
    }
}

impl From<paxos_storage::Error> for Failure {
    fn from(error: paxos_storage::Error) -> Failure {
        Failure::storage(&error)
    }
}

impl From<paxos_node::NodeError> for Failure {
    fn from(error: paxos_node::NodeError) -> Failure {
        use paxos_node::NodeError;
        match error {
            NodeError::Storage(error) => Failure::storage(&error),
            NodeError::Config(_)
            | NodeError::Settings(_)
            | NodeError::StorageOfOtherNode { .. }
            | NodeError::TransportOfOtherNode { .. }
            | NodeError::OtherCluster { .. }
            | NodeError::OtherMembers { .. }
            | NodeError::HalfRestored
            | NodeError::FramesTooSmall { .. } => Failure::usage(error),
            NodeError::OtherDisk { .. } => {
                Failure::damaged(format!("{error}, as the README tells under 'Replacing a node'"))
            }
            NodeError::Recover(_) | NodeError::OldCopy { .. } => Failure::damaged(error),
            NodeError::Removed { .. } => Failure { code: 5, line: error.to_string() },
            NodeError::NeedsNewerProgram { .. } => Failure { code: 6, line: error.to_string() },
            NodeError::Restore { .. } | NodeError::StorageSilent => {
                Failure { code: 3, line: error.to_string() }
            }
            other => Failure::other(other),
        }
    }
}

const EXAMPLES: &str = "\
Examples:
  paxos-node local                          a cluster of three on this machine, to try things out
  paxos-node certs --out certs --nodes 3    later --add 4 for one more; then, on each machine with its certificate:
  paxos-node format --id 1 --data data
  paxos-node serve --id 1 --peers 1=a:9001,2=b:9001,3=c:9001 \\
      --client 0.0.0.0:6379 --http 0.0.0.0:8001 --data data --certs certs
  paxos-node serve ... --client-tls 0.0.0.0:6380 --users users.acl     for clients with TLS who log in
  paxos-node check --config node.toml       what serve would be started with; nothing is started
  paxos-node certs renew --out certs        new certificates by the same CA; running nodes take them up
  paxos-node status a:8001,b:8001,c:8001
  paxos-node member replace --id 2 --with 4 --address d:9001 --via a:9001,c:9001 --certs certs
  paxos-node backup --via a:9001,b:9001 --certs certs --out today.backup
  paxos-node bench                          what transports and storages cost on this machine
  paxos-node wal inspect data               what a data directory holds, and whether it is damaged

Exit codes: 0 done, 1 failed otherwise, 2 usage or configuration, 3 storage failed, 4 storage damaged,
  5 node removed from its cluster, 6 the data needs a newer version of the program";

#[cfg(any(feature = "quic", feature = "tcp"))]
const CHECK_EXAMPLES: &str = "\
Examples:
  paxos-node check --config /etc/paxos-node/node.toml && systemctl restart paxos-node
  PAXOS_ID=2 paxos-node check --config node.toml     as with serve, flags and variables go before the file";

/// A Multi-Paxos cluster that any Redis client can talk to.
#[derive(Parser)]
#[command(name = "paxos-node", version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    log: LogOptions,
}

#[derive(Subcommand)]
enum Command {
    /// Make a cluster CA and a certificate and key for each node and for operators.
    Certs(certs::Arguments),
    /// Turn an empty directory into a node's data directory.
    #[cfg(feature = "file")]
    Format(format::Arguments),
    /// Run a node.
    Serve(Box<options::ServeOptions>),
    /// Check what `serve` would be started with, and start nothing.
    ///
    /// Takes the options of `serve`. Reads the configuration, certificates, users and the data directory,
    /// which a running node may have open.
    #[cfg(any(feature = "quic", feature = "tcp"))]
    #[command(after_help = CHECK_EXAMPLES)]
    Check(Box<options::ServeOptions>),
    /// Run a whole cluster on this machine.
    #[cfg(feature = "file")]
    Local(local::Arguments),
    /// Show and change the members of a running cluster.
    #[cfg(any(feature = "quic", feature = "tcp"))]
    Member(member::Arguments),
    /// Take a backup of a running cluster, or check one.
    #[cfg(feature = "file")]
    Backup(backup::Arguments),
    /// Make a node's data directory for a new cluster from a backup.
    #[cfg(feature = "file")]
    Restore(restore::Arguments),
    /// Show the state of a cluster's nodes.
    Status(status::Arguments),
    /// Compare transports and storages in this process, or measure a running cluster.
    Bench(Box<bench::Arguments>),
    /// Go on with what is left of a cluster that has lost its majority.
    #[cfg(feature = "file")]
    Rescue(rescue::Arguments),
    /// Give a stopped cluster other members.
    #[cfg(feature = "file")]
    Refound(refound::Arguments),
    /// Inspect a node's data directory.
    #[cfg(feature = "file")]
    Wal(wal::Arguments),
}

/// Runs the subcommand that the command line names.
#[must_use]
pub fn run() -> ExitCode {
    let matches = Cli::command().get_matches();
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    let result = match cli.command {
        Command::Certs(arguments) => certs::run(&arguments),
        #[cfg(feature = "file")]
        Command::Format(arguments) => format::run(&arguments),
        Command::Serve(options) => options.resolve(cli.log).and_then(run_node),
        #[cfg(any(feature = "quic", feature = "tcp"))]
        Command::Check(options) => options.resolve(cli.log).and_then(|serve| check::run(&serve)),
        #[cfg(any(feature = "quic", feature = "tcp"))]
        Command::Member(arguments) => member::run(&arguments),
        #[cfg(feature = "file")]
        Command::Local(arguments) => start_log(&cli.log).and_then(|()| local::run(&arguments, &cli.log)),
        Command::Status(arguments) => status::run(&arguments),
        Command::Bench(arguments) => start_log(&cli.log).and_then(|()| bench::run(&arguments)),
        #[cfg(feature = "file")]
        Command::Backup(arguments) => backup::run(&arguments),
        #[cfg(feature = "file")]
        Command::Restore(arguments) => restore::run(&arguments),
        #[cfg(feature = "file")]
        Command::Rescue(arguments) => rescue::run(&arguments),
        #[cfg(feature = "file")]
        Command::Refound(arguments) => refound::run(&arguments),
        #[cfg(feature = "file")]
        Command::Wal(arguments) => wal::run(&arguments),
    };
    let result = result.and_then(|()| match terminal::output_failed() {
        None => Ok(()),
        Some(error) => Err(Failure::other(format!("standard output does not take everything: {error}"))),
    });
    let code = match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            terminal::warn_line(format_args!("paxos-node: {}", failure.line));
            ExitCode::from(failure.code)
        }
    };
    terminal::flush();
    code
}

#[cfg(any(feature = "quic", feature = "tcp"))]
use serve::run as run_node;

/// Without a transport that reaches other processes there is nothing to serve.
#[cfg(not(any(feature = "quic", feature = "tcp")))]
fn run_node(serve: options::Serve) -> Result<(), Failure> {
    Err(Failure::usage(paxos_node::backends::BackendError::NotCompiledIn { name: serve.transport.name() }))
}
