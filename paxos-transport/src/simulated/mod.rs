//! Tests of both networked backends on the simulated network of `turmoil`: partitions, loss, reordering,
//! restarts.
//!
//! Time is simulated, too, so that minutes pass in seconds and no test waits for a real clock. Latencies,
//! losses, back-off, QUIC's random numbers and the traffic come from a seed. The keys of TLS and the order in
//! which tokio polls tasks do not. So a seed repeats the faults, but not every packet at the same
//! microsecond.
//!
//! Turmoil's TCP never retransmits a lost segment, so a connection that loses one is stuck for good. That
//! resembles a connection cut by a firewall, which the idle time-out must notice. Random loss is tested on
//! QUIC alone.
//!
//! Turmoil's `crash` is not the failure of a machine. It drops the host's tasks, so that peers over TCP see
//! an orderly end at once, as from a process whose system survives; and connections to the host wait instead
//! of being refused. So tests that crash a host show only that such an end is noticed and that the host is
//! found again. To test a host that disappears, it is cut off first, so that nothing of its end arrives.
//! `tests/silence.rs` tests real sockets that fall silent, and connections that are reset in the middle of a
//! frame.

mod sockets;
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use paxos_core::NodeId;
use tokio::time::sleep;
use turmoil::Sim;

use self::sockets::{Losses, SimulatedUdp};
use crate::certs::{ClusterCerts, make_cluster};
use crate::lock::lock;
use crate::{
    Error, Lane, NetworkConfig, NetworkTransport, PeerStatus, Received, TlsIdentity, Transport, TransportExt,
    quic, tcp,
};

const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(7)];
const CLUSTER: &str = "simulated";
const PORT: u16 = 9001;
/// How often a node looks for frames to send, and a test at the results.
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

/// The settings of a simulated cluster.
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

/// The frames between a test and a node on its simulated host.
#[derive(Default)]
struct Mailbox {
    outbox: VecDeque<(NodeId, Lane, Bytes)>,
    received: Vec<Received>,
    peers: Vec<PeerStatus>,
}

/// A cluster on a simulated network, which runs when the test advances the time.
struct Simulation {
    sim: Sim<'static>,
    mailboxes: BTreeMap<NodeId, Arc<Mutex<Mailbox>>>,
    losses: Arc<Losses>,
}

impl Simulation {
    /// Each node gets a host. Messages between hosts take from `min` to `max`.
    fn new(cluster: Cluster, min: Duration, max: Duration) -> Simulation {
        fastrand::seed(cluster.seed); // For this thread, which runs the whole simulation.
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

    /// Runs until `is_so` holds, and returns how long that took.
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

    /// The frames that have arrived since the last call.
    fn take_received(&mut self, node: NodeId) -> Vec<Received> {
        std::mem::take(&mut self.mailbox(node).received)
    }

    /// The status of `peer` at `node`.
    fn status(&self, node: NodeId, peer: NodeId) -> Option<PeerStatus> {
        self.mailbox(node).peers.iter().find(|status| status.peer == peer).cloned()
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

/// A network with queues so large that only those of the backends can overflow.
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

/// All ordered pairs of nodes.
fn pairs() -> impl Iterator<Item = (NodeId, NodeId)> {
    NODES
        .into_iter()
        .flat_map(|one| NODES.into_iter().map(move |two| (one, two)))
        .filter(|(one, two)| one != two)
}

/// Sends the frames of the mailbox and collects what arrives, until the host crashes.
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
