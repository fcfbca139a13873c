//! Connections that fall silent without ending, and connections that are reset in the middle of a frame.
#![cfg(all(feature = "quic", feature = "tcp"))]

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::proxy::Proxy;
use common::{Cluster, Kind, ONE, TWO, eventually};
use paxos_core::NodeId;
use paxos_transport::{Lane, SendOutcome, Transport, TransportExt};
use tokio::time::{Instant, timeout};

const LONG: Duration = Duration::from_secs(20);
const IDLE_TIMEOUT: Duration = Duration::from_millis(2100);
/// Short frames, and long ones that are read and written in several pieces.
const LENGTHS: [usize; 8] = [0, 300, 1_500, 9_000, 30_000, 66_000, 140_000, 70_000];

/// Two nodes. The second one dials the first through a proxy.
async fn start(kind: Kind) -> (Proxy, Box<dyn Transport>, Box<dyn Transport>) {
    let mut cluster = Cluster::with_own_ports(kind, &[ONE, TWO]);
    let one = cluster.start_with(ONE, |config| config.idle_timeout = IDLE_TIMEOUT).await;
    let target = cluster.config(ONE).listen;
    let proxy = Proxy::start(kind, target).await;
    let address = proxy.address.to_string();
    let two = cluster
        .start_with(TWO, |config| {
            config.idle_timeout = IDLE_TIMEOUT;
            config.peers.insert(ONE, address.clone());
        })
        .await;
    eventually(LONG, "they connect", || one.is_connected(TWO) && two.is_connected(ONE)).await;
    (proxy, one, two)
}

/// The frames of a node. All differ, except the empty ones.
fn frames(from: NodeId) -> Vec<Bytes> {
    let mut random = fastrand::Rng::with_seed(from.0);
    let mut frame = |length: &usize| (0..*length).map(|_| random.u8(..)).collect();
    LENGTHS.iter().cycle().take(3 * LENGTHS.len()).map(&mut frame).collect()
}

/// The frames between two nodes, and how many were sent and received.
struct Traffic {
    frames: [Vec<Bytes>; 2],
    sent: usize,
    received: usize,
}

impl Traffic {
    fn new() -> Traffic {
        Traffic { frames: [frames(ONE), frames(TWO)], sent: 0, received: 0 }
    }

    /// Sends a few frames each way, and checks those that have arrived.
    async fn flow(&mut self, one: &mut dyn Transport, two: &mut dyn Transport) {
        for _ in 0..LENGTHS.len() {
            self.sent += 1;
            let (number, lane) = (self.sent % self.frames[0].len(), Lane::ALL[self.sent / 5 % 3]);
            let _ = one.send(TWO, lane, self.frames[0][number].clone());
            let _ = two.send(ONE, lane, self.frames[1][number].clone());
        }
        for (transport, sent) in [(one, &self.frames[1]), (two, &self.frames[0])] {
            while let Ok(received) = timeout(Duration::from_millis(1), transport.receive()).await {
                let received = received.expect("the transport is open");
                let (from, length) = (received.from, received.frame.len());
                assert!(
                    sent.contains(&received.frame),
                    "{length} bytes arrive that node {from} has not sent"
                );
                self.received += 1;
            }
        }
    }

    async fn flow_for(&mut self, time: Duration, one: &mut dyn Transport, two: &mut dyn Transport) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.flow(one, two).await;
        }
    }

    /// Continues until this many more frames have arrived.
    async fn flow_until(&mut self, more: usize, one: &mut dyn Transport, two: &mut dyn Transport) {
        let (wanted, deadline) = (self.received + more, Instant::now() + LONG);
        while self.received < wanted {
            assert!(Instant::now() < deadline, "frames arrive again");
            self.flow(one, two).await;
        }
    }
}

fn nonsense(transport: &dyn Transport) -> u64 {
    transport.peers().iter().map(|status| status.counters.nonsense).sum()
}

#[tokio::test]
async fn a_peer_that_falls_silent_is_given_up_on_both_sides_and_found_again() {
    for kind in Kind::ALL {
        let (proxy, mut one, mut two) = start(kind).await;
        let mut traffic = Traffic::new();
        traffic.flow_until(100, one.as_mut(), two.as_mut()).await;
        let before = one.peers()[0].counters.connections;

        // In the middle of a frame, most likely.
        proxy.fall_silent();
        let silent_since = Instant::now();
        let is_given_up = |transport: &dyn Transport, peer| {
            Lane::ALL
                .into_iter()
                .all(|lane| transport.send(peer, lane, Bytes::new()) == SendOutcome::Disconnected)
        };
        eventually(LONG, "both give each other up", || {
            is_given_up(one.as_ref(), TWO) && is_given_up(two.as_ref(), ONE)
        })
        .await;
        let given_up_after = silent_since.elapsed();
        println!("{kind:?}: given up after {given_up_after:?}");
        assert!(given_up_after > IDLE_TIMEOUT / 2, "{kind:?}: not by an end, which there was none of");
        traffic.flow_for(IDLE_TIMEOUT, one.as_mut(), two.as_mut()).await;
        assert_eq!(one.peers()[0].counters.connections, before, "{kind:?}: nothing gets through meanwhile");

        proxy.speak();
        eventually(LONG, "they find each other", || one.is_connected(TWO) && two.is_connected(ONE)).await;
        traffic.flow_until(100, one.as_mut(), two.as_mut()).await;
        assert_eq!((nonsense(one.as_ref()), nonsense(two.as_ref())), (0, 0), "{kind:?}");
    }
}

#[tokio::test]
async fn connections_that_are_reset_in_the_middle_of_frames_lose_frames_and_change_none() {
    for kind in Kind::ALL {
        let (proxy, mut one, mut two) = start(kind).await;
        let mut traffic = Traffic::new();
        for reset in 0..8 {
            traffic.flow_until(20, one.as_mut(), two.as_mut()).await;
            proxy.reset();
            traffic.flow_for(Duration::from_millis(10 * reset), one.as_mut(), two.as_mut()).await;
        }
        eventually(LONG, "they find each other", || one.is_connected(TWO) && two.is_connected(ONE)).await;
        traffic.flow_until(100, one.as_mut(), two.as_mut()).await;
        assert_eq!((nonsense(one.as_ref()), nonsense(two.as_ref())), (0, 0), "{kind:?}");
    }
}

#[tokio::test]
async fn a_silence_shorter_than_the_idle_timeout_breaks_nothing() {
    for kind in Kind::ALL {
        let (proxy, mut one, mut two) = start(kind).await;
        let mut traffic = Traffic::new();
        traffic.flow_until(50, one.as_mut(), two.as_mut()).await;
        let before = one.peers()[0].counters.connections;
        proxy.fall_silent();
        traffic.flow_for(Duration::from_millis(200), one.as_mut(), two.as_mut()).await;
        proxy.speak();
        traffic.flow_until(100, one.as_mut(), two.as_mut()).await;
        assert_eq!(one.peers()[0].counters.connections, before, "{kind:?}: by the same connections");
    }
}
