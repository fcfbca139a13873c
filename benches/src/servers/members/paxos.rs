//! Nodes of paxos-node, whose members are changed by its own command.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::process::Command;
use tokio::time::sleep;

use super::super::failure::Failure;
use super::super::node::NODES;
use super::super::paxos::{certificates, check_understood, make_certificates, serve, status};
use super::super::process::free_ports;
use super::arguments::{Arguments, Server};
use super::cluster::{Cluster, Done, Nodes};
use super::round::MOST_NODES;

/// How long a new node may take until it answers.
const PATIENCE: Duration = Duration::from_secs(10);
const POLL_PAUSE: Duration = Duration::from_millis(5);

pub(super) struct PaxosCluster {
    program: PathBuf,
    directory: PathBuf,
    transport: &'static str,
    log: &'static str,
    /// Those for peers, clients and the status, of each node that there may be.
    ports: Vec<[u16; 3]>,
    nodes: Nodes,
}

impl PaxosCluster {
    pub(super) fn start(
        server: Server,
        arguments: &Arguments,
        directory: PathBuf,
    ) -> Result<PaxosCluster, Failure> {
        let program = arguments.program();
        make_certificates(&program, &directory, MOST_NODES)?;
        let ports = free_ports(3 * MOST_NODES);
        let mut cluster = PaxosCluster {
            program,
            directory,
            transport: if server == Server::PaxosNodeTcp { "tcp" } else { "quic" },
            log: if arguments.keep.is_some() { "debug" } else { "warn" },
            ports: ports.chunks_exact(3).map(|ports| [ports[0], ports[1], ports[2]]).collect(),
            nodes: Nodes::new(),
        };
        let founders = 1..=NODES as u64;
        let peers: Vec<String> =
            founders.clone().map(|id| format!("{id}={}", cluster.peer_address(id))).collect();
        for id in founders {
            cluster.start_node(id, &["--peers", &peers.join(",")])?;
        }
        Ok(cluster)
    }

    fn start_node(&mut self, id: u64, peers: &[&str]) -> Result<(), Failure> {
        let [_, clients, status] = self.ports_of(id);
        let listen = self.peer_address(id);
        let more = ["--transport", self.transport, "--log", self.log, "--listen", &listen];
        let more = [peers, &more].concat();
        let node = serve(&self.program, &self.directory, id, [clients, status], &more)?;
        self.nodes.insert(id, node);
        Ok(())
    }

    fn ports_of(&self, id: u64) -> [u16; 3] {
        let place = usize::try_from(id).ok().and_then(|id| id.checked_sub(1));
        let ports = place.and_then(|place| self.ports.get(place));
        *ports.expect("there are ports for all numbers that a round uses")
    }

    fn peer_address(&self, id: u64) -> String {
        format!("127.0.0.1:{}", self.ports_of(id)[0])
    }

    fn members(&self) -> String {
        let members: Vec<String> = self.nodes.keys().map(|id| self.peer_address(*id)).collect();
        members.join(",")
    }

    /// Starts a node that is to join, and waits until it answers.
    async fn start_new(&mut self, id: u64) -> Result<(), Failure> {
        let members = self.members();
        self.start_node(id, &["--join", &members])?;
        let deadline = Instant::now() + PATIENCE;
        while self.nodes.get(&id).and_then(status).is_none() {
            self.nodes.values_mut().try_for_each(|node| node.process.check())?;
            if Instant::now() >= deadline {
                return Err(Failure::new(format!("the new node {id} does not answer")));
            }
            sleep(POLL_PAUSE).await;
        }
        Ok(())
    }

    /// Runs `paxos-node member`, and returns how long that took.
    async fn member(&self, via: &str, arguments: &[&str]) -> Result<Duration, Failure> {
        let began = Instant::now();
        let mut command = Command::new(&self.program);
        command.arg("member").args(arguments).args(["--via", via, "--transport", self.transport]);
        command.arg("--certs").arg(certificates(&self.directory)).kill_on_drop(true);
        let output = command.output().await;
        let words = arguments.join(" ");
        let output = output.map_err(|error| Failure::new(format!("paxos-node member {words}: {error}")))?;
        if output.status.success() {
            return Ok(began.elapsed());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(Failure::new(format!("paxos-node member {words}: {}", said.trim_end())))
    }

    async fn change(&self, arguments: &[&str]) -> Result<Done, Failure> {
        let began = Instant::now();
        let command = self.member(&self.members(), arguments).await?;
        Ok(Done { began, command })
    }
}

impl Cluster for PaxosCluster {
    fn nodes(&self) -> &Nodes {
        &self.nodes
    }

    fn nodes_mut(&mut self) -> &mut Nodes {
        &mut self.nodes
    }

    async fn leader(&self) -> Option<u64> {
        let leader = |node| status(node)?.get("leader")?.as_u64();
        let mut leaders = self.nodes.values().map(leader);
        let first = leaders.next()??;
        leaders.all(|leader| leader == Some(first)).then_some(first)
    }

    async fn add(&mut self, new: u64) -> Result<Done, Failure> {
        let (began, via) = (Instant::now(), self.members());
        self.start_new(new).await?;
        let add = ["add", "--id", &new.to_string(), "--address", &self.peer_address(new)];
        Ok(Done { began, command: self.member(&via, &add).await? })
    }

    async fn promote(&mut self, node: u64) -> Result<Done, Failure> {
        self.change(&["promote", "--id", &node.to_string()]).await
    }

    async fn remove(&mut self, node: u64) -> Result<Done, Failure> {
        self.change(&["remove", "--id", &node.to_string()]).await
    }

    async fn transfer(&mut self, to: u64) -> Result<Done, Failure> {
        self.change(&["transfer", "--to", &to.to_string()]).await
    }

    async fn replace(&mut self, old: u64, new: u64) -> Result<Done, Failure> {
        let (began, via) = (Instant::now(), self.members());
        self.start_new(new).await?;
        let (old, with, address) = (old.to_string(), new.to_string(), self.peer_address(new));
        let replace = ["replace", "--id", &old, "--with", &with, "--address", &address];
        Ok(Done { began, command: self.member(&via, &replace).await? })
    }

    fn start_again(&mut self, node: u64) -> Result<(), Failure> {
        self.start_node(node, &[]) // Its directory knows the members.
    }

    fn check(&self) -> Result<(), Failure> {
        check_understood(self.nodes.values())
    }
}
