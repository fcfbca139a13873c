//! Both networked backends over the simulated network of `turmoil`: partitions, loss, reordering and restarts.
//!
//! Time is simulated too, so that minutes pass in seconds and no test waits for a real clock. A test repeats what
//! it did as far as its seed reaches: latencies, losses, back-off, QUIC's own random numbers and the traffic come
//! from it. The keys of TLS do not, nor does the order in which tokio looks at what is ready; so a seed brings
//! the same faults again, but not every packet at the same microsecond.
//!
//! What turmoil does not do: its TCP never sends a lost segment again, so that a connection which loses one is
//! stuck for good. That is a fair likeness of a connection cut by a firewall, and the idle time-out has to find
//! it; loss as such is tried on QUIC alone.

mod sockets;
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use paxos_core::NodeId;
use tokio::time::sleep;
use turmoil::Sim;

use self::sockets::{Losses, SimulatedUdp};
use crate::certs::{ClusterCerts, make_cluster};
use crate::{
    Error, Lane, NetworkConfig, NetworkTransport, PeerStatus, Received, TlsIdentity, Transport, TransportExt,
    quic, tcp,
};

const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(7)];
const CLUSTER: &str = "simulated";
const PORT: u16 = 9001;
/// How often a node looks for orders, and a test at what has come of them.
const TICK: Duration = Duration::from_millis(1);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Quic,
    Tcp,
}

impl Kind {
    const ALL: [Kind; 2] = [Kind::Quic, Kind::Tcp];

    async fn bind(
        self,
        config: NetworkConfig,
        seed: u64,
        losses: Arc<Losses>,
    ) -> Result<NetworkTransport, Error> {
        match self {
            Kind::Tcp => tcp::bind_over::<turmoil::net::TcpListener>(config).await,
            Kind::Quic => {
                let socket = SimulatedUdp::bind(config.listen, losses).await;
                let socket = socket.map_err(|source| Error::Listen { address: config.listen, source })?;
                let mut random = [0; 32];
                random[..8].copy_from_slice(&(seed ^ (config.node.0 << 32)).to_le_bytes());
                quic::bind_over(config, Arc::new(socket), Some(random))
            }
        }
    }
}

/// What every node of a simulation needs to know.
struct Cluster {
    kind: Kind,
    seed: u64,
    certs: ClusterCerts,
    adjust: fn(&mut NetworkConfig),
}

impl Cluster {
    fn new(kind: Kind, seed: u64, adjust: fn(&mut NetworkConfig)) -> Cluster {
        let certs = make_cluster(CLUSTER, &NODES, &[]).expect("certificates are made");
        Cluster { kind, seed, certs, adjust }
    }

    /// Starts a node on the host that this is called on.
    async fn bind(&self, node: NodeId, losses: &Arc<Losses>) -> Result<NetworkTransport, Error> {
        let address = |node: NodeId| SocketAddr::from((turmoil::lookup(host(node)), PORT)).to_string();
        let peers: BTreeMap<NodeId, String> = NODES.into_iter().map(|node| (node, address(node))).collect();
        let files = self.certs.nodes.iter().find(|(named, ..)| *named == node);
        let (_, chain, key) = files.expect("every node has a certificate");
        let authority = self.certs.authority.as_bytes();
        let identity = TlsIdentity::from_pem(node, CLUSTER, authority, chain.as_bytes(), key.as_bytes());
        let identity = identity.expect("the certificates are in order");
        let mut config = NetworkConfig::new(node, ([0, 0, 0, 0], PORT).into(), peers, identity);
        (self.adjust)(&mut config);
        self.kind.bind(config, self.seed, Arc::clone(losses)).await
    }
}

/// The name of a node's host.
fn host(node: NodeId) -> String {
    format!("node-{node}")
}

/// What goes in and out between a test and a node on its simulated host.
#[derive(Default)]
struct Mailbox {
    outbox: VecDeque<(NodeId, Lane, Bytes)>,
    received: Vec<Received>,
    peers: Vec<PeerStatus>,
}

/// A cluster on a simulated network, which runs as long as a test lets it.
struct Simulation {
    sim: Sim<'static>,
    mailboxes: BTreeMap<NodeId, Arc<Mutex<Mailbox>>>,
    losses: Arc<Losses>,
}

impl Simulation {
    /// Nodes on hosts of their own, which take between `min` and `max` for each message to each other.
    fn new(cluster: Cluster, min: Duration, max: Duration) -> Simulation {
        fastrand::seed(cluster.seed); // Of this thread, on which all of the simulation runs.
        let mut sim = builder(cluster.seed, min, max).build();
        let losses = Arc::new(Losses::default());
        let cluster = Arc::new(cluster);
        let mut mailboxes = BTreeMap::new();
        for node in NODES {
            let mailbox = Arc::new(Mutex::new(Mailbox::default()));
            mailboxes.insert(node, Arc::clone(&mailbox));
            let (cluster, losses) = (Arc::clone(&cluster), Arc::clone(&losses));
            sim.host(host(node), move || {
                let (cluster, losses, mailbox) =
                    (Arc::clone(&cluster), Arc::clone(&losses), Arc::clone(&mailbox));
                async move {
                    let transport = cluster.bind(node, &losses).await?;
                    run_node(transport, &mailbox).await;
                    Ok(())
                }
            });
        }
        Simulation { sim, mailboxes, losses }
    }

    fn step(&mut self) {
        self.sim.step().expect("no node fails");
    }

    fn run_for(&mut self, time: Duration) {
        let end = self.sim.elapsed() + time;
        while self.sim.elapsed() < end {
            self.step();
        }
    }

    /// Runs until it is so, and tells how long that took.
    fn until(&mut self, limit: Duration, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) -> Duration {
        let start = self.sim.elapsed();
        while !is_so(self) {
            let passed = self.sim.elapsed().saturating_sub(start);
            assert!(passed < limit, "within {limit:?}: {what}");
            self.step();
        }
        self.sim.elapsed().saturating_sub(start)
    }

    fn send(&mut self, from: NodeId, to: NodeId, lane: Lane, frame: impl Into<Bytes>) {
        self.mailbox(from).outbox.push_back((to, lane, frame.into()));
    }

    /// What has arrived since this was called last.
    fn take_received(&mut self, node: NodeId) -> Vec<Received> {
        std::mem::take(&mut self.mailbox(node).received)
    }

    /// How `node` sees `peer`.
    fn status(&self, node: NodeId, peer: NodeId) -> Option<PeerStatus> {
        self.mailbox(node).peers.iter().find(|status| status.peer == peer).copied()
    }

    fn sees(&self, node: NodeId, peer: NodeId) -> bool {
        self.status(node, peer).is_some_and(|status| status.is_connected)
    }

    fn see_each_other(&self, one: NodeId, two: NodeId) -> bool {
        self.sees(one, two) && self.sees(two, one)
    }

    fn are_all_connected(&self) -> bool {
        pairs().all(|(one, two)| self.sees(one, two))
    }

    fn mailbox(&self, node: NodeId) -> MutexGuard<'_, Mailbox> {
        lock(&self.mailboxes[&node])
    }
}

/// A network on which nothing overflows but what the backends let overflow themselves.
fn builder(seed: u64, min: Duration, max: Duration) -> turmoil::Builder {
    let mut builder = turmoil::Builder::new();
    builder
        .rng_seed(seed)
        .tick_duration(TICK)
        .simulation_duration(Duration::from_secs(3600))
        .min_message_latency(min)
        .max_message_latency(max)
        .udp_capacity(1 << 16)
        .tcp_capacity(1 << 10);
    builder
}

/// Every node with every other.
fn pairs() -> impl Iterator<Item = (NodeId, NodeId)> {
    NODES
        .into_iter()
        .flat_map(|one| NODES.into_iter().map(move |two| (one, two)))
        .filter(|(one, two)| one != two)
}

/// Does what a test asks of a node, until its host crashes.
async fn run_node(mut transport: NetworkTransport, mailbox: &Mutex<Mailbox>) {
    loop {
        tokio::select! {
            biased;
            received = transport.receive() => {
                lock(mailbox).received.push(received.expect("nobody closes it"));
            }
            () = sleep(TICK) => {
                let mut mailbox = lock(mailbox);
                while let Some((to, lane, frame)) = mailbox.outbox.pop_front() {
                    let _ = transport.send(to, lane, frame);
                }
                mailbox.peers = transport.peers();
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
