//! A test suite for the contract of [`Transport`], to run on any backend.
//!
//! Run it on a network that loses next to nothing, such as the loopback interface: the suite accepts a few
//! lost frames, but can't tell a very lossy network from a faulty backend.
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

mod comings;
#[cfg(all(test, feature = "memory"))]
mod faults;
mod queues;
mod set_peers;
mod sizes;

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use paxos_core::NodeId;
use tokio::time::{Instant, sleep, timeout};

use crate::{Lane, PeerCounters, Received, SendOutcome, Transport, TransportExt};

/// The ids of the nodes that the suite starts.
pub const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(7)];

/// A step that takes longer than this fails.
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(5);
/// A frame that takes longer than this for each MiB counts as lost, and is sent again.
const FRAME_PATIENCE: Duration = Duration::from_millis(500);
/// If nothing arrives for this long, nothing is on the way any more.
const SILENCE: Duration = Duration::from_secs(4);
/// Frame lengths near these are tried one by one: buffers of backends may end there.
const EDGES_BYTES: [usize; 6] = [0, 1500, 16 << 10, 64 << 10, 128 << 10, 192 << 10];
/// How far from such a length.
const AROUND_EDGE_BYTES: usize = 8;
/// More bytes than all queues and windows between two nodes hold.
const FLOOD_BYTES: usize = 1 << 30;

type Transports = [Box<dyn Transport>];

/// Makes the transports that the suite tests.
#[async_trait]
pub trait Backend: Send {
    /// Starts the transport of one of [`NODES`], configured to reach the others. Called again for a node
    /// whose transport was dropped, as when a node restarts.
    async fn start(&mut self, node: NodeId) -> Box<dyn Transport>;

    /// The address of a node that was started, for [`Transport::set_peers`]. A backend without addresses, or
    /// with fixed peers, keeps the default.
    fn address(&self, node: NodeId) -> String {
        let _ = node;
        String::new()
    }

    /// Does what [`start`](Backend::start) does, with another address than before. A backend without
    /// addresses keeps the default.
    async fn start_elsewhere(&mut self, node: NodeId) -> Box<dyn Transport> {
        self.start(node).await
    }
}

/// Checks every promise of [`Transport`]. Of a backend that does not support
/// [`set_peers`](Transport::set_peers), all others.
///
/// # Panics
///
/// If the backend breaks a promise; the message names it.
pub async fn check(backend: &mut dyn Backend) {
    let mut transports = Vec::new();
    for node in NODES {
        transports.push(backend.start(node).await);
    }
    for transport in &transports {
        wait_for_peers(transport.as_ref()).await;
    }
    frames_arrive_on_every_lane(&mut transports).await;
    sizes::the_limit_is_exact(&mut transports).await;
    sizes::empty_frames_arrive(&mut transports).await;
    frames_of_every_size_arrive(&mut transports).await;
    frames_of_mixed_sizes_arrive_whole_or_not_at_all(&mut transports).await;
    sizes::frames_of_mixed_sizes_keep_to_their_lanes(&mut transports).await;
    what_can_not_be_sent_is_told(&transports);
    receiving_is_cancel_safe(&mut transports).await;
    many_are_received_at_once(&mut transports).await;
    a_flood_stays_bounded_and_leaves_control_free(&mut transports).await;
    traffic_is_counted(&transports);
    queues::full_queues_empty_again(&mut transports).await;
    set_peers::peers_change_while_transports_run(backend, &mut transports).await;
    comings::a_peer_that_goes_is_missed_and_comes_back(backend, &mut transports).await;
    a_node_that_is_started_again_is_found_again(backend, &mut transports).await;
    comings::closing_sends_what_is_queued(backend, &mut transports).await;
    sending_to_a_node_that_is_gone_is_bounded(&mut transports).await;
    comings::a_closed_transport_is_silent(&mut transports).await;
    closing_ends_everything(&mut transports).await;
}

async fn wait_for_peers(transport: &dyn Transport) {
    let own = transport.local_node();
    let others: Vec<NodeId> = NODES.into_iter().filter(|node| *node != own).collect();
    let deadline = Instant::now() + PATIENCE;
    while !others.iter().all(|node| transport.is_connected(*node)) {
        assert!(Instant::now() < deadline, "node {own} reaches all others in time");
        sleep(PAUSE).await;
    }
    let peers: Vec<NodeId> = transport.peers().iter().map(|status| status.peer).collect();
    assert_eq!(peers, others, "the status of node {own} lists all others");
}

async fn close(transport: &mut dyn Transport) {
    assert!(timeout(PATIENCE, transport.close()).await.is_ok(), "closing ends in time");
}

/// The counters of a peer.
fn counters(transport: &dyn Transport, peer: NodeId) -> PeerCounters {
    let found = transport.peers().into_iter().find(|status| status.peer == peer);
    found.expect("the peer is listed").counters
}

/// Sends a frame repeatedly until it arrives, since frames may get lost. Drops all others that arrive.
async fn send_until_received(transports: &mut Transports, from: usize, to: usize, lane: Lane, frame: &Bytes) {
    let (sender, target) = (transports[from].local_node(), transports[to].local_node());
    let deadline = Instant::now() + PATIENCE;
    // Copies of long frames would be in the way of the next step.
    let frame_patience = FRAME_PATIENCE * (1 + u32::try_from(frame.len() >> 20).unwrap_or(u32::MAX));
    loop {
        assert!(Instant::now() < deadline, "a frame of {} bytes on {lane:?} arrives in time", frame.len());
        let patience = match transports[from].send(target, lane, frame.clone()) {
            SendOutcome::Queued => frame_patience,
            SendOutcome::TooLarge => panic!("a frame of {} bytes is not too large", frame.len()),
            _ => PAUSE,
        };
        let until = Instant::now() + patience;
        while let Ok(received) =
            timeout(until.saturating_duration_since(Instant::now()), transports[to].receive()).await
        {
            let received = received.expect("an open transport goes on receiving");
            if received.frame == *frame && received.lane == lane {
                assert_eq!(received.from, sender, "the sender is who it is");
                return;
            }
        }
    }
}

async fn frames_arrive_on_every_lane(transports: &mut Transports) {
    for from in 0..transports.len() {
        for to in (0..transports.len()).filter(|to| *to != from) {
            for lane in Lane::ALL {
                send_until_received(transports, from, to, lane, &greeting(from, to, lane)).await;
            }
        }
    }
}

fn greeting(from: usize, to: usize, lane: Lane) -> Bytes {
    Bytes::from(format!("from {from} to {to} on {lane:?}"))
}

async fn frames_of_every_size_arrive(transports: &mut Transports) {
    let max = transports[0].max_frame_bytes();
    let sizes = [0, 1, 1000, 1500, 16 << 10, 64 << 10, (64 << 10) + 1, 1 << 20, max - 1, max];
    for size in sizes.into_iter().filter(|size| *size <= max) {
        let frame: Bytes = (0..=250).cycle().take(size).collect::<Vec<u8>>().into();
        for lane in Lane::ALL {
            send_until_received(transports, 0, 2, lane, &frame).await;
        }
    }
}

/// Sends long and short frames in one burst: each frame that arrives must be one of those sent.
///
/// It uses two nodes that have only greeted each other, because late copies of frames that were sent
/// repeatedly may still arrive at the others.
async fn frames_of_mixed_sizes_arrive_whole_or_not_at_all(transports: &mut Transports) {
    let (from, to) = (1, 0);
    let max = transports[0].max_frame_bytes();
    let around = |edge: usize| edge.saturating_sub(AROUND_EDGE_BYTES)..=edge + AROUND_EDGE_BYTES;
    let mut sizes: Vec<usize> =
        EDGES_BYTES.into_iter().flat_map(around).filter(|size| *size <= max).collect();
    // Mixes long and short ones.
    sizes.sort_by_key(|size| pattern(*size as u64, 0));
    for lane in Lane::ALL {
        let mut missing = BTreeSet::new();
        let mut sent = BTreeSet::from([greeting(from, to, lane)]);
        for (number, size) in (0_u64..).zip(&sizes) {
            let frame: Bytes = (0..*size as u64).map(|place| pattern(number, place)).collect();
            if transports[from].send(NODES[to], lane, frame.clone()).is_queued() {
                missing.insert(frame.clone());
                sent.insert(frame);
            }
        }
        let queued = missing.len();
        while !missing.is_empty() {
            let Ok(received) = timeout(SILENCE, transports[to].receive()).await else { break };
            let received = received.expect("an open transport goes on receiving");
            let Received { from: sender, lane: on, frame } = received;
            if (sender, on) == (NODES[from], lane) {
                let length = frame.len();
                assert!(
                    sent.contains(&frame),
                    "a frame of {length} bytes arrives on {lane:?} that nobody has sent"
                );
                missing.remove(&frame);
            }
        }
        assert!(missing.len() <= queued / 2, "on {lane:?} {} of {queued} frames are lost", missing.len());
    }
    for (index, node) in NODES.into_iter().enumerate() {
        let nonsense: u64 = transports[index].peers().iter().map(|status| status.counters.nonsense).sum();
        assert_eq!(nonsense, 0, "node {node} understands what it is sent");
    }
}

/// The byte at `place` of the frame with this number.
fn pattern(number: u64, place: u64) -> u8 {
    let mixed = (number << 32 | place).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9).to_be_bytes()[0]
}

fn what_can_not_be_sent_is_told(transports: &Transports) {
    let frame = Bytes::from_static(b"frame");
    let to_nobody = transports[0].send(NodeId(99), Lane::Control, frame.clone());
    assert_eq!(to_nobody, SendOutcome::UnknownPeer, "node 99 does not exist");
    let to_itself = transports[0].send(NODES[0], Lane::Control, frame);
    assert_eq!(to_itself, SendOutcome::UnknownPeer, "a node is no peer of its own");
}

async fn receiving_is_cancel_safe(transports: &mut Transports) {
    const COUNT: u32 = 200;
    let mut missing: BTreeSet<u32> = (0..COUNT).collect();
    let deadline = Instant::now() + PATIENCE;
    let mut next = 0;
    let mut attempts: u32 = 0;
    while !missing.is_empty() {
        assert!(Instant::now() < deadline, "no frame is lost between two calls to receive");
        if next < COUNT {
            let _ = transports[0].send(NODES[1], Lane::Log, Bytes::copy_from_slice(&next.to_le_bytes()));
            next += 1;
        }
        // The future is dropped repeatedly before it is ready, sometimes after a single poll.
        attempts += 1;
        let is_long = attempts.is_multiple_of(4);
        let received = tokio::select! {
            biased;
            received = transports[1].receive() => received,
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

async fn many_are_received_at_once(transports: &mut Transports) {
    for _ in 0..10 {
        let _ = transports[0].send(NODES[1], Lane::Log, Bytes::from_static(b"one of many"));
    }
    let mut frames = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while frames.len() < 10 {
        let patience = deadline.saturating_duration_since(Instant::now());
        let count = timeout(patience, transports[1].receive_many(&mut frames, 3)).await;
        let count = count.expect("what was sent arrives in time");
        assert!((1..=3).contains(&count), "at least one frame, and no more than asked for");
    }
}

async fn a_flood_stays_bounded_and_leaves_control_free(transports: &mut Transports) {
    let frame = Bytes::from(vec![7; (256 << 10).min(transports[0].max_frame_bytes())]);
    let mut is_full = false;
    for round in 0..FLOOD_BYTES / frame.len() {
        is_full |= transports[0].send(NODES[2], Lane::Bulk, frame.clone()) == SendOutcome::Full;
        if round % 50 == 0 {
            tokio::task::yield_now().await;
        }
    }
    assert!(is_full, "what does not fit into a queue is dropped");
    let outcome = transports[0].send(NODES[1], Lane::Control, Bytes::from_static(b"urgent"));
    assert_eq!(outcome, SendOutcome::Queued, "another peer's lanes are free");

    let until = Instant::now() + PATIENCE;
    let _ = transports[0].send(NODES[2], Lane::Control, Bytes::from_static(b"during the flood"));
    let mut bulk_frames = 0;
    loop {
        let received =
            timeout(until.saturating_duration_since(Instant::now()), transports[2].receive()).await;
        let received = received.expect("a control frame arrives during a flood").expect("it is open");
        match received.lane {
            Lane::Control if received.frame == b"during the flood"[..] => break,
            Lane::Bulk => bulk_frames += 1,
            _ => {}
        }
        // The urgent frame overtakes most of the others, however fast they are received.
        assert!(bulk_frames * frame.len() < FLOOD_BYTES / 4, "a control frame overtakes bulk");
        let _ = transports[0].send(NODES[2], Lane::Bulk, frame.clone());
    }
}

fn traffic_is_counted(transports: &Transports) {
    let out = counters(transports[0].as_ref(), NODES[2]);
    let back = counters(transports[2].as_ref(), NODES[0]);
    assert!(out.sent.frames > 0 && out.sent.bytes > out.sent.frames, "what is sent is counted: {out:?}");
    assert!(
        back.received.frames > 0 && back.received.bytes > back.received.frames,
        "so is what arrives: {back:?}"
    );
    assert!(out.dropped.full > 0, "so is what a full queue drops: {out:?}");
    assert!(out.connections > 0, "so is each connection");
}

async fn a_node_that_is_started_again_is_found_again(
    backend: &mut dyn Backend,
    transports: &mut Vec<Box<dyn Transport>>,
) {
    for (index, node) in NODES.into_iter().enumerate() {
        let mut old = transports.remove(index);
        close(old.as_mut()).await;
        drop(old);
        transports.insert(index, backend.start(node).await);
        for other in (0..transports.len()).filter(|other| *other != index) {
            let frame = Bytes::from(format!("node {node} is back"));
            send_until_received(transports, index, other, Lane::Log, &frame).await;
            send_until_received(transports, other, index, Lane::Bulk, &frame).await;
        }
    }
}

async fn sending_to_a_node_that_is_gone_is_bounded(transports: &mut Vec<Box<dyn Transport>>) {
    let mut gone = transports.pop().expect("there are three");
    close(gone.as_mut()).await;
    drop(gone);
    let frame = Bytes::from(vec![7; (64 << 10).min(transports[0].max_frame_bytes())]);
    let mut queued_bytes = 0;
    for round in 0..FLOOD_BYTES / frame.len() {
        if transports[0].send(NODES[2], Lane::Log, frame.clone()).is_queued() {
            queued_bytes += frame.len();
        }
        if round % 50 == 0 {
            tokio::task::yield_now().await;
        }
    }
    assert!(queued_bytes < FLOOD_BYTES / 2, "frames for a node that is gone do not pile up");
    send_until_received(transports, 0, 1, Lane::Control, &Bytes::from_static(b"the others do not notice"))
        .await;
}

async fn closing_ends_everything(transports: &mut Transports) {
    for transport in transports {
        close(transport.as_mut()).await;
        close(transport.as_mut()).await;
        let received = poll_fn(|context| Poll::Ready(transport.poll_receive(context))).await;
        assert_eq!(received, Poll::Ready(None), "a closed transport receives nothing");
        let outcome = transport.send(NODES[1], Lane::Control, Bytes::new());
        assert!(!outcome.is_queued(), "a closed transport sends nothing");
    }
}
