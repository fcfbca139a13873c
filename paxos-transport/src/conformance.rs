//! What every backend must do, as a test that anyone can run over an own one.
//!
//! ```
//! # #[cfg(feature = "memory")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! use paxos_core::NodeId;
//! use paxos_transport::conformance::{self, Backend};
//! use paxos_transport::{Transport, memory::MemoryNetwork};
//!
//! struct Memory(MemoryNetwork);
//!
//! #[async_trait::async_trait]
//! impl Backend for Memory {
//!     async fn start(&mut self, node: NodeId) -> Box<dyn Transport> {
//!         Box::new(self.0.bind(node))
//!     }
//!
//!     fn max_frame_bytes(&self) -> usize {
//!         64 << 20
//!     }
//! }
//!
//! conformance::check(&mut Memory(MemoryNetwork::default())).await;
//! # }
//! # #[cfg(not(feature = "memory"))]
//! # fn main() {}
//! ```

use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use paxos_core::NodeId;
use tokio::time::{sleep, timeout};

use crate::{Lane, Received, SendOutcome, Transport, TransportExt};

/// The nodes that the suite starts.
pub const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(7)];

const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(5);

/// How the suite gets at transports of a backend.
#[async_trait]
pub trait Backend: Send {
    /// The end of one of [`NODES`], set up to reach the others. Called again for a node whose end has been
    /// dropped, as when a node is started again.
    async fn start(&mut self, node: NodeId) -> Box<dyn Transport>;

    /// The longest frame that can be sent.
    fn max_frame_bytes(&self) -> usize;
}

/// Checks every promise of [`Transport`].
///
/// # Panics
///
/// With the promise that is broken.
pub async fn check(backend: &mut dyn Backend) {
    let mut ends = Vec::new();
    for node in NODES {
        ends.push(backend.start(node).await);
    }
    for end in &mut ends {
        wait_for_peers(end.as_mut()).await;
    }
    frames_arrive_on_every_lane(&mut ends).await;
    frames_of_every_size_arrive(&mut ends, backend.max_frame_bytes()).await;
    what_can_not_be_sent_is_told(&ends, backend.max_frame_bytes());
    receiving_is_cancel_safe(&mut ends).await;
    a_flood_stays_bounded_and_leaves_control_free(&mut ends).await;
    a_node_that_is_started_again_is_found_again(backend, &mut ends).await;
    closing_ends_everything(&mut ends).await;
}

async fn wait_for_peers(end: &mut dyn Transport) {
    let own = end.local_node();
    let deadline = Instant::now() + PATIENCE;
    while !NODES.iter().all(|node| *node == own || end.is_connected(*node)) {
        assert!(Instant::now() < deadline, "node {own} reaches all others in time");
        sleep(PAUSE).await;
    }
}

/// Sends a frame again and again until it arrives, as any may get lost; others that arrive are dropped.
async fn send_until_received(
    ends: &mut [Box<dyn Transport>],
    from: usize,
    to: usize,
    lane: Lane,
    frame: &Bytes,
) {
    let (sender, target) = (ends[from].local_node(), ends[to].local_node());
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "a frame of {} bytes on {lane:?} arrives in time", frame.len());
        ends[from].send(target, lane, frame.clone());
        let until = Instant::now() + Duration::from_millis(500);
        while let Ok(received) =
            timeout(until.saturating_duration_since(Instant::now()), ends[to].receive()).await
        {
            let received = received.expect("an open transport goes on receiving");
            if received.frame == *frame && received.lane == lane {
                assert_eq!(received.from, sender, "the sender is who it is");
                return;
            }
        }
    }
}

async fn frames_arrive_on_every_lane(ends: &mut [Box<dyn Transport>]) {
    for from in 0..ends.len() {
        for to in (0..ends.len()).filter(|to| *to != from) {
            for lane in Lane::ALL {
                let frame = Bytes::from(format!("from {from} to {to} on {lane:?}"));
                send_until_received(ends, from, to, lane, &frame).await;
            }
        }
    }
}

async fn frames_of_every_size_arrive(ends: &mut [Box<dyn Transport>], max_frame_bytes: usize) {
    let sizes = [0, 1, 1000, 1500, 16 << 10, (64 << 10) + 1, 1 << 20, max_frame_bytes.min(8 << 20)];
    for size in sizes.into_iter().filter(|size| *size <= max_frame_bytes) {
        let frame: Bytes =
            (0..size).map(|index| u8::try_from(index % 251).unwrap_or(0)).collect::<Vec<_>>().into();
        for lane in Lane::ALL.into_iter().filter(|lane| lane.queue_bytes() > 2 * size) {
            send_until_received(ends, 0, 2, lane, &frame).await;
        }
    }
}

fn what_can_not_be_sent_is_told(ends: &[Box<dyn Transport>], max_frame_bytes: usize) {
    let frame = Bytes::from_static(b"frame");
    let to_nobody = ends[0].send(NodeId(99), Lane::Control, frame.clone());
    assert_eq!(to_nobody, SendOutcome::UnknownPeer, "node 99 does not exist");
    let to_itself = ends[0].send(NODES[0], Lane::Control, frame);
    assert_eq!(to_itself, SendOutcome::UnknownPeer, "a node is no peer of its own");
    let too_large = ends[0].send(NODES[1], Lane::Bulk, Bytes::from(vec![0; max_frame_bytes + 1]));
    assert_eq!(too_large, SendOutcome::TooLarge, "a frame is bounded");
}

async fn receiving_is_cancel_safe(ends: &mut [Box<dyn Transport>]) {
    const COUNT: u32 = 200;
    let mut missing: std::collections::BTreeSet<u32> = (0..COUNT).collect();
    let deadline = Instant::now() + PATIENCE;
    let mut next = 0;
    while !missing.is_empty() {
        assert!(Instant::now() < deadline, "no frame is lost between two calls to receive");
        if next < COUNT {
            ends[0].send(NODES[1], Lane::Log, Bytes::copy_from_slice(&next.to_le_bytes()));
            next += 1;
        }
        // Dropped again and again before it is ready.
        let received = timeout(Duration::from_micros(200), ends[1].receive()).await;
        if let Ok(Some(Received { frame, .. })) = received
            && let Ok(number) = <[u8; 4]>::try_from(&frame[..])
        {
            missing.remove(&u32::from_le_bytes(number));
        }
    }
}

async fn a_flood_stays_bounded_and_leaves_control_free(ends: &mut [Box<dyn Transport>]) {
    let frame = Bytes::from(vec![7; 256 << 10]);
    let mut dropped = false;
    // Far more than all queues and inboxes hold, and nobody takes any of it.
    for round in 0..4000 {
        dropped |= ends[0].send(NODES[2], Lane::Bulk, frame.clone()) == SendOutcome::Full;
        if round % 50 == 0 {
            tokio::task::yield_now().await;
        }
    }
    assert!(dropped, "what does not fit into a queue is dropped");
    let outcome = ends[0].send(NODES[1], Lane::Control, Bytes::from_static(b"urgent"));
    assert_eq!(outcome, SendOutcome::Queued, "another peer's lanes are free");
    send_until_received(ends, 0, 2, Lane::Control, &Bytes::from_static(b"after the flood")).await;
}

async fn a_node_that_is_started_again_is_found_again(
    backend: &mut dyn Backend,
    ends: &mut Vec<Box<dyn Transport>>,
) {
    for (index, node) in NODES.into_iter().enumerate() {
        let mut old = ends.remove(index);
        old.close().await;
        drop(old);
        ends.insert(index, backend.start(node).await);
        for other in (0..ends.len()).filter(|other| *other != index) {
            let frame = Bytes::from(format!("node {node} is back"));
            send_until_received(ends, index, other, Lane::Log, &frame).await;
            send_until_received(ends, other, index, Lane::Bulk, &frame).await;
        }
    }
}

async fn closing_ends_everything(ends: &mut [Box<dyn Transport>]) {
    for end in ends {
        end.close().await;
        end.close().await;
        assert_eq!(end.receive().await, None, "a closed transport receives nothing");
        let outcome = end.send(NODES[0], Lane::Control, Bytes::new());
        assert!(!outcome.is_queued(), "a closed transport sends nothing");
    }
}
