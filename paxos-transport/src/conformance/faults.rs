//! The suite is tested itself: each of these backends breaks one promise, and fails at the check for it.

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use paxos_core::NodeId;
use tokio::time::sleep;

use super::{Backend, NODES, check};
use crate::lane::LaneLimits;
use crate::lock::lock;
use crate::memory::{MemoryNetwork, MemoryTransport};
use crate::{Lane, Peer, PeerStatus, Received, SendOutcome, SetPeersError, Transport};

const MAX_FRAME_BYTES: usize = 200_000;

/// What is wrong with a backend.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    None,
    /// The longest frame is refused.
    LimitIsOneByteShort,
    /// A frame above the limit is queued, and lost.
    LimitIsNotChecked,
    /// Frames that are too large are not counted.
    TooLargeIsNotCounted,
    /// Frames without bytes are lost.
    EmptyIsLost,
    /// Frames without bytes arrive, but are not counted.
    EmptyIsNotCounted,
    /// A short frame of `Log` goes over `Bulk` if a long one was sent before it.
    ShortOvertakesOnAnotherLane,
    /// Once it was full, a queue stays so.
    FullStaysFull,
    /// What a full queue drops is not counted.
    FullIsNotCounted,
    /// The queue of `Control` has no bound.
    ControlIsUnbounded,
    /// The empty set of peers is taken for a mistake, and ignored.
    NoPeersIsIgnored,
    /// A peer that was never connected counts as connected.
    NobodyIsConnected,
    /// It is not noticed that a peer closes.
    GoneIsConnected,
    /// Frames for a peer that is gone are queued.
    GoneIsKeptFor,
    /// A transport that is started again does not receive.
    BackIsDeaf,
    /// Closing drops what is queued.
    CloseDropsQueued,
    /// Closing never ends.
    CloseHangs,
    /// What has arrived is handed out after the close.
    ClosedHandsOut,
    /// After the close, peers are told to be connected.
    ClosedIsConnected,
}

/// A memory network with a fault.
struct Faulty {
    network: MemoryNetwork,
    fault: Fault,
    started: Vec<NodeId>,
}

struct FaultyTransport {
    inner: Arc<Mutex<MemoryTransport>>,
    fault: Fault,
    is_deaf: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    is_closed: bool,
    has_been_full: bool,
    previous_bytes: usize,
    /// What had arrived when the transport was closed.
    leftover: Option<Received>,
}

#[async_trait]
impl Backend for Faulty {
    async fn start(&mut self, node: NodeId) -> Box<dyn Transport> {
        let is_back = self.started.contains(&node);
        self.started.push(node);
        Box::new(FaultyTransport {
            inner: Arc::new(Mutex::new(self.network.bind(node))),
            fault: self.fault,
            is_deaf: self.fault == Fault::BackIsDeaf && is_back && node == NODES[1],
            state: Mutex::default(),
        })
    }
}

#[async_trait]
impl Transport for FaultyTransport {
    fn local_node(&self) -> NodeId {
        lock(&self.inner).local_node()
    }

    fn max_frame_bytes(&self) -> usize {
        MAX_FRAME_BYTES
    }

    fn send(&self, to: NodeId, lane: Lane, frame: Bytes) -> SendOutcome {
        let mut state = lock(&self.state);
        let (length, is_open) = (frame.len(), !state.is_closed);
        let previous_bytes = std::mem::replace(&mut state.previous_bytes, length);
        let inner = lock(&self.inner);
        match self.fault {
            Fault::LimitIsOneByteShort if length == MAX_FRAME_BYTES => return SendOutcome::TooLarge,
            Fault::LimitIsNotChecked if length > MAX_FRAME_BYTES => return SendOutcome::Queued,
            Fault::EmptyIsLost if length == 0 && is_open && inner.is_connected(to) => {
                return SendOutcome::Queued;
            }
            Fault::ShortOvertakesOnAnotherLane if lane == Lane::Log && length < previous_bytes / 100 => {
                return inner.send(to, Lane::Bulk, frame);
            }
            Fault::FullStaysFull if state.has_been_full => return SendOutcome::Full,
            Fault::ControlIsUnbounded
                if lane == Lane::Control && is_open && (60_000..=MAX_FRAME_BYTES).contains(&length) =>
            {
                let _ = inner.send(to, lane, frame);
                return SendOutcome::Queued;
            }
            Fault::GoneIsKeptFor => {
                let outcome = inner.send(to, lane, frame);
                let is_gone = outcome == SendOutcome::Disconnected;
                return if is_gone { SendOutcome::Queued } else { outcome };
            }
            Fault::CloseDropsQueued if frame.starts_with(b"last words") => {
                let network = Arc::clone(&self.inner);
                drop(tokio::spawn(async move {
                    sleep(Duration::from_millis(1)).await;
                    let _ = lock(&network).send(to, lane, frame);
                }));
                return SendOutcome::Queued;
            }
            _ => {}
        }
        let outcome = inner.send(to, lane, frame);
        state.has_been_full |= outcome == SendOutcome::Full && lane == Lane::Log;
        outcome
    }

    fn set_peers(&mut self, peers: &[Peer]) -> Result<(), SetPeersError> {
        if self.fault == Fault::NoPeersIsIgnored && peers.is_empty() {
            return Ok(());
        }
        lock(&self.inner).set_peers(peers)
    }

    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Option<Received>> {
        if self.is_deaf && !lock(&self.state).is_closed {
            return Poll::Pending;
        }
        match lock(&self.state).leftover.take() {
            Some(leftover) => Poll::Ready(Some(leftover)),
            None => lock(&self.inner).poll_receive(context),
        }
    }

    fn peers(&self) -> Vec<PeerStatus> {
        let state = lock(&self.state);
        let mut statuses = lock(&self.inner).peers();
        for status in &mut statuses {
            let dropped = &mut status.counters.dropped;
            match self.fault {
                Fault::TooLargeIsNotCounted => dropped.too_large = 0,
                Fault::FullIsNotCounted => dropped.full = dropped.full.min(1),
                Fault::EmptyIsNotCounted => status.counters.received.frames /= 2,
                Fault::GoneIsConnected => status.is_connected |= status.peer != NodeId(8) && !state.is_closed,
                Fault::NobodyIsConnected => status.is_connected |= status.peer == NodeId(8),
                Fault::ClosedIsConnected => status.is_connected |= state.is_closed,
                _ => {}
            }
        }
        statuses
    }

    async fn close(&mut self) {
        if self.fault == Fault::CloseHangs {
            std::future::pending::<()>().await;
        }
        lock(&self.state).is_closed = true;
        if self.fault == Fault::ClosedHandsOut {
            let mut context = Context::from_waker(std::task::Waker::noop());
            if let Poll::Ready(received) = lock(&self.inner).poll_receive(&mut context) {
                lock(&self.state).leftover = received;
            }
        }
        let mut inner = {
            let replacement = MemoryNetwork::new().bind(self.local_node());
            std::mem::replace(&mut *lock(&self.inner), replacement)
        };
        inner.close().await;
        *lock(&self.inner) = inner;
    }
}

/// The message with which the suite fails, if it does.
async fn failure(fault: Fault) -> Option<String> {
    let network = MemoryNetwork::with_limits(MAX_FRAME_BYTES, LaneLimits::default());
    let mut backend = Faulty { network, fault, started: Vec::new() };
    let checked = tokio::spawn(async move { check(&mut backend).await }).await;
    let panic = checked.err()?.into_panic();
    let message = panic.downcast_ref::<String>().cloned();
    Some(message.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).expect("panics have text"))
}

#[tokio::test(start_paused = true)]
async fn a_backend_without_a_fault_passes() {
    assert_eq!(failure(Fault::None).await, None);
}

#[tokio::test(start_paused = true)]
async fn each_fault_fails_at_the_check_for_it() {
    let mut wrong = Vec::new();
    for (fault, check) in [
        (Fault::LimitIsOneByteShort, "a frame of 200000 bytes is not too large"),
        (Fault::LimitIsNotChecked, "a frame is bounded on Control"),
        (Fault::TooLargeIsNotCounted, "frames that are too large are counted"),
        (Fault::EmptyIsLost, "a frame of 0 bytes on Control arrives in time"),
        (Fault::EmptyIsNotCounted, "frames without bytes are counted, too"),
        (Fault::ShortOvertakesOnAnotherLane, "arrives on Bulk that nobody has sent there"),
        (Fault::FullStaysFull, "a queue of Log that was full takes frames again"),
        (Fault::FullIsNotCounted, "drops is counted"),
        (Fault::ControlIsUnbounded, "the queue of Control is bounded"),
        (Fault::NoPeersIsIgnored, "no peers are listed when there are none"),
        (Fault::NobodyIsConnected, "it is listed, and not connected"),
        (Fault::GoneIsConnected, "notices that a peer has gone"),
        (Fault::GoneIsKeptFor, "keeps no frames for a peer that is gone"),
        (Fault::BackIsDeaf, "bytes on Control arrives in time"),
        (Fault::CloseDropsQueued, "of 100 frames that were queued at the close, 0 arrive"),
        (Fault::CloseHangs, "closing ends in time"),
        (Fault::ClosedHandsOut, "not even what had arrived"),
        (Fault::ClosedIsConnected, "a closed transport has no connections"),
    ] {
        match failure(fault).await {
            Some(message) if message.contains(check) => {}
            Some(message) => wrong.push(format!("{fault:?} fails for another reason: {message}")),
            None => wrong.push(format!("{fault:?} is not noticed")),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
