//! What the examples share: the conformance suite on a backend, then its speed beside that of others.
#![allow(dead_code, reason = "each example uses a part of it")]

pub(crate) mod lossy;

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::path::Path;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use paxos_core::NodeId;
use paxos_transport::backend::{HubConfig, HubTransport};
use paxos_transport::conformance::{self, Backend, NODES};
use paxos_transport::memory::MemoryNetwork;
use paxos_transport::{
    Error, Lane, NetworkConfig, NetworkTransport, Peer, TlsIdentity, Transport, TransportExt, certs, quic,
    tcp,
};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

pub(crate) const CLUSTER: &str = "examples";
const ROUND_TRIPS: usize = 10_000;
const ROUND_TRIP_BYTES: usize = 128;
/// After this time a frame counts as lost.
const LOST_AFTER: Duration = Duration::from_millis(100);
const SOCKET_PATIENCE: Duration = Duration::from_secs(5);
const SENDING_TIME: Duration = Duration::from_secs(2);
const SMALL_BYTES: usize = 256;
const LARGE_BYTES: usize = 64 << 10;
const LARGE_FRAMES_PER_MIB: f64 = 16.0;
/// How long a sender waits for the receiver.
const PAUSE: Duration = Duration::from_millis(1);
/// How many frames are sent before the receiver has a turn.
const BURST: usize = 64;

/// Runs the conformance suite on a backend, then measures it beside `memory`, `tcp` and, if asked, `quic`.
pub(crate) async fn check_and_measure(name: &str, backend: &mut dyn Backend, with_quic: bool) {
    conformance::check(backend).await;
    println!("{name} conforms");
    println!("of frames with 256 B and 64 KiB: in a second, and in a second of this thread's time on a core");
    println!(
        "{:<8} {:>20} {:>9} {:>12} {:>12} {:>12} {:>12}",
        "backend", "128 B there and back", "p99", "256 B/s", "/core s", "64 KiB MiB/s", "/core s"
    );
    measure("memory", &mut Memory(MemoryNetwork::new())).await;
    measure("tcp", &mut Secure::new(Carrier::Tcp)).await;
    if with_quic {
        measure("quic", &mut Secure::new(Carrier::Quic)).await;
    }
    measure(name, backend).await;
}

/// Measures round trips and throughput between two nodes of this process, on one thread; prints a line.
pub(crate) async fn measure(name: &str, backend: &mut dyn Backend) {
    let mut one = backend.start(NODES[0]).await;
    let mut two = backend.start(NODES[1]).await;
    wait_until_connected(one.as_ref(), two.as_ref()).await;
    let mut round_trips = Vec::new();
    for _ in 0..ROUND_TRIPS {
        let started = Instant::now();
        if timeout(LOST_AFTER, there_and_back(one.as_mut(), two.as_mut())).await.is_ok() {
            round_trips.push(started.elapsed());
        }
    }
    round_trips.sort_unstable();
    let (median, p99) = (round_trips[round_trips.len() / 2], round_trips[round_trips.len() * 99 / 100]);
    let [small, large] = [SMALL_BYTES, LARGE_BYTES].map(|bytes| Bytes::from(vec![7; bytes]));
    let (small, small_core) = throughput(one.as_ref(), two.as_mut(), &small, SENDING_TIME).await;
    // What is queued is not part of the next measurement.
    while timeout(LOST_AFTER, two.receive()).await.is_ok() {}
    let (large, large_core) = throughput(one.as_ref(), two.as_mut(), &large, SENDING_TIME).await;
    let (mib, mib_core) = (large / LARGE_FRAMES_PER_MIB, large_core / LARGE_FRAMES_PER_MIB);
    println!(
        "{name:<8} {median:>20.1?} {p99:>9.1?} {small:>12.0} {small_core:>12.0} {mib:>12.0} {mib_core:>12.0}"
    );
    one.close().await;
    two.close().await;
}

async fn wait_until_connected(one: &dyn Transport, two: &dyn Transport) {
    while !(one.is_connected(NODES[1]) && two.is_connected(NODES[0])) {
        sleep(Duration::from_millis(1)).await;
    }
}

async fn there_and_back(one: &mut dyn Transport, two: &mut dyn Transport) {
    let frame = Bytes::from_static(&[7; ROUND_TRIP_BYTES]);
    let _ = one.send(NODES[1], Lane::Control, frame);
    if let Some(received) = two.receive().await {
        let _ = two.send(NODES[0], Lane::Control, received.frame);
    }
    one.receive().await;
}

/// How often this frame arrives in a second, and in a second of this thread's time on a core, if always as
/// many are queued as fit.
async fn throughput(
    from: &dyn Transport,
    to: &mut dyn Transport,
    frame: &Bytes,
    time: Duration,
) -> (f64, f64) {
    let (mut frames, mut count) = (Vec::new(), 0_u32);
    let (started, busy_before) = (Instant::now(), busy_time());
    while started.elapsed() < time {
        for _ in 0..BURST {
            if !from.send(to.local_node(), Lane::Log, frame.clone()).is_queued() {
                break;
            }
        }
        if timeout(PAUSE, to.receive_many(&mut frames, BURST)).await.is_ok() {
            count += u32::try_from(frames.len()).expect("a burst is short");
            frames.clear();
        }
    }
    let (elapsed, count) = (started.elapsed(), f64::from(count));
    let busy = busy_time().zip(busy_before).map_or(elapsed, |(after, before)| after.saturating_sub(before));
    (count / elapsed.as_secs_f64(), count / busy.as_secs_f64())
}

/// How long this thread has had a core; `None` on systems that do not tell it there.
fn busy_time() -> Option<Duration> {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    told.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}

struct Memory(MemoryNetwork);

#[async_trait]
impl Backend for Memory {
    async fn start(&mut self, node: NodeId) -> Box<dyn Transport> {
        Box::new(self.0.bind(node))
    }
}

#[derive(Clone, Copy)]
pub(crate) enum Carrier {
    Quic,
    Tcp,
}

/// A built-in backend with TLS.
pub(crate) struct Secure {
    carrier: Carrier,
    certs: TempDir,
    /// Where each node listens.
    own: BTreeMap<NodeId, String>,
    /// Where the others reach it.
    addresses: BTreeMap<NodeId, String>,
}

impl Secure {
    pub(crate) fn new(carrier: Carrier) -> Secure {
        let own = addresses();
        Secure { carrier, certs: certificates(&NODES), addresses: own.clone(), own }
    }

    async fn bind(&self, node: NodeId) -> NetworkTransport {
        let listen = self.own[&node].parse().expect("it is an address");
        let identity = identity(self.certs.path(), node);
        let config = NetworkConfig::new(node, listen, self.addresses.clone(), identity);
        let bound = match self.carrier {
            Carrier::Quic => quic::bind(config).await,
            Carrier::Tcp => tcp::bind(config).await,
        };
        bound.expect("the address is free")
    }
}

#[async_trait]
impl Backend for Secure {
    async fn start(&mut self, node: NodeId) -> Box<dyn Transport> {
        Box::new(self.bind(node).await)
    }
}

/// How an example binds a node to an address.
#[async_trait]
pub(crate) trait Bind: Send + Sync {
    async fn bind(&self, config: HubConfig, address: &str, peers: &[Peer]) -> Result<HubTransport, Error>;

    /// An address that no node has had.
    fn free_address(&self) -> String {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("there is a free port");
        socket.local_addr().expect("it is bound").to_string()
    }
}

/// The nodes of the conformance suite on a transport of an example.
pub(crate) struct Cluster<B> {
    binder: B,
    max_frame_bytes: usize,
    /// Where each node listens.
    own: BTreeMap<NodeId, String>,
    /// Where the others reach it.
    pub(crate) addresses: BTreeMap<NodeId, String>,
}

impl<B: Bind> Cluster<B> {
    pub(crate) fn new(binder: B, max_frame_bytes: usize) -> Cluster<B> {
        let mut own = BTreeMap::new();
        for node in NODES {
            let is_taken = |address: &String| own.values().any(|other| other == address);
            let mut address = binder.free_address();
            while is_taken(&address) {
                address = binder.free_address();
            }
            own.insert(node, address);
        }
        Cluster { binder, max_frame_bytes, addresses: own.clone(), own }
    }
}

#[async_trait]
impl<B: Bind> Backend for Cluster<B> {
    async fn start(&mut self, node: NodeId) -> Box<dyn Transport> {
        let peers: Vec<_> = self.addresses.iter().map(|(node, address)| Peer::new(*node, address)).collect();
        let started = Instant::now();
        loop {
            let config = HubConfig::new(node).with(|config| config.max_frame_bytes = self.max_frame_bytes);
            match self.binder.bind(config, &self.own[&node], &peers).await {
                Ok(transport) => return Box::new(transport),
                // Tasks of a closed transport hold its sockets for a moment longer.
                Err(error) => assert!(started.elapsed() < SOCKET_PATIENCE, "node {node}: {error}"),
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    fn address(&self, node: NodeId) -> String {
        self.addresses[&node].clone()
    }

    async fn start_elsewhere(&mut self, node: NodeId) -> Box<dyn Transport> {
        let address = self.binder.free_address();
        self.own.insert(node, address.clone());
        self.addresses.insert(node, address);
        self.start(node).await
    }
}

/// A free address of this machine for each node of the suite.
fn addresses() -> BTreeMap<NodeId, String> {
    let bind = |node| (node, UdpSocket::bind("127.0.0.1:0").expect("there is a free port"));
    // All are bound before the first is free again, so that each is another.
    let sockets = NODES.map(bind);
    let address = |socket: &UdpSocket| socket.local_addr().expect("it is bound").to_string();
    sockets.iter().map(|(node, socket)| (*node, address(socket))).collect()
}

/// A directory with the certificates of the nodes.
pub(crate) fn certificates(nodes: &[NodeId]) -> TempDir {
    let directory = tempfile::tempdir().expect("there is room for temporary files");
    certs::write_cluster(directory.path(), CLUSTER, nodes, &[]).expect("certificates are made");
    directory
}

pub(crate) fn identity(certs: &Path, node: NodeId) -> TlsIdentity {
    TlsIdentity::load(certs, node, CLUSTER).expect("the certificates are in order")
}
