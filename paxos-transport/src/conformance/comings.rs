//! Nodes that close, are gone for a while, and come back.

use super::{
    Backend, Bytes, Instant, Lane, NODES, PATIENCE, PAUSE, SILENCE, SendOutcome, Transport, TransportExt,
    Transports, close, send_until_received, sleep, timeout, wait_for_peers,
};
use crate::SetPeersError;

/// How many frames are queued when a transport is closed.
const QUEUED_FRAMES: u32 = 100;

/// A node that has closed is missed by the others, which drop what they would send it. When it is back, it is
/// connected again on every lane.
pub(super) async fn a_peer_that_goes_is_missed_and_comes_back(
    backend: &mut dyn Backend,
    transports: &mut Vec<Box<dyn Transport>>,
) {
    let mut gone = transports.remove(1);
    close(gone.as_mut()).await;
    drop(gone);
    let deadline = Instant::now() + PATIENCE;
    for transport in transports.iter() {
        let own = transport.local_node();
        while transport.is_connected(NODES[1]) {
            assert!(Instant::now() < deadline, "node {own} notices that a peer has gone");
            sleep(PAUSE).await;
        }
        let outdated = Bytes::from_static(b"outdated by the time the peer is back");
        let outcome = transport.send(NODES[1], Lane::Log, outdated);
        assert_eq!(outcome, SendOutcome::Disconnected, "node {own} keeps no frames for a peer that is gone");
    }
    transports.insert(1, backend.start(NODES[1]).await);
    for transport in transports.iter() {
        wait_for_peers(transport.as_ref()).await;
    }
    for lane in Lane::ALL {
        for (from, to) in [(0, 1), (1, 2)] {
            let frame = Bytes::from(format!("from {from} to {to} on {lane:?}, as one of them is back"));
            send_until_received(transports, from, to, lane, &frame).await;
        }
    }
}

/// What is queued when a transport is closed is sent, unless it takes too long.
pub(super) async fn closing_sends_what_is_queued(
    backend: &mut dyn Backend,
    transports: &mut Vec<Box<dyn Transport>>,
) {
    let last_words = |number: u32| Bytes::from(format!("last words {number}"));
    let queued = (0..QUEUED_FRAMES)
        .filter(|number| transports[0].send(NODES[2], Lane::Log, last_words(*number)).is_queued())
        .count();
    let mut closing = transports.remove(0);
    let mut arrived = 0;
    let receive = async {
        while let Ok(Some(received)) = timeout(SILENCE, transports[1].receive()).await {
            arrived += usize::from(received.frame.starts_with(b"last words"));
            if arrived == queued {
                break;
            }
        }
    };
    tokio::join!(close(closing.as_mut()), receive);
    assert!(arrived > queued / 2, "of {queued} frames that were queued at the close, {arrived} arrive");
    drop(closing);
    transports.insert(0, backend.start(NODES[0]).await);
    for transport in transports.iter() {
        wait_for_peers(transport.as_ref()).await;
    }
}

/// Closing is final, whatever has arrived before and was not received yet.
pub(super) async fn a_closed_transport_is_silent(transports: &mut Transports) {
    for _ in 0..10 {
        let _ = transports[0].send(NODES[1], Lane::Control, Bytes::from_static(b"never received"));
    }
    sleep(PAUSE).await;
    let closed = transports[1].as_mut();
    close(closed).await;
    let received = timeout(PATIENCE, closed.receive()).await;
    assert_eq!(received, Ok(None), "a closed transport receives nothing, not even what had arrived");
    let mut frames = Vec::new();
    let count = timeout(PATIENCE, closed.receive_many(&mut frames, 10)).await;
    assert_eq!(count, Ok(0), "nor does it receive many at once");
    assert!(
        closed.peers().iter().all(|status| !status.is_connected),
        "a closed transport has no connections"
    );
    let changed = closed.set_peers(&[]);
    let is_refused = matches!(changed, Err(SetPeersError::Closed | SetPeersError::NotSupported));
    assert!(is_refused, "a closed transport takes no peers");
}
