//! Who is let in: only nodes of the cluster, as who they are.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use paxos_core::NodeId;
use paxos_transport::certs::write_cluster;
use paxos_transport::quic::QuicTransport;
use paxos_transport::tcp::TcpTransport;
use paxos_transport::{Error, Lane, NetworkConfig, TlsIdentity, Transport, TransportExt};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;

const ONE: NodeId = NodeId(1);
const TWO: NodeId = NodeId(2);

fn certs(cluster: &str) -> TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    write_cluster(directory.path(), cluster, &[ONE, TWO, NodeId(3)], &[]).expect("certificates are made");
    directory
}

fn free_address() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("there are free ports");
    socket.local_addr().expect("a bound socket has an address")
}

async fn bind(
    is_quic: bool,
    node: NodeId,
    identity: TlsIdentity,
    peers: &BTreeMap<NodeId, String>,
) -> Box<dyn Transport> {
    let listen = peers[&node].parse().expect("the address is one");
    let config = NetworkConfig::new(node, listen, peers.clone(), identity);
    if is_quic {
        Box::new(QuicTransport::bind(config).await.expect("the port is free"))
    } else {
        Box::new(TcpTransport::bind(config).await.expect("the port is free"))
    }
}

/// Whether node 2, proved by `identity`, gets a frame to node 1, which has the certificates of `home`.
async fn gets_through(is_quic: bool, home: &Path, identity: TlsIdentity) -> bool {
    let peers: BTreeMap<_, _> =
        [ONE, TWO].into_iter().map(|node| (node, free_address().to_string())).collect();
    let own = TlsIdentity::load(home, ONE, "home").expect("the certificates are there");
    let mut one = bind(is_quic, ONE, own, &peers).await;
    let two = bind(is_quic, TWO, identity, &peers).await;
    for _ in 0..60 {
        two.send(ONE, Lane::Control, Bytes::from_static(b"hello"));
        one.send(TWO, Lane::Control, Bytes::from_static(b"hello"));
        if let Ok(received) = tokio::time::timeout(Duration::from_millis(10), one.receive()).await {
            assert_eq!(received.map(|received| received.from), Some(TWO));
            return true;
        }
    }
    false
}

#[tokio::test]
async fn only_a_certificate_of_the_cluster_gets_through() {
    let (home, foreign) = (certs("home"), certs("home"));
    for is_quic in [true, false] {
        let load =
            |from: &TempDir, cluster| TlsIdentity::load(from.path(), TWO, cluster).expect("it is there");
        assert!(gets_through(is_quic, home.path(), load(&home, "home")).await, "the right one does");
        assert!(
            !gets_through(is_quic, home.path(), load(&foreign, "home")).await,
            "one of another CA does not"
        );
        let mixed = mixed_identity(&home, &foreign);
        assert!(
            !gets_through(is_quic, home.path(), mixed).await,
            "nor one that trusts us but is of another CA"
        );
    }
}

/// Trusts the home CA, but shows a certificate of the foreign one: only the other side can refuse it.
fn mixed_identity(home: &TempDir, foreign: &TempDir) -> TlsIdentity {
    let read = |directory: &TempDir, name: &str| {
        let path = directory.path().join(name);
        let bytes = std::fs::read(&path).expect("the file is there");
        (path, bytes)
    };
    let (chain, key) = (read(foreign, "node-2.pem"), read(foreign, "node-2-key.pem"));
    TlsIdentity::from_pem(TWO, "home", &read(home, "ca.pem"), &chain, &key).expect("each file is in order")
}

#[tokio::test]
async fn a_node_that_is_not_a_peer_or_claims_another_id_is_refused() {
    let home = certs("home");
    for is_quic in [true, false] {
        // Node 3 has a good certificate, but listens and dials in place of node 2.
        let peers: BTreeMap<_, _> =
            [ONE, TWO].into_iter().map(|node| (node, free_address().to_string())).collect();
        let mut lying = peers.clone();
        lying.insert(NodeId(3), peers[&TWO].clone());
        let load = |node| TlsIdentity::load(home.path(), node, "home").expect("it is there");
        let mut one = bind(is_quic, ONE, load(ONE), &peers).await;
        let three = bind(is_quic, NodeId(3), load(NodeId(3)), &lying).await;
        for _ in 0..40 {
            three.send(ONE, Lane::Control, Bytes::from_static(b"hello"));
            let received = tokio::time::timeout(Duration::from_millis(10), one.receive()).await;
            assert!(received.is_err(), "nothing arrives from a node that is not among the peers");
        }
        assert!(!one.is_connected(TWO));
    }
}

#[test]
fn unusable_certificates_are_told_by_file() {
    let home = certs("home");
    let problem = |node, cluster: &str| match TlsIdentity::load(home.path(), node, cluster) {
        Err(error @ Error::Certificate { .. }) => error.to_string(),
        other => panic!("a certificate error is expected, not {other:?}"),
    };
    assert!(problem(NodeId(9), "home").contains("node-9.pem"));
    assert!(problem(ONE, "away").contains("not for node-1.away"));
    std::fs::write(home.path().join("node-1-key.pem"), "nonsense").expect("it is written");
    assert!(problem(ONE, "home").contains("node-1-key.pem"));
    let again = write_cluster(home.path(), "home", &[ONE], &[]);
    assert!(matches!(again, Err(Error::Write { .. })), "nothing is overwritten");
}

#[tokio::test]
async fn garbage_from_strangers_changes_nothing() {
    let home = certs("home");
    for is_quic in [true, false] {
        let peers: BTreeMap<_, _> =
            [ONE, TWO].into_iter().map(|node| (node, free_address().to_string())).collect();
        let load = |node| TlsIdentity::load(home.path(), node, "home").expect("it is there");
        let mut one = bind(is_quic, ONE, load(ONE), &peers).await;
        let stranger = UdpSocket::bind("127.0.0.1:0").expect("there are free ports");
        for length in 0..1400 {
            let garbage: Vec<u8> = (0..length).map(|_| fastrand::u8(..)).collect();
            let _ = stranger.send_to(&garbage, &peers[&ONE]);
        }
        if let Ok(mut stream) = tokio::net::TcpStream::connect(&peers[&ONE]).await {
            let _ = stream.write_all(&[0x16; 5000]).await;
        }
        let two = bind(is_quic, TWO, load(TWO), &peers).await;
        let mut arrived = false;
        for _ in 0..200 {
            two.send(ONE, Lane::Log, Bytes::from_static(b"still there"));
            let received = tokio::time::timeout(Duration::from_millis(20), one.receive()).await;
            arrived |= received.is_ok();
        }
        assert!(arrived, "the right peer still gets through");
    }
}
