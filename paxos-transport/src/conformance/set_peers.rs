//! Peers that come, go and move while the transports run.

use super::{
    Backend, Bytes, Instant, Lane, NODES, NodeId, PATIENCE, PAUSE, SendOutcome, Transport, Transports, close,
    send_until_received, sleep, wait_for_peers,
};
use crate::{MAX_PEERS, Peer, SetPeersError};

/// The time in which a connection that must stay would be seen to end.
const SETTLING: std::time::Duration = std::time::Duration::from_millis(200);

/// A node that is never started.
const NOBODY: NodeId = NodeId(8);

/// Skips everything if the backend can't change its peers.
pub(super) async fn peers_change_while_transports_run(
    backend: &mut dyn Backend,
    transports: &mut Vec<Box<dyn Transport>>,
) {
    let all = peers(backend);
    if transports[0].set_peers(&all) == Err(SetPeersError::NotSupported) {
        return;
    }
    for transport in transports.iter_mut() {
        assert_eq!(transport.set_peers(&all), Ok(()), "the nodes are taken as peers of each other");
    }
    the_same_peers_again_change_nothing(transports, &all).await;
    what_is_no_set_of_peers_is_refused(transports, &all);
    a_removed_peer_is_unknown_and_the_others_do_not_notice(transports, &all).await;
    an_added_peer_is_connected(transports, &all).await;
    without_peers_a_transport_waits_for_some(transports, &all).await;
    a_peer_that_is_nowhere_disturbs_no_other(transports, &all).await;
    a_peer_that_has_moved_is_found(backend, transports).await;
}

fn peers(backend: &dyn Backend) -> Vec<Peer> {
    NODES.into_iter().map(|node| Peer::new(node, backend.address(node))).collect()
}

fn without(peers: &[Peer], node: NodeId) -> Vec<Peer> {
    peers.iter().filter(|peer| peer.id != node).cloned().collect()
}

/// How often each peer of this transport was connected.
fn connections(transport: &dyn Transport) -> Vec<(NodeId, u64)> {
    transport.peers().iter().map(|status| (status.peer, status.counters.connections)).collect()
}

async fn the_same_peers_again_change_nothing(transports: &mut Transports, all: &[Peer]) {
    for transport in transports.iter() {
        wait_for_peers(transport.as_ref()).await;
    }
    let before: Vec<_> = transports.iter().map(|transport| connections(transport.as_ref())).collect();
    for transport in transports.iter_mut() {
        assert_eq!(transport.set_peers(all), Ok(()));
    }
    sleep(SETTLING).await;
    for (transport, before) in transports.iter().zip(before) {
        let own = transport.local_node();
        assert_eq!(connections(transport.as_ref()), before, "node {own} keeps its connections");
        assert!(
            transport.peers().iter().all(|status| status.is_connected),
            "node {own} stays connected to all others"
        );
    }
}

fn what_is_no_set_of_peers_is_refused(transports: &mut Transports, all: &[Peer]) {
    let before = connections(transports[0].as_ref());
    let twice = [all, &[Peer::new(NODES[1], "localhost:1")]].concat();
    assert_eq!(transports[0].set_peers(&twice), Err(SetPeersError::Duplicate { id: NODES[1] }));
    let too_many: Vec<Peer> =
        (100..=100 + MAX_PEERS as u64).map(|id| Peer::new(NodeId(id), "localhost:1")).collect();
    assert_eq!(transports[0].set_peers(&too_many), Err(SetPeersError::TooMany { count: too_many.len() }));
    assert_eq!(connections(transports[0].as_ref()), before, "refused peers change nothing");
}

async fn a_removed_peer_is_unknown_and_the_others_do_not_notice(transports: &mut Transports, all: &[Peer]) {
    let between_others = |transports: &Transports| {
        let kept = |index: usize| {
            let kept = connections(transports[index].as_ref()).into_iter();
            kept.filter(|(peer, _)| *peer == NODES[1]).collect::<Vec<_>>()
        };
        (kept(0), connections(transports[1].as_ref()), kept(2))
    };
    let before = between_others(transports);
    for (index, removed) in [(0, NODES[2]), (2, NODES[0])] {
        assert_eq!(transports[index].set_peers(&without(all, removed)), Ok(()));
    }
    let deadline = Instant::now() + PATIENCE;
    for (index, removed) in [(0, NODES[2]), (2, NODES[0])] {
        let transport = &transports[index];
        let lists = transport.peers().iter().any(|status| status.peer == removed);
        assert!(!lists, "a removed peer is not listed");
        // Until its connections have ended, it may be a guest.
        while transport.send(removed, Lane::Control, Bytes::new()) != SendOutcome::UnknownPeer {
            assert!(Instant::now() < deadline, "a removed peer becomes unknown");
            sleep(PAUSE).await;
        }
    }
    for (from, to) in [(0, 1), (1, 0), (2, 1), (1, 2)] {
        let frame = Bytes::from(format!("{from} and {to} stay"));
        send_until_received(transports, from, to, Lane::Log, &frame).await;
    }
    assert_eq!(between_others(transports), before, "the connections with others are not touched");
}

async fn an_added_peer_is_connected(transports: &mut Transports, all: &[Peer]) {
    for index in [0, 2] {
        assert_eq!(transports[index].set_peers(all), Ok(()));
    }
    for index in [0, 2] {
        wait_for_peers(transports[index].as_ref()).await;
    }
    for lane in Lane::ALL {
        for (from, to) in [(0, 2), (2, 0)] {
            let frame = Bytes::from(format!("from {from} to {to}, which was added, on {lane:?}"));
            send_until_received(transports, from, to, lane, &frame).await;
        }
    }
}

async fn without_peers_a_transport_waits_for_some(transports: &mut Transports, all: &[Peer]) {
    for transport in transports.iter_mut() {
        assert_eq!(transport.set_peers(&[]), Ok(()), "there may be no peers at all");
        assert!(transport.peers().is_empty(), "no peers are listed when there are none");
    }
    let deadline = Instant::now() + PATIENCE;
    while transports[1].send(NODES[0], Lane::Log, Bytes::new()) != SendOutcome::UnknownPeer {
        assert!(Instant::now() < deadline, "without peers a node becomes unknown");
        sleep(PAUSE).await;
    }
    for transport in transports.iter_mut() {
        assert_eq!(transport.set_peers(all), Ok(()));
    }
    for (from, to) in [(0, 1), (1, 2), (2, 0)] {
        wait_for_peers(transports[from].as_ref()).await;
        let frame = Bytes::from(format!("{from} and {to} are peers again"));
        send_until_received(transports, from, to, Lane::Log, &frame).await;
    }
}

async fn a_peer_that_is_nowhere_disturbs_no_other(transports: &mut Transports, all: &[Peer]) {
    let before = connections(transports[1].as_ref());
    let more = [all, &[Peer::new(NOBODY, "localhost:1")]].concat();
    assert_eq!(transports[1].set_peers(&more), Ok(()), "a peer may be added before it is started");
    let statuses = transports[1].peers();
    let added = statuses.iter().find(|status| status.peer == NOBODY);
    assert!(added.is_some_and(|status| !status.is_connected), "it is listed, and not connected");
    let outcome = transports[1].send(NOBODY, Lane::Log, Bytes::new());
    assert!(!outcome.is_queued(), "nothing is queued for a peer that was never there");
    sleep(SETTLING).await;
    send_until_received(transports, 1, 0, Lane::Log, &Bytes::from_static(b"in spite of the missing")).await;
    assert_eq!(transports[1].set_peers(all), Ok(()));
    assert_eq!(connections(transports[1].as_ref()), before, "the connections with others are not touched");
}

async fn a_peer_that_has_moved_is_found(backend: &mut dyn Backend, transports: &mut Vec<Box<dyn Transport>>) {
    for index in [0, 2] {
        let mut old = transports.remove(index);
        close(old.as_mut()).await;
        drop(old);
        transports.insert(index, backend.start_elsewhere(NODES[index]).await);
        let moved = peers(backend);
        for transport in transports.iter_mut() {
            assert_eq!(transport.set_peers(&moved), Ok(()));
        }
        for transport in transports.iter() {
            wait_for_peers(transport.as_ref()).await;
        }
        for other in (0..transports.len()).filter(|other| *other != index) {
            let frame = Bytes::from(format!("node {index} has moved"));
            send_until_received(transports, index, other, Lane::Log, &frame).await;
            send_until_received(transports, other, index, Lane::Bulk, &frame).await;
        }
    }
}
