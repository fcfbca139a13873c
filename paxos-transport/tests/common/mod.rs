//! Clusters of transports on this machine, and helpers of the tests.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use paxos_core::NodeId;
use paxos_transport::certs::write_cluster;
use paxos_transport::{
    Error, Lane, NetworkConfig, SharedIdentity, TlsIdentity, Transport, TransportExt, quic, tcp,
};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

pub(crate) mod proxy;

pub(crate) const ONE: NodeId = NodeId(1);
pub(crate) const TWO: NodeId = NodeId(2);
pub(crate) const THREE: NodeId = NodeId(3);
pub(crate) const CLUSTER: &str = "home";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Quic,
    Tcp,
}

impl Kind {
    pub(crate) const ALL: [Kind; 2] = [Kind::Quic, Kind::Tcp];

    /// Binds a transport, and returns its port.
    pub(crate) async fn bind(self, config: NetworkConfig) -> Result<(Box<dyn Transport>, SocketAddr), Error> {
        let transport = match self {
            Kind::Quic => quic::bind(config).await?,
            Kind::Tcp => tcp::bind(config).await?,
        };
        let address = transport.local_address();
        Ok((Box::new(transport), address))
    }
}

/// The nodes of a cluster. Start them in the order of their ids, because each dials those before it.
pub(crate) struct Cluster {
    pub(crate) kind: Kind,
    pub(crate) certs: TempDir,
    addresses: BTreeMap<NodeId, SocketAddr>,
}

impl Cluster {
    pub(crate) fn new(kind: Kind, nodes: &[NodeId]) -> Cluster {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let addresses = nodes.iter().map(|node| (*node, any)).collect();
        Cluster { kind, certs: certs(CLUSTER), addresses }
    }

    /// Nodes with ports that are known before they start, and that no other socket takes while they are down.
    pub(crate) fn with_own_ports(kind: Kind, nodes: &[NodeId]) -> Cluster {
        let addresses = nodes.iter().map(|node| (*node, own_address())).collect();
        Cluster { kind, certs: certs(CLUSTER), addresses }
    }

    /// Waits until the port of a stopped node is free.
    pub(crate) async fn wait_for_port(&self, node: NodeId) {
        let address = self.addresses[&node];
        eventually(Duration::from_secs(5), "the port is free", || is_free(address)).await;
    }

    /// Has a node start on another port the next time.
    pub(crate) fn forget_address(&mut self, node: NodeId) {
        self.addresses.insert(node, ([127, 0, 0, 1], 0).into());
    }

    pub(crate) fn config(&self, node: NodeId) -> NetworkConfig {
        self.config_as(node, identity(self.certs.path(), node, CLUSTER))
    }

    pub(crate) fn config_as(&self, node: NodeId, identity: impl Into<SharedIdentity>) -> NetworkConfig {
        let peers = self.addresses.iter().map(|(node, address)| (*node, address.to_string())).collect();
        let listen = self.addresses.get(&node).copied();
        NetworkConfig::new(node, listen.unwrap_or(([127, 0, 0, 1], 0).into()), peers, identity)
    }

    pub(crate) async fn start(&mut self, node: NodeId) -> Box<dyn Transport> {
        self.start_with(node, |_| {}).await
    }

    /// Starts a node, each time on the same port.
    pub(crate) async fn start_with(
        &mut self,
        node: NodeId,
        adjust: impl Fn(&mut NetworkConfig) + Send,
    ) -> Box<dyn Transport> {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let mut config = self.config(node);
            adjust(&mut config);
            match self.kind.bind(config).await {
                Ok((transport, address)) => {
                    if let Some(known) = self.addresses.get_mut(&node) {
                        *known = address;
                    }
                    return transport;
                }
                // Tasks of a dropped transport hold its sockets for a moment longer.
                Err(Error::Listen { .. }) if Instant::now() < deadline => {
                    sleep(Duration::from_millis(5)).await;
                }
                Err(error) => panic!("node {node} can't be started: {error}"),
            }
        }
    }
}

fn is_free(address: SocketAddr) -> bool {
    UdpSocket::bind(address).is_ok() && TcpListener::bind(address).is_ok()
}

/// An address that no other test gets, nor any socket with a port that the system chooses: those start at
/// 32768 (Linux) or 49152 (elsewhere).
fn own_address() -> SocketAddr {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = process::id().wrapping_mul(31).wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed));
        let port = 12_000 + u16::try_from(number % 20_000).expect("less than 20 000");
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if is_free(address) {
            return address;
        }
    }
}

/// Certificates of nodes 1 to 9.
pub(crate) fn certs(cluster: &str) -> TempDir {
    let directory = tempfile::tempdir().expect("there is room for temporary files");
    let nodes: Vec<NodeId> = (1..=9).map(NodeId).collect();
    write_cluster(directory.path(), cluster, &nodes, &[]).expect("certificates are made");
    directory
}

pub(crate) fn identity(certs: &Path, node: NodeId, cluster: &str) -> TlsIdentity {
    TlsIdentity::load(certs, node, cluster).expect("the certificates are in order")
}

/// Waits until `is_so`, for at most this time; returns how long it took.
pub(crate) async fn eventually(limit: Duration, what: &str, mut is_so: impl FnMut() -> bool) -> Duration {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < limit, "within {limit:?}: {what}");
        sleep(Duration::from_millis(2)).await;
    }
    started.elapsed()
}

/// Sends a frame until it arrives; returns whether it does in time.
pub(crate) async fn gets_through(from: &dyn Transport, to: &mut dyn Transport, limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline {
        from.send(to.local_node(), Lane::Control, Bytes::from_static(b"hello"));
        if let Ok(received) = timeout(Duration::from_millis(10), to.receive()).await {
            let received = received.expect("the transport is open");
            assert_eq!(received.from, from.local_node(), "the sender is who it is");
            return true;
        }
    }
    false
}

/// Collects the log of this thread.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Collects until the guard is dropped.
    pub(crate) fn start() -> (Log, tracing::subscriber::DefaultGuard) {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(tracing::Level::WARN)
            .with_writer(move || writer.clone());
        (log, tracing::subscriber::set_default(subscriber.finish()))
    }

    pub(crate) fn lines_with(&self, text: &str) -> usize {
        self.text().lines().filter(|line| line.contains(text)).count()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
