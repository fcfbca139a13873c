//! One Redis that syncs its log before it answers. Snapshots and rewriting of the log are off: they would cost it time,
//! and nothing here needs them.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;

use super::Failure;
use super::process::{Process, free_ports};
use super::server::Node;

pub(super) fn start(program: &Path, directory: &Path) -> Result<Vec<Node>, Failure> {
    let clients = SocketAddr::from((Ipv4Addr::LOCALHOST, free_ports(1)[0]));
    let mut command = Command::new(program);
    command.args(["--bind", "127.0.0.1", "--port", &clients.port().to_string()]).arg("--dir").arg(directory);
    command.args(["--appendonly", "yes", "--appendfsync", "always"]);
    command.args(["--save", "", "--auto-aof-rewrite-percentage", "0"]);
    let process = Process::start("redis", command, directory)?;
    Ok(vec![Node { process, clients, status: clients }])
}
