//! A server of any kind: one process, or several.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use paxos_node::bench::load::{Measured, Plan, drive};

use super::arguments::Arguments;
use super::clients::{Client, RowClient, fill};
use super::contender::Contender;
use super::failure::Failure;
use super::node::{NODES, Node};
use super::process::{Stolen, own_cpu_time};
use super::row::Row;
use super::{bare, etcd, paxos, redis, resp};

/// How long a server may take until it has a leader.
const PATIENCE: Duration = Duration::from_secs(30);
/// All nodes have to agree on the leader for this long: nodes that were paused may first know an old one.
const SETTLE: Duration = Duration::from_millis(500);
const POLL_PAUSE: Duration = Duration::from_millis(50);

/// A server that has been started.
pub(super) struct Server {
    pub(super) contender: Contender,
    nodes: Vec<Node>,
}

/// The results of one measurement.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) measured: Measured,
    /// Processor time of all processes of the server.
    pub(super) server_cpu: Duration,
    /// Processor time of its clients.
    pub(super) client_cpu: Duration,
    /// The part of all processors' time that the host of a virtual machine took away.
    pub(super) stolen: f64,
}

impl Server {
    /// Starts it on empty directories, sets all keys, and pauses it.
    pub(super) async fn start(
        contender: Contender,
        arguments: &Arguments,
        directory: &Path,
    ) -> Result<Server, Failure> {
        let directory = directory.join(contender.name());
        let fail = |error| Failure::new(format!("{}: {error}", directory.display()));
        std::fs::create_dir(&directory).map_err(fail)?;
        let nodes = match contender {
            Contender::PaxosNode => paxos::start(&arguments.program(), &directory)?,
            Contender::Etcd => etcd::start(&arguments.etcd, &directory)?,
            Contender::Redis => redis::start(&arguments.redis, &directory, 0)?,
            Contender::RedisWithCopies => redis::start(&arguments.redis, &directory, NODES - 1)?,
            Contender::Bare => bare::start(&arguments.bare, &directory)?,
            Contender::BareStore => bare::start_store(&arguments.bare, &directory)?,
        };
        let mut server = Server { contender, nodes };
        let leader = server.await_leader().await?;
        let row = Row::SetPipelined;
        fill(Client::open_all(contender, leader, row, row.clients()).await?, row).await?;
        server.pause()?;
        Ok(server)
    }

    /// Lets it run, measures, and pauses it again.
    pub(super) async fn measure(
        &mut self,
        row: Row,
        connections: usize,
        plan: Plan,
    ) -> Result<Sample, Failure> {
        self.nodes.iter().try_for_each(|node| node.process.resume())?;
        let leader = self.await_leader().await?;
        let clients = Client::open_all(self.contender, leader, row, connections).await?;
        let mut edges = Vec::with_capacity(2);
        let at_edge = || edges.push((self.cpu_time(), own_cpu_time(), Stolen::until_now()));
        let requesters = RowClient::all(clients, row);
        let measured = drive(requesters, plan, at_edge).await;
        if self.contender == Contender::PaxosNode {
            paxos::check_understood(&self.nodes)?;
        }
        self.pause()?;
        let [(server, client, stolen), (server_after, client_after, stolen_after)] = edges[..] else {
            unreachable!("a measurement has a beginning and an end");
        };
        Ok(Sample {
            measured,
            server_cpu: server_after.saturating_sub(server),
            client_cpu: client_after.saturating_sub(client),
            stolen: stolen_after.part_since(stolen),
        })
    }

    fn pause(&self) -> Result<(), Failure> {
        self.nodes.iter().try_for_each(|node| node.process.pause())
    }

    fn cpu_time(&self) -> Duration {
        self.nodes.iter().map(|node| node.process.cpu_time()).sum()
    }

    /// Where the leader takes clients, once all nodes have agreed on it for long enough.
    async fn await_leader(&mut self) -> Result<SocketAddr, Failure> {
        let deadline = Instant::now() + PATIENCE;
        let mut known: Option<(usize, Instant)> = None;
        while Instant::now() < deadline {
            self.nodes.iter_mut().try_for_each(|node| node.process.check())?;
            let leader = match self.contender {
                Contender::PaxosNode => paxos::leader(&self.nodes),
                Contender::Etcd => etcd::leader(&self.nodes).await,
                Contender::Redis | Contender::RedisWithCopies | Contender::Bare | Contender::BareStore => {
                    resp::leader(&self.nodes).await
                }
            };
            known = match (leader, known) {
                (Some(leader), Some((same, since))) if leader == same => {
                    if since.elapsed() >= SETTLE {
                        return Ok(self.nodes[leader].clients);
                    }
                    known
                }
                (leader, _) => leader.map(|leader| (leader, Instant::now())),
            };
            tokio::time::sleep(POLL_PAUSE).await;
        }
        Err(Failure::new(format!("{} has no leader after {PATIENCE:?}", self.contender.name())))
    }
}

/// The version that a program prints, or why it can't be measured.
pub(super) fn version(contender: Contender, arguments: &Arguments) -> Result<String, String> {
    let (program, advice) = match contender {
        Contender::PaxosNode => (&arguments.program(), "build it by 'cargo build --release -p paxos-node'"),
        Contender::Etcd => (&arguments.etcd, "install Debian's etcd-server, or name it by --etcd"),
        Contender::Redis | Contender::RedisWithCopies => {
            (&arguments.redis, "install Debian's redis-server, or name it by --redis")
        }
        Contender::Bare | Contender::BareStore => (&arguments.bare, "cargo builds it with this bench"),
    };
    version_of(program, advice)
}

/// The version that a program prints, or why it can't be run, with advice.
pub(super) fn version_of(program: &Path, advice: &str) -> Result<String, String> {
    let place = program.display();
    let output = Command::new(program).arg("--version").output();
    let output = output.map_err(|error| format!("{place} can't be run ({error}): {advice}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let first = text.lines().next().filter(|_| output.status.success());
    Ok(first.ok_or_else(|| format!("{place} does not tell its version: {advice}"))?.to_owned())
}
