//! What the examples share: the conformance suite on a backend, then its speed beside that of others.

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::path::Path;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use paxos_core::NodeId;
use paxos_transport::conformance::{self, Backend, NODES};
use paxos_transport::memory::MemoryNetwork;
use paxos_transport::{
    Lane, NetworkConfig, NetworkTransport, TlsIdentity, Transport, TransportExt, certs, quic, tcp,
};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

pub(crate) const CLUSTER: &str = "examples";
const ROUND_TRIPS: usize = 10_000;
const ROUND_TRIP_BYTES: usize = 128;
/// After this time a frame counts as lost.
const LOST_AFTER: Duration = Duration::from_millis(100);
const SENDING_TIME: Duration = Duration::from_secs(2);
const SMALL_BYTES: usize = 256;
const LARGE_BYTES: usize = 64 << 10;
/// How many frames are sent before the receiver has a turn.
const BURST: usize = 64;

/// Runs the conformance suite on a backend, then measures it beside `memory`, `tcp` and, if asked, `quic`.
pub(crate) async fn check_and_measure(name: &str, backend: &mut dyn Backend, with_quic: bool) {
    conformance::check(backend).await;
    println!("{name} conforms");
    heading();
    measure("memory", &mut Memory(MemoryNetwork::new())).await;
    measure("tcp", &mut Secure::new(Carrier::Tcp)).await;
    if with_quic {
        measure("quic", &mut Secure::new(Carrier::Quic)).await;
    }
    measure(name, backend).await;
}

pub(crate) fn heading() {
    println!(
        "{:<10} {:>14} {:>10} {:>16} {:>14}",
        "backend", "128 B there and back", "p99", "256 B frames/s", "64 KiB, MiB/s"
    );
}

/// Measures round trips and throughput between two nodes of this process, on one thread; prints a line.
pub(crate) async fn measure(name: &str, backend: &mut dyn Backend) {
    let mut one = backend.start(NODES[0]).await;
    let mut two = backend.start(NODES[1]).await;
    while !(one.is_connected(NODES[1]) && two.is_connected(NODES[0])) {
        sleep(Duration::from_millis(1)).await;
    }
    let mut round_trips = Vec::new();
    for _ in 0..ROUND_TRIPS {
        let started = Instant::now();
        if timeout(LOST_AFTER, there_and_back(one.as_mut(), two.as_mut())).await.is_ok() {
            round_trips.push(started.elapsed());
        }
    }
    round_trips.sort_unstable();
    let (median, p99) = (round_trips[round_trips.len() / 2], round_trips[round_trips.len() * 99 / 100]);
    let small = throughput(one.as_ref(), two.as_mut(), SMALL_BYTES).await;
    let mib = throughput(one.as_ref(), two.as_mut(), LARGE_BYTES).await * LARGE_BYTES as f64 / 1_048_576.0;
    println!("{name:<10} {:>20.1?} {:>10.1?} {small:>16.0} {mib:>14.0}", median, p99);
    one.close().await;
    two.close().await;
}

async fn there_and_back(one: &mut dyn Transport, two: &mut dyn Transport) {
    let frame = Bytes::from_static(&[7; ROUND_TRIP_BYTES]);
    let _ = one.send(NODES[1], Lane::Control, frame);
    if let Some(received) = two.receive().await {
        let _ = two.send(NODES[0], Lane::Control, received.frame);
    }
    one.receive().await;
}

/// Frames of this length that arrive in a second, if always as many are queued as fit.
async fn throughput(one: &dyn Transport, two: &mut dyn Transport, bytes: usize) -> f64 {
    let (frame, mut frames, mut count) = (Bytes::from(vec![7; bytes]), Vec::new(), 0);
    let started = Instant::now();
    while started.elapsed() < SENDING_TIME {
        for _ in 0..BURST {
            if !one.send(NODES[1], Lane::Log, frame.clone()).is_queued() {
                break;
            }
        }
        count += timeout(LOST_AFTER, two.receive_many(&mut frames, BURST)).await.unwrap_or_default();
        frames.clear();
    }
    let seconds = started.elapsed().as_secs_f64();
    // What is queued is not part of the next measurement.
    while timeout(LOST_AFTER, two.receive_many(&mut frames, BURST)).await.is_ok() {
        frames.clear();
    }
    f64::from(u32::try_from(count).expect("no computer receives as many in this time")) / seconds
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
    addresses: BTreeMap<NodeId, String>,
}

impl Secure {
    pub(crate) fn new(carrier: Carrier) -> Secure {
        Secure { carrier, certs: certificates(), addresses: addresses() }
    }

    async fn bind(&self, node: NodeId) -> NetworkTransport {
        let listen = self.addresses[&node].parse().expect("it is an address");
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

/// A free address of this machine for each node of the suite.
pub(crate) fn addresses() -> BTreeMap<NodeId, String> {
    let bind = |node| (node, UdpSocket::bind("127.0.0.1:0").expect("there is a free port"));
    // All are bound before the first is free again, so that each is another.
    let sockets = NODES.map(bind);
    let address = |socket: &UdpSocket| socket.local_addr().expect("it is bound").to_string();
    sockets.iter().map(|(node, socket)| (*node, address(socket))).collect()
}

/// A free address of this machine.
pub(crate) fn another_address() -> String {
    addresses().remove(&NODES[0]).expect("there is one for each node")
}

/// A directory with the certificates of the nodes.
pub(crate) fn certificates() -> TempDir {
    let directory = tempfile::tempdir().expect("there is room for temporary files");
    certs::write_cluster(directory.path(), CLUSTER, &NODES, &[]).expect("certificates are made");
    directory
}

pub(crate) fn identity(certs: &Path, node: NodeId) -> TlsIdentity {
    TlsIdentity::load(certs, node, CLUSTER).expect("the certificates are in order")
}
