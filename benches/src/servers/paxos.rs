//! Three nodes of paxos-node, set up by its own commands, with its defaults: QUIC and a log on disk.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::failure::Failure;
use super::node::{NODES, Node};
use super::process::{Process, free_ports};

const STATUS_TIMEOUT: Duration = Duration::from_secs(1);

pub(super) fn start(program: &Path, directory: &Path) -> Result<Vec<Node>, Failure> {
    let certificates = directory.join("certs");
    run(Command::new(program).arg("certs").arg("--out").arg(&certificates).args(["--nodes", "3"]))?;
    let ports = free_ports(3 * NODES);
    let (peers, ports) = ports.split_at(NODES);
    let all: Vec<String> =
        (1..).zip(peers).map(|(id, port): (u64, _)| format!("{id}=127.0.0.1:{port}")).collect();
    let mut nodes = Vec::new();
    for (id, ports) in (1..).zip(ports.chunks_exact(2)) {
        let id: u64 = id;
        let data = directory.join(format!("node-{id}"));
        let [clients, status] =
            [ports[0], ports[1]].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        run(Command::new(program).args(["format", "--id", &id.to_string(), "--data"]).arg(&data))?;
        let mut command = Command::new(program);
        // Standard input ends with this process, however that ends.
        command.args(["serve", "--stop-with-stdin", "--id", &id.to_string(), "--peers", &all.join(",")]);
        command.args(["--client", &clients.to_string(), "--http", &status.to_string()]);
        command.arg("--data").arg(&data).arg("--certs").arg(&certificates);
        let process = Process::start(&format!("paxos-node-{id}"), command, directory)?;
        nodes.push(Node { process, clients, status });
    }
    Ok(nodes)
}

/// The place of the leader among the nodes, if all are ready and know the same one.
pub(super) fn leader(nodes: &[Node]) -> Option<usize> {
    let mut leaders = nodes.iter().map(|node| {
        agent().get(format!("http://{}/readyz", node.status)).call().ok()?;
        status(node)?.get("leader")?.as_u64()
    });
    let first = leaders.next()??;
    let all_agree = leaders.all(|leader| leader == Some(first));
    let place = usize::try_from(first).ok()?.checked_sub(1)?;
    (all_agree && place < nodes.len()).then_some(place)
}

/// Fails if a node has received malformed messages: the figures would be wrong then.
pub(super) fn check_understood(nodes: &[Node]) -> Result<(), Failure> {
    for node in nodes {
        let count = status(node).and_then(|status| status.get("misunderstood")?.as_u64());
        if count != Some(0) {
            return Err(Failure::new(format!("{}: not understood, of its peers: {count:?}", node.status)));
        }
    }
    Ok(())
}

fn status(node: &Node) -> Option<serde_json::Value> {
    let mut status = agent().get(format!("http://{}/status", node.status)).call().ok()?;
    serde_json::from_str(&status.body_mut().read_to_string().ok()?).ok()
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().timeout_global(Some(STATUS_TIMEOUT)).build().into()
}

fn run(command: &mut Command) -> Result<(), Failure> {
    let output = command.output().map_err(|error| Failure::new(format!("{command:?}: {error}")))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(Failure::new(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim_end())))
    }
}
