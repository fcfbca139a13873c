//! The `paxos-node` program: a durable, linearizable key-value store for any Redis client.

use std::process::ExitCode;

fn main() -> ExitCode {
    paxos_node::cli::run()
}
