//! The transports in `examples/` pass the conformance suite.
#![cfg(all(feature = "certs", feature = "memory", feature = "quic", feature = "tcp"))]
#![allow(dead_code, reason = "what the examples measure is not run here")]
#![allow(clippy::duplicate_mod, reason = "each example has the module that they share")]

#[path = "../examples/noq.rs"]
mod noq_example;
#[path = "../examples/udp.rs"]
mod udp_example;
#[path = "../examples/unix.rs"]
mod unix_example;

use noq_example::Congestion;
use paxos_transport::conformance;
#[cfg(unix)]
use {
    bytes::Bytes,
    paxos_core::NodeId,
    paxos_transport::backend::HubConfig,
    paxos_transport::{Lane, Peer, SendOutcome, Transport, TransportExt},
    std::time::{Duration, Instant},
    tokio::time::timeout,
};

#[cfg(unix)]
#[tokio::test]
async fn unix_sockets_conform_on_one_thread() {
    conformance::check(&mut unix_example::unix::cluster()).await;
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unix_sockets_conform_on_several_threads() {
    conformance::check(&mut unix_example::unix::cluster()).await;
}

#[tokio::test]
async fn udp_conforms_on_one_thread() {
    conformance::check(&mut udp_example::cluster()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn udp_conforms_on_several_threads() {
    conformance::check(&mut udp_example::cluster()).await;
}

#[tokio::test]
async fn noq_conforms_on_one_thread() {
    conformance::check(&mut noq_example::cluster(Congestion::Cubic)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn noq_conforms_on_several_threads() {
    conformance::check(&mut noq_example::cluster(Congestion::Bbr3)).await;
}

/// Sends until something from `from` arrives.
#[cfg(unix)]
async fn gets_through(from: &dyn Transport, to: &mut dyn Transport) {
    let started = Instant::now();
    let frame = Bytes::from(format!("from node {}", from.local_node()));
    loop {
        let _ = from.send(to.local_node(), Lane::Control, frame.clone());
        match timeout(Duration::from_millis(10), to.receive()).await {
            Ok(Some(received)) if received.from == from.local_node() => return,
            _ => assert!(started.elapsed() < Duration::from_secs(10), "{frame:?} arrives in time"),
        }
    }
}

#[cfg(unix)]
#[tokio::test]
async fn guests_of_a_hub_are_heard_and_answered_whatever_their_ids_and_can_become_peers() {
    let directory = tempfile::tempdir().expect("there is room for temporary files");
    let path = |node: u64| directory.path().join(format!("{node}"));
    let peer = |node: u64| Peer::new(NodeId(node), path(node).display().to_string());
    let bind = |node: u64, peers: &[Peer]| {
        unix_example::unix::bind(HubConfig::new(NodeId(node)), &path(node), peers).expect("it can be bound")
    };
    let mut host = bind(5, &[]);
    let mut guests = [bind(3, &[peer(5)]), bind(9, &[peer(5)])];
    for guest in &mut guests {
        gets_through(guest, &mut host).await;
        gets_through(&host, guest).await;
    }
    assert!(host.peers().is_empty(), "guests are not listed");
    host.set_peers(&[peer(9)]).expect("one peer is not too many");
    let [three, nine] = &mut guests;
    gets_through(&host, nine).await;
    gets_through(nine, &mut host).await;
    let started = Instant::now();
    while !host.is_connected(NodeId(9)) {
        assert!(started.elapsed() < Duration::from_secs(10), "a guest that became a peer connects anew");
        gets_through(nine, &mut host).await;
    }
    gets_through(&host, three).await;
    three.close().await;
    let started = Instant::now();
    while host.send(NodeId(3), Lane::Control, Bytes::new()) != SendOutcome::UnknownPeer {
        assert!(started.elapsed() < Duration::from_secs(10), "a guest that has hung up is unknown");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
