//! The `paxos-node` program: a durable, linearizable key-value store for any Redis client.

use std::process::ExitCode;

/// The states of the store are filled by one thread and freed by others. With the allocator of glibc, whose
/// threads have memory of their own, a node that installed a snapshot took half as much again.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    paxos_node::cli::run()
}
