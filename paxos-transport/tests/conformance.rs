//! Every backend passes the conformance suite, on one thread and on several.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use paxos_core::NodeId;
use paxos_transport::certs::write_cluster;
use paxos_transport::conformance::{self, Backend, NODES};
use paxos_transport::memory::MemoryNetwork;
use paxos_transport::quic::QuicTransport;
use paxos_transport::tcp::TcpTransport;
use paxos_transport::{Error, NetworkConfig, TlsIdentity, Transport};
use tempfile::TempDir;

const MAX_FRAME_BYTES: usize = 2 << 20;

struct Memory(MemoryNetwork);

#[async_trait]
impl Backend for Memory {
    async fn start(&mut self, node: NodeId) -> Box<dyn Transport> {
        Box::new(self.0.bind(node))
    }

    fn max_frame_bytes(&self) -> usize {
        64 << 20
    }
}

struct Networked {
    certs: TempDir,
    peers: BTreeMap<NodeId, String>,
    is_quic: bool,
}

impl Networked {
    fn new(is_quic: bool) -> Networked {
        let certs = tempfile::tempdir().expect("a temporary directory");
        write_cluster(certs.path(), "test", &NODES, &[]).expect("certificates are made");
        let peers = NODES.into_iter().map(|node| (node, free_address().to_string())).collect();
        Networked { certs, peers, is_quic }
    }
}

impl Networked {
    async fn bind(&self, node: NodeId) -> Result<Box<dyn Transport>, Error> {
        let identity = TlsIdentity::load(self.certs.path(), node, "test")?;
        let listen = self.peers[&node].parse().expect("the address is one");
        let mut config = NetworkConfig::new(node, listen, self.peers.clone(), identity);
        config.max_frame_bytes = MAX_FRAME_BYTES;
        if self.is_quic {
            Ok(Box::new(QuicTransport::bind(config).await?))
        } else {
            Ok(Box::new(TcpTransport::bind(config).await?))
        }
    }
}

/// An address whose port nobody uses now.
fn free_address() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("there are free ports");
    socket.local_addr().expect("a bound socket has an address")
}

#[async_trait]
impl Backend for Networked {
    async fn start(&mut self, node: NodeId) -> Box<dyn Transport> {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            match self.bind(node).await {
                Ok(transport) => return transport,
                // The sockets of an end that was dropped are freed by tasks that end a moment later.
                Err(Error::Listen { .. }) if Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Err(error) => panic!("node {node} can't be started: {error}"),
            }
        }
    }

    fn max_frame_bytes(&self) -> usize {
        MAX_FRAME_BYTES
    }
}

#[tokio::test]
async fn memory_conforms() {
    conformance::check(&mut Memory(MemoryNetwork::default())).await;
}

#[tokio::test]
async fn quic_conforms_on_one_thread() {
    conformance::check(&mut Networked::new(true)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quic_conforms_on_several_threads() {
    conformance::check(&mut Networked::new(true)).await;
}

#[tokio::test]
async fn tcp_conforms_on_one_thread() {
    conformance::check(&mut Networked::new(false)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tcp_conforms_on_several_threads() {
    conformance::check(&mut Networked::new(false)).await;
}
