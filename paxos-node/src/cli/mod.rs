//! The command line: what can be asked for, and how it ends.
//!
//! Exit codes: 0 done, 1 failed otherwise, 2 usage or configuration, 3 the storage failed, 4 the storage is
//! damaged.

mod bench;
mod certs;
#[cfg(feature = "file")]
mod format;
#[cfg(feature = "file")]
mod local;
pub(crate) mod options;
mod runtime;
mod serve;
mod status;
#[cfg(feature = "file")]
mod wal;

use std::fmt;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use self::options::{LogFormat, LogOptions};

/// Why the program ends with an error: one line for the user, and a code for scripts.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    line: String,
}

impl Failure {
    /// Something about the command line, the configuration or the surroundings has to be changed first.
    pub(crate) fn usage(line: impl fmt::Display) -> Failure {
        Failure { code: 2, line: line.to_string() }
    }

    /// Anything else.
    pub(crate) fn other(line: impl fmt::Display) -> Failure {
        Failure { code: 1, line: line.to_string() }
    }

    /// The storage is damaged, or not the one that the node is known by.
    pub(crate) fn damaged(line: impl fmt::Display) -> Failure {
        Failure { code: 4, line: line.to_string() }
    }

    fn storage(error: &paxos_storage::Error) -> Failure {
        use paxos_storage::ErrorKind;
        let code = match error.kind() {
            ErrorKind::Damaged => 4,
            ErrorKind::Unusable => 2,
            _ => 3,
        };
        Failure { code, line: error.to_string() }
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
            NodeError::Config(_) | NodeError::Settings(_) => Failure::usage(error),
            NodeError::Recover(_) | NodeError::OtherDisk { .. } => Failure::damaged(error),
            NodeError::Restore { .. } => Failure { code: 3, line: error.to_string() },
            other => Failure::other(other),
        }
    }
}

const EXAMPLES: &str = "\
Examples:
  paxos-node local                          a cluster of three on this machine, to try things out
  paxos-node certs --out certs --nodes 3    then, on each machine with its certificate:
  paxos-node format --id 1 --data data
  paxos-node serve --id 1 --peers 1=a:9001,2=b:9001,3=c:9001 \\
      --client 0.0.0.0:6379 --http 0.0.0.0:8001 --data data --certs certs
  paxos-node status a:8001,b:8001,c:8001
  paxos-node bench                          what transports and storages cost on this machine
  paxos-node wal inspect data               what a data directory holds, and whether it is damaged

Exit codes: 0 done, 1 failed otherwise, 2 usage or configuration, 3 storage failed, 4 storage damaged";

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
    /// Make a cluster CA and a certificate and key for each node.
    Certs(certs::Arguments),
    /// Make an empty data directory that of a node.
    #[cfg(feature = "file")]
    Format(format::Arguments),
    /// Run a node.
    Serve(Box<options::ServeOptions>),
    /// Run a whole cluster on this machine.
    #[cfg(feature = "file")]
    Local(local::Arguments),
    /// Show how the nodes of a cluster are doing.
    Status(status::Arguments),
    /// Measure backends against each other in this process, or a cluster that runs.
    Bench(Box<bench::Arguments>),
    /// Look into a node's data directory.
    #[cfg(feature = "file")]
    Wal(wal::Arguments),
}

/// Runs what the command line asks for.
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
        Command::Serve(options) => options.resolve(cli.log).and_then(serve::run),
        #[cfg(feature = "file")]
        Command::Local(arguments) => start_log(&cli.log).and_then(|()| local::run(&arguments, &cli.log)),
        Command::Status(arguments) => status::run(&arguments),
        Command::Bench(arguments) => start_log(&cli.log).and_then(|()| bench::run(&arguments)),
        #[cfg(feature = "file")]
        Command::Wal(arguments) => wal::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("paxos-node: {}", failure.line);
            ExitCode::from(failure.code)
        }
    }
}

/// Sends the log to standard error.
fn start_log(options: &LogOptions) -> Result<(), Failure> {
    let filter = options.log.as_deref().unwrap_or("warn");
    let filter = EnvFilter::try_new(filter)
        .map_err(|error| Failure::usage(format!("--log {filter}: {error}; try for example --log info")))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match options.log_format.unwrap_or_default() {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
    Ok(())
}
