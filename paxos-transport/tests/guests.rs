//! Nodes of the cluster that connect without being peers.
#![cfg(all(feature = "memory", feature = "quic", feature = "tcp"))]

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::{CLUSTER, Cluster, Kind, Log, ONE, THREE, TWO, eventually, gets_through};
use paxos_core::NodeId;
use paxos_transport::certs::write_cluster;
use paxos_transport::memory::MemoryNetwork;
use paxos_transport::{Lane, NetworkConfig, Peer, SendOutcome, Transport, TransportExt};
use tokio::time::timeout;

const LONG: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(600);

/// The peers of this node alone.
fn peers_of(config: &mut NetworkConfig, peers: &[NodeId]) {
    config.peers.retain(|peer, _| peers.contains(peer));
}

async fn bind(cluster: &mut Cluster, node: NodeId, peers: &[NodeId]) -> Box<dyn Transport> {
    cluster.start_with(node, |config| peers_of(config, peers)).await
}

/// Sends a frame until it arrives, whatever arrives of others; returns whether it does in time.
async fn is_heard(from: &dyn Transport, to: &mut dyn Transport, limit: Duration) -> bool {
    let heard = async {
        loop {
            from.send(to.local_node(), Lane::Control, Bytes::from_static(b"hello"));
            let received = timeout(Duration::from_millis(10), to.receive()).await;
            if received.is_ok_and(|received| received.expect("it is open").from == from.local_node()) {
                return;
            }
        }
    };
    timeout(limit, heard).await.is_ok()
}

#[tokio::test]
async fn a_guest_is_heard_and_answered_over_its_own_connection() {
    for kind in Kind::ALL {
        let (log, _guard) = Log::start();
        let mut cluster = Cluster::new(kind, &[ONE, TWO, THREE]);
        let mut one = bind(&mut cluster, ONE, &[TWO]).await;
        assert_eq!(one.send(THREE, Lane::Control, Bytes::new()), SendOutcome::UnknownPeer);
        let mut three = bind(&mut cluster, THREE, &[ONE]).await;
        assert!(gets_through(three.as_ref(), one.as_mut(), LONG).await, "{kind:?}");
        assert!(gets_through(one.as_ref(), three.as_mut(), LONG).await, "{kind:?}");
        eventually(LONG, "for the guest it is a peer", || three.is_connected(ONE)).await;
        let listed: Vec<NodeId> = one.peers().iter().map(|status| status.peer).collect();
        assert_eq!(listed, [TWO], "{kind:?}: a guest is not listed among the peers");
        assert!(!one.is_connected(THREE), "{kind:?}");
        three.close().await;
        drop(three);
        eventually(LONG, "a guest that has left is unknown", || {
            one.send(THREE, Lane::Control, Bytes::new()) == SendOutcome::UnknownPeer
        })
        .await;
        assert_eq!(log.lines_with("node 3"), 0, "{kind:?}: no fault of anybody: {}", log.text());
    }
}

#[tokio::test]
async fn in_memory_guests_are_heard_and_answered_too() {
    let network = MemoryNetwork::new();
    let mut one = network.bind(ONE);
    one.set_peers(&[Peer::new(TWO, "")]).expect("there is one");
    let mut guests: Vec<_> = (3..=10).map(|id| network.bind(NodeId(id))).collect();
    assert_eq!(one.send(THREE, Lane::Log, Bytes::new()), SendOutcome::UnknownPeer, "it has said nothing");
    for guest in &mut guests {
        assert!(is_heard(guest, &mut one, SHORT).await);
        assert!(is_heard(&one, guest, SHORT).await);
    }
    let ninth = network.bind(NodeId(11));
    assert_eq!(ninth.send(ONE, Lane::Log, Bytes::new()), SendOutcome::Disconnected, "there are eight");
    let two = network.bind(TWO);
    assert!(is_heard(&two, &mut one, SHORT).await, "a peer has its place");
    let listed: Vec<NodeId> = one.peers().iter().map(|status| status.peer).collect();
    assert_eq!(listed, [TWO]);
}

#[tokio::test]
async fn a_guest_with_a_lower_id_dials_although_a_peer_with_it_would_not() {
    for kind in Kind::ALL {
        let (log, _guard) = Log::start();
        let mut cluster = Cluster::with_own_ports(kind, &[ONE, TWO, THREE]);
        let mut three = bind(&mut cluster, THREE, &[TWO]).await;
        let mut one = bind(&mut cluster, ONE, &[THREE]).await;
        eventually(LONG, "both of its connections are there", || one.is_connected(THREE)).await;
        assert!(gets_through(one.as_ref(), three.as_mut(), LONG).await, "{kind:?}");
        assert!(gets_through(three.as_ref(), one.as_mut(), LONG).await, "{kind:?}");
        // Once it is a peer, the node with the higher id dials.
        let peers = [Peer::new(TWO, "127.0.0.1:1"), Peer::new(ONE, cluster.config(ONE).peers[&ONE].clone())];
        three.set_peers(&peers).expect("there are two");
        eventually(LONG, "they are peers", || three.is_connected(ONE) && one.is_connected(THREE)).await;
        assert!(gets_through(one.as_ref(), three.as_mut(), LONG).await, "{kind:?}");
        assert!(gets_through(three.as_ref(), one.as_mut(), LONG).await, "{kind:?}");
        assert_eq!(log.lines_with("refused a connection"), 0, "{kind:?}: {}", log.text());
    }
}

#[tokio::test]
async fn a_guest_becomes_a_peer_and_a_peer_a_guest() {
    for kind in Kind::ALL {
        let mut cluster = Cluster::new(kind, &[ONE, TWO]);
        let mut one = bind(&mut cluster, ONE, &[]).await;
        let mut two = bind(&mut cluster, TWO, &[ONE]).await;
        assert!(gets_through(two.as_ref(), one.as_mut(), LONG).await, "{kind:?}: as a guest");
        one.set_peers(&[Peer::new(TWO, "127.0.0.1:1")]).expect("it is one");
        eventually(LONG, "they are peers", || one.is_connected(TWO) && two.is_connected(ONE)).await;
        assert!(gets_through(one.as_ref(), two.as_mut(), LONG).await, "{kind:?}: as a peer");
        assert!(one.send(TWO, Lane::Control, Bytes::from_static(b"you are removed")).is_queued());
        one.set_peers(&[]).expect("none is allowed");
        let told =
            async { while two.receive().await.expect("it is open").frame != b"you are removed"[..] {} };
        timeout(LONG, told).await.expect("what was queued for a peer that is removed still leaves");
        assert!(one.peers().is_empty(), "{kind:?}");
        assert!(gets_through(two.as_ref(), one.as_mut(), LONG).await, "{kind:?}: as a guest again");
        assert!(gets_through(one.as_ref(), two.as_mut(), LONG).await, "{kind:?}: and is answered");
    }
}

#[tokio::test]
async fn guests_beyond_the_bound_are_refused_until_one_leaves() {
    for kind in Kind::ALL {
        let (log, _guard) = Log::start();
        let nodes: Vec<NodeId> = (1..=11).map(NodeId).collect();
        let mut cluster = Cluster::new(kind, &nodes);
        write_cluster(cluster.certs.path(), CLUSTER, &nodes, &[]).expect("some are missing");
        let mut one = bind(&mut cluster, ONE, &[TWO]).await;
        let mut guests = Vec::new();
        for node in (3..=10).map(NodeId) {
            let guest = bind(&mut cluster, node, &[ONE]).await;
            assert!(is_heard(guest.as_ref(), one.as_mut(), LONG).await, "{kind:?}: {node}");
            guests.push(guest);
        }
        let ninth = bind(&mut cluster, NodeId(11), &[ONE]).await;
        assert!(!is_heard(ninth.as_ref(), one.as_mut(), SHORT).await, "{kind:?}: there are eight");
        let text = "node 11 is not among the peers of node 1, and there is no room for one more guest";
        assert_eq!(log.lines_with(text), 1, "{kind:?}: {}", log.text());
        let two = bind(&mut cluster, TWO, &[ONE]).await;
        assert!(is_heard(two.as_ref(), one.as_mut(), LONG).await, "{kind:?}: a peer has its place");
        let mut leaving = guests.remove(0);
        leaving.close().await;
        drop(leaving);
        assert!(is_heard(ninth.as_ref(), one.as_mut(), LONG).await, "{kind:?}: one place is free");
    }
}
