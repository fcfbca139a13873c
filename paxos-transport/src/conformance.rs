//! What every backend must do, as a test that anyone can run over an own one.
//!
//! Run it where the network itself loses next to nothing, as on one machine: frames may get lost, but a backend
//! that loses many would not be told from one that is wrong.
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
//! }
//!
//! conformance::check(&mut Memory(MemoryNetwork::new())).await;
//! # }
//! # #[cfg(not(feature = "memory"))]
//! # fn main() {}
//! ```

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use paxos_core::NodeId;
use tokio::time::{Instant, sleep, timeout};

use crate::{Lane, Received, SendOutcome, Transport, TransportExt};

/// The nodes that the suite starts.
pub const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(7)];

/// How long anything may take before it counts as broken.
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(5);
/// How long a frame may be on its way before it counts as lost.
const FRAME_PATIENCE: Duration = Duration::from_millis(500);
/// Far more than all queues and windows between two nodes hold.
const FLOOD_BYTES: usize = 1 << 30;

type Ends = [Box<dyn Transport>];

/// How the suite gets at transports of a backend.
#[async_trait]
pub trait Backend: Send {
    /// The end of one of [`NODES`], set up to reach the others. Called again for a node whose end has been
    /// dropped, as when a node is started again.
    async fn start(&mut self, node: NodeId) -> Box<dyn Transport>;
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
    for end in &ends {
        wait_for_peers(end.as_ref()).await;
    }
    frames_arrive_on_every_lane(&mut ends).await;
    frames_of_every_size_arrive(&mut ends).await;
    what_can_not_be_sent_is_told(&ends);
    receiving_is_cancel_safe(&mut ends).await;
    many_are_received_at_once(&mut ends).await;
    a_flood_stays_bounded_and_leaves_control_free(&mut ends).await;
    traffic_is_counted(&ends);
    a_node_that_is_started_again_is_found_again(backend, &mut ends).await;
    sending_to_a_node_that_is_gone_is_bounded(&mut ends).await;
    closing_ends_everything(&mut ends).await;
}

async fn wait_for_peers(end: &dyn Transport) {
    let own = end.local_node();
    let others: Vec<NodeId> = NODES.into_iter().filter(|node| *node != own).collect();
    let deadline = Instant::now() + PATIENCE;
    while !others.iter().all(|node| end.is_connected(*node)) {
        assert!(Instant::now() < deadline, "node {own} reaches all others in time");
        sleep(PAUSE).await;
    }
    let peers: Vec<NodeId> = end.peers().iter().map(|status| status.peer).collect();
    assert_eq!(peers, others, "the status of node {own} lists all others");
}

/// Sends a frame again and again until it arrives, as any may get lost; others that arrive are dropped.
async fn send_until_received(ends: &mut Ends, from: usize, to: usize, lane: Lane, frame: &Bytes) {
    let (sender, target) = (ends[from].local_node(), ends[to].local_node());
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "a frame of {} bytes on {lane:?} arrives in time", frame.len());
        let patience = match ends[from].send(target, lane, frame.clone()) {
            SendOutcome::Queued => FRAME_PATIENCE,
            _ => PAUSE,
        };
        let until = Instant::now() + patience;
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

async fn frames_arrive_on_every_lane(ends: &mut Ends) {
    for from in 0..ends.len() {
        for to in (0..ends.len()).filter(|to| *to != from) {
            for lane in Lane::ALL {
                let frame = Bytes::from(format!("from {from} to {to} on {lane:?}"));
                send_until_received(ends, from, to, lane, &frame).await;
            }
        }
    }
}

async fn frames_of_every_size_arrive(ends: &mut Ends) {
    let max = ends[0].max_frame_bytes();
    let sizes = [0, 1, 1000, 1500, 16 << 10, 64 << 10, (64 << 10) + 1, 1 << 20, max - 1, max];
    for size in sizes.into_iter().filter(|size| *size <= max) {
        let frame: Bytes = (0..=250).cycle().take(size).collect::<Vec<u8>>().into();
        for lane in Lane::ALL {
            send_until_received(ends, 0, 2, lane, &frame).await;
        }
    }
}

fn what_can_not_be_sent_is_told(ends: &Ends) {
    let frame = Bytes::from_static(b"frame");
    let to_nobody = ends[0].send(NodeId(99), Lane::Control, frame.clone());
    assert_eq!(to_nobody, SendOutcome::UnknownPeer, "node 99 does not exist");
    let to_itself = ends[0].send(NODES[0], Lane::Control, frame);
    assert_eq!(to_itself, SendOutcome::UnknownPeer, "a node is no peer of its own");
    let size = ends[0].max_frame_bytes() + 1;
    let too_large = ends[0].send(NODES[1], Lane::Bulk, Bytes::from(vec![0; size]));
    assert_eq!(too_large, SendOutcome::TooLarge, "a frame is bounded");
}

async fn receiving_is_cancel_safe(ends: &mut Ends) {
    const COUNT: u32 = 200;
    let mut missing: BTreeSet<u32> = (0..COUNT).collect();
    let deadline = Instant::now() + PATIENCE;
    let mut next = 0;
    let mut attempts: u32 = 0;
    while !missing.is_empty() {
        assert!(Instant::now() < deadline, "no frame is lost between two calls to receive");
        if next < COUNT {
            let _ = ends[0].send(NODES[1], Lane::Log, Bytes::copy_from_slice(&next.to_le_bytes()));
            next += 1;
        }
        // Dropped again and again before it is ready, sometimes after it has only been looked at.
        attempts += 1;
        let is_long = attempts.is_multiple_of(4);
        let received = tokio::select! {
            biased;
            received = ends[1].receive() => received,
            () = tokio::task::yield_now(), if !is_long => continue,
            () = sleep(Duration::from_millis(1)), if is_long => continue,
        };
        if let Some(Received { frame, .. }) = received
            && let Ok(number) = <[u8; 4]>::try_from(&frame[..])
        {
            missing.remove(&u32::from_le_bytes(number));
        }
    }
}

async fn many_are_received_at_once(ends: &mut Ends) {
    for _ in 0..10 {
        let _ = ends[0].send(NODES[1], Lane::Log, Bytes::from_static(b"one of many"));
    }
    let mut frames = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while frames.len() < 10 {
        let patience = deadline.saturating_duration_since(Instant::now());
        let count = timeout(patience, ends[1].receive_many(&mut frames, 3)).await;
        let count = count.expect("what was sent arrives in time");
        assert!((1..=3).contains(&count), "at least one frame, and no more than asked for");
    }
}

async fn a_flood_stays_bounded_and_leaves_control_free(ends: &mut Ends) {
    let frame = Bytes::from(vec![7; (256 << 10).min(ends[0].max_frame_bytes())]);
    let mut is_full = false;
    for round in 0..FLOOD_BYTES / frame.len() {
        is_full |= ends[0].send(NODES[2], Lane::Bulk, frame.clone()) == SendOutcome::Full;
        if round % 50 == 0 {
            tokio::task::yield_now().await;
        }
    }
    assert!(is_full, "what does not fit into a queue is dropped");
    let outcome = ends[0].send(NODES[1], Lane::Control, Bytes::from_static(b"urgent"));
    assert_eq!(outcome, SendOutcome::Queued, "another peer's lanes are free");

    let until = Instant::now() + PATIENCE;
    let _ = ends[0].send(NODES[2], Lane::Control, Bytes::from_static(b"during the flood"));
    let mut bulk_frames = 0;
    loop {
        let received = timeout(until.saturating_duration_since(Instant::now()), ends[2].receive()).await;
        let received = received.expect("a control frame arrives during a flood").expect("it is open");
        match received.lane {
            Lane::Control if received.frame == b"during the flood"[..] => break,
            Lane::Bulk => bulk_frames += 1,
            _ => {}
        }
        // Whoever takes frames as fast as they come still gets the urgent one first, or nearly.
        assert!(bulk_frames * frame.len() < FLOOD_BYTES / 4, "a control frame overtakes bulk");
        let _ = ends[0].send(NODES[2], Lane::Bulk, frame.clone());
    }
}

fn traffic_is_counted(ends: &Ends) {
    let counters = |end: usize, peer: NodeId| {
        let found = ends[end].peers().into_iter().find(|status| status.peer == peer);
        found.expect("the peer is listed").counters
    };
    let (out, back) = (counters(0, NODES[2]), counters(2, NODES[0]));
    assert!(out.sent.frames > 0 && out.sent.bytes > out.sent.frames, "what is sent is counted: {out:?}");
    assert!(
        back.received.frames > 0 && back.received.bytes > back.received.frames,
        "so is what arrives: {back:?}"
    );
    assert!(out.dropped.full > 0, "so is what a full queue drops: {out:?}");
    assert_eq!(counters(0, NODES[1]).dropped.too_large, 1, "so is what is too large");
    assert!(out.connections > 0, "so is each connection");
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

async fn sending_to_a_node_that_is_gone_is_bounded(ends: &mut Vec<Box<dyn Transport>>) {
    let mut gone = ends.pop().expect("there are three");
    gone.close().await;
    drop(gone);
    let frame = Bytes::from(vec![7; (64 << 10).min(ends[0].max_frame_bytes())]);
    let mut queued_bytes = 0;
    for round in 0..FLOOD_BYTES / frame.len() {
        if ends[0].send(NODES[2], Lane::Log, frame.clone()).is_queued() {
            queued_bytes += frame.len();
        }
        if round % 50 == 0 {
            tokio::task::yield_now().await;
        }
    }
    assert!(queued_bytes < FLOOD_BYTES / 2, "frames for a node that is gone do not pile up");
    send_until_received(ends, 0, 1, Lane::Control, &Bytes::from_static(b"the others do not notice")).await;
}

async fn closing_ends_everything(ends: &mut Ends) {
    for end in ends {
        end.close().await;
        end.close().await;
        let received = poll_fn(|context| Poll::Ready(end.poll_receive(context))).await;
        assert_eq!(received, Poll::Ready(None), "a closed transport receives nothing");
        let outcome = end.send(NODES[1], Lane::Control, Bytes::new());
        assert!(!outcome.is_queued(), "a closed transport sends nothing");
    }
}
