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
    let all: Vec<String> =
        (1..).zip(&peers).map(|(id, peer): (u64, _)| format!("etcd-{id}={peer}")).collect();
    let mut nodes = Vec::new();
    for (id, (peer, port)) in (1..).zip(peers.iter().zip(clients)) {
        let id: u64 = id;
        let name = format!("etcd-{id}");
        let clients = SocketAddr::from((Ipv4Addr::LOCALHOST, *port));
        let url = format!("http://{clients}");
        let mut command = Command::new(program);
        command.args(["--name", &name, "--data-dir"]).arg(directory.join(format!("node-{id}")));
        command.args(["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]);
        command.args(["--listen-client-urls", &url, "--advertise-client-urls", &url]);
        command.args(["--initial-cluster", &all.join(","), "--initial-cluster-state", "new"]);
        command.args(["--logger", "zap", "--log-level", "warn"]);
        nodes.push(Node { process: Process::start(&name, command, directory)?, clients, status: clients });
    }
    Ok(nodes)
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
