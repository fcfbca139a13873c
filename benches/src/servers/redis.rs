//! Redis that syncs its log before it answers: alone, or with copies. Snapshots and rewriting of the log are
//! off: they would cost it time, and nothing here needs them.
//!
//! Copies have logs of their own and sync them, too, but Redis does not wait for them: a write that was
//! acknowledged may be on one disk alone. So they show what processors and disk leave for a server when three
//! processes do its work, not what it costs to agree.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;

use super::failure::Failure;
use super::node::Node;
use super::process::{Process, free_ports};

/// Longer than any pause by SIGSTOP, so that none counts as the loss of a copy.
const COPY_TIMEOUT_SECONDS: u32 = 86_400;

/// A server that clients write to, and `copies` replicas.
pub(super) fn start(program: &Path, directory: &Path, copies: usize) -> Result<Vec<Node>, Failure> {
    let ports = free_ports(1 + copies);
    let mut nodes = Vec::new();
    for (id, port) in (1..).zip(&ports) {
        let name = format!("redis-{id}");
        let directory = directory.join(&name);
        let fail = |error| Failure::new(format!("{}: {error}", directory.display()));
        std::fs::create_dir(&directory).map_err(fail)?;
        let leader = format!("127.0.0.1 {}", ports[0]);
        let more = if id > 1 { &["--replicaof", &leader][..] } else { &[] };
        nodes.push(serve(program, &directory, &name, *port, more)?);
    }
    Ok(nodes)
}

/// Starts a server on a directory, which may hold what an earlier one has left.
pub(super) fn serve(
    program: &Path,
    directory: &Path,
    name: &str,
    port: u16,
    more: &[&str],
) -> Result<Node, Failure> {
    let mut command = Command::new(program);
    command.args(["--bind", "127.0.0.1", "--port", &port.to_string()]).arg("--dir").arg(directory);
    command.args(["--appendonly", "yes", "--appendfsync", "always"]);
    command.args(["--save", "", "--auto-aof-rewrite-percentage", "0"]).args(more);
    // A copy that falls behind is waited for: starting it anew would cost more.
    command.args(["--client-output-buffer-limit", "replica 0 0 0", "--repl-diskless-sync-delay", "0"]);
    command.args(["--repl-timeout", &COPY_TIMEOUT_SECONDS.to_string()]);
    let clients = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    Ok(Node { process: Process::start(name, command, directory)?, clients, status: clients })
}
