//! Three members of etcd, with its defaults: each has synced an entry before it is answered.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;

use super::failure::Failure;
use super::grpc;
use super::node::{NODES, Node};
use super::process::{Process, free_ports};

pub(super) fn start(program: &Path, directory: &Path) -> Result<Vec<Node>, Failure> {
    let ports = free_ports(2 * NODES);
    let (peers, clients) = ports.split_at(NODES);
    let peers: Vec<String> = peers.iter().map(|port| format!("http://127.0.0.1:{port}")).collect();
    let all: Vec<String> = (1..).zip(&peers).map(|(id, peer)| format!("{}={peer}", name(id))).collect();
    let all = all.join(",");
    let mut nodes = Vec::new();
    for (id, (peer, port)) in (1..).zip(peers.iter().zip(clients)) {
        nodes.push(serve(program, directory, id, (peer, *port), ["new", &all])?);
    }
    Ok(nodes)
}

/// The name of a member, by its number.
pub(super) fn name(id: u64) -> String {
    format!("etcd-{id}")
}

/// Starts a member on a directory of its own. `peer` is its URL for peers, `port` the one for clients; the
/// last two are whether it is new or exists already, and who the members are.
pub(super) fn serve(
    program: &Path,
    directory: &Path,
    id: u64,
    (peer, port): (&str, u16),
    [state, all]: [&str; 2],
) -> Result<Node, Failure> {
    let name = name(id);
    let clients = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let url = format!("http://{clients}");
    let mut command = Command::new(program);
    command.args(["--name", &name, "--data-dir"]).arg(directory.join(format!("node-{id}")));
    command.args(["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]);
    command.args(["--listen-client-urls", &url, "--advertise-client-urls", &url]);
    command.args(["--initial-cluster", all, "--initial-cluster-state", state]);
    command.args(["--logger", "zap", "--log-level", "warn"]);
    Ok(Node { process: Process::start(&name, command, directory)?, clients, status: clients })
}

/// The place of the leader among the members, if all know the same one.
pub(super) async fn leader(nodes: &[Node]) -> Option<usize> {
    let mut members = Vec::new();
    for node in nodes {
        members.push(grpc::member_and_leader(node.status).await.ok()?);
    }
    let (_, leader) = *members.first()?;
    let all_agree = members.iter().all(|(_, other)| *other == leader);
    let place = members.iter().position(|(member, _)| Some(*member) == leader)?;
    all_agree.then_some(place)
}
