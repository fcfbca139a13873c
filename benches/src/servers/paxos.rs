//! Three nodes of paxos-node, set up by its own commands, with its defaults: QUIC and a log on disk.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::failure::Failure;
use super::node::{NODES, Node};
use super::process::{Process, free_ports};

const STATUS_TIMEOUT: Duration = Duration::from_secs(1);

/// Where the nodes of a cluster have their data, and where they listen.
pub(super) struct Places {
    program: PathBuf,
    directory: PathBuf,
    /// The addresses for peers, as the program takes them.
    peers: String,
    /// For clients and for the status, of each node.
    ports: Vec<[u16; 2]>,
}

pub(super) fn start(program: &Path, directory: &Path) -> Result<Vec<Node>, Failure> {
    let places = Places::prepare(program, directory)?;
    (0..NODES).map(|place| places.start(place)).collect()
}

impl Places {
    /// Makes certificates, and finds ports that are free.
    pub(super) fn prepare(program: &Path, directory: &Path) -> Result<Places, Failure> {
        make_certificates(program, directory, NODES)?;
        let ports = free_ports(3 * NODES);
        let (peers, ports) = ports.split_at(NODES);
        let peers: Vec<String> =
            (1..).zip(peers).map(|(id, port): (u64, _)| format!("{id}=127.0.0.1:{port}")).collect();
        Ok(Places {
            program: program.to_owned(),
            directory: directory.to_owned(),
            peers: peers.join(","),
            ports: ports.chunks_exact(2).map(|ports| [ports[0], ports[1]]).collect(),
        })
    }

    /// Starts a node.
    pub(super) fn start(&self, place: usize) -> Result<Node, Failure> {
        let more = ["--peers", &self.peers];
        serve(&self.program, &self.directory, place as u64 + 1, self.ports[place], &more)
    }
}

/// Makes certificates for operators and for nodes 1 to `nodes`.
pub(super) fn make_certificates(program: &Path, directory: &Path, nodes: usize) -> Result<(), Failure> {
    let mut command = Command::new(program);
    command.args(["certs", "--nodes", &nodes.to_string(), "--out"]).arg(certificates(directory));
    run(&mut command)
}

/// Where [`make_certificates`] puts them.
pub(super) fn certificates(directory: &Path) -> PathBuf {
    directory.join("certs")
}

/// Starts a node on a directory of its own, which is formatted if it is new. The ports are those for clients
/// and for the status; `more` says how it finds its peers.
pub(super) fn serve(
    program: &Path,
    directory: &Path,
    id: u64,
    ports: [u16; 2],
    more: &[&str],
) -> Result<Node, Failure> {
    let data = directory.join(format!("node-{id}"));
    let [clients, status] = ports.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let id = id.to_string();
    run(Command::new(program).args(["format", "--if-missing", "--id", &id, "--data"]).arg(&data))?;
    let mut command = Command::new(program);
    // Standard input ends with this process, however that ends.
    command.args(["serve", "--stop-with-stdin", "--id", &id]).args(more);
    command.args(["--client", &clients.to_string(), "--http", &status.to_string()]);
    command.arg("--data").arg(&data).arg("--certs").arg(certificates(directory));
    let process = Process::start(&format!("paxos-node-{id}"), command, directory)?;
    Ok(Node { process, clients, status })
}

/// The slot up to which a node has applied the log, if it tells.
pub(super) fn applied(node: &Node) -> Option<u64> {
    status(node)?.get("applied")?.as_u64()
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

/// Whether a node says that it has its whole state and knows a leader.
pub(super) fn is_ready(node: &Node) -> bool {
    agent().get(format!("http://{}/readyz", node.status)).call().is_ok()
}

/// Fails if a node has received malformed messages: the figures would be wrong then.
pub(super) fn check_understood<'a>(nodes: impl IntoIterator<Item = &'a Node>) -> Result<(), Failure> {
    for node in nodes {
        let count = status(node).and_then(|status| status.get("misunderstood")?.as_u64());
        if count != Some(0) {
            return Err(Failure::new(format!("{}: not understood, of its peers: {count:?}", node.status)));
        }
    }
    Ok(())
}

/// What a node answers to `/status`.
pub(super) fn status(node: &Node) -> Option<serde_json::Value> {
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
