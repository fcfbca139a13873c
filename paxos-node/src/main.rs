//! The `paxos-node` program: a durable, linearizable key-value store for any Redis client.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
