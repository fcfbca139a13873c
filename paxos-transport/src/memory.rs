//! A network within one process, for tests, measurements and clusters of one program.
//!
//! Frames are handed over at once, in order for each lane. They are lost only where the receiver's queue is full
//! or nobody listens. Other faults belong to a simulator.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::Bytes;
use paxos_core::NodeId;

use crate::counters::Counters;
use crate::inbox::{Inbox, InboxSender, LaneInbox, inbox};
use crate::limits::LaneLimits;
use crate::{Lane, PeerStatus, Received, SendOutcome, Transport};

/// Connects the transports of one process. Clones are the same network.
#[derive(Clone, Debug)]
pub struct MemoryNetwork {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    max_frame_bytes: usize,
    limits: LaneLimits,
    nodes: Mutex<BTreeMap<NodeId, Arc<Node>>>,
}

/// A node that was bound at some time.
#[derive(Debug)]
struct Node {
    inbox: InboxSender,
    senders: Mutex<BTreeMap<NodeId, Arc<Sender>>>,
}

/// What leads from one node to another.
#[derive(Debug)]
struct Sender([LaneInbox; 3]);

impl MemoryNetwork {
    /// An empty network with the default limits.
    #[must_use]
    pub fn new() -> MemoryNetwork {
        MemoryNetwork::with_limits(16 << 20, LaneLimits::default())
    }

    /// An empty network that takes frames of up to `max_frame_bytes`, as many as `limits` allow.
    #[must_use]
    pub fn with_limits(max_frame_bytes: usize, limits: LaneLimits) -> MemoryNetwork {
        MemoryNetwork { shared: Arc::new(Shared { max_frame_bytes, limits, nodes: Mutex::default() }) }
    }

    /// The end of `node`. If there is one already it is closed thereby: the node has been started again.
    #[must_use]
    pub fn bind(&self, node: NodeId) -> MemoryTransport {
        let (sender, inbox) = inbox();
        lock(&self.shared.nodes).insert(node, Arc::new(Node { inbox: sender, senders: Mutex::default() }));
        let counters = Mutex::default();
        MemoryTransport { node, shared: Arc::clone(&self.shared), inbox, counters, is_closed: false }
    }
}

impl Default for MemoryNetwork {
    fn default() -> Self {
        MemoryNetwork::new()
    }
}

impl Node {
    fn sender(&self, from: NodeId, limits: &LaneLimits) -> Arc<Sender> {
        let mut senders = lock(&self.senders);
        let new = || Arc::new(Sender(Lane::ALL.map(|lane| self.inbox.for_peer(from, lane, limits))));
        Arc::clone(senders.entry(from).or_insert_with(new))
    }
}

/// One node's end of a [`MemoryNetwork`].
#[derive(Debug)]
pub struct MemoryTransport {
    node: NodeId,
    shared: Arc<Shared>,
    inbox: Inbox,
    counters: Mutex<BTreeMap<NodeId, Arc<Counters>>>,
    is_closed: bool,
}

impl MemoryTransport {
    fn counters(&self, peer: NodeId) -> Arc<Counters> {
        let mut counters = lock(&self.counters);
        let new = || {
            let counters = Counters::default();
            counters.on_connected();
            Arc::new(counters)
        };
        Arc::clone(counters.entry(peer).or_insert_with(new))
    }

    fn deliver(&self, to: &Node, lane: Lane, frame: Bytes) -> SendOutcome {
        if frame.len() > self.shared.max_frame_bytes {
            return SendOutcome::TooLarge;
        }
        let sender = to.sender(self.node, &self.shared.limits);
        let inbox = &sender.0[lane as usize];
        let Some(room) = inbox.room_now(frame.len()) else { return SendOutcome::Full };
        if inbox.put(room, frame) { SendOutcome::Queued } else { SendOutcome::Disconnected }
    }
}

#[async_trait]
impl Transport for MemoryTransport {
    fn local_node(&self) -> NodeId {
        self.node
    }

    fn max_frame_bytes(&self) -> usize {
        self.shared.max_frame_bytes
    }

    fn send(&self, to: NodeId, lane: Lane, frame: Bytes) -> SendOutcome {
        if self.is_closed {
            return SendOutcome::Closed;
        }
        let node = lock(&self.shared.nodes).get(&to).cloned();
        let Some(node) = node.filter(|_| to != self.node) else { return SendOutcome::UnknownPeer };
        let frame_bytes = frame.len();
        let outcome = self.deliver(&node, lane, frame);
        let counters = self.counters(to);
        counters.on_outcome(outcome);
        if outcome.is_queued() {
            counters.on_sent(frame_bytes);
        }
        outcome
    }

    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Option<Received>> {
        if self.is_closed {
            return Poll::Ready(None);
        }
        let polled = self.inbox.poll(context);
        match &polled {
            Poll::Ready(Some(received)) => self.counters(received.from).on_received(received.frame.len()),
            // Another transport was bound for this node.
            Poll::Ready(None) => self.is_closed = true,
            Poll::Pending => {}
        }
        polled
    }

    fn peers(&self) -> Vec<PeerStatus> {
        let nodes = lock(&self.shared.nodes).clone();
        let others = nodes.into_iter().filter(|(peer, _)| *peer != self.node);
        let status = |(peer, node): (NodeId, Arc<Node>)| PeerStatus {
            peer,
            is_connected: !self.is_closed && node.inbox.is_open(),
            counters: self.counters(peer).snapshot(),
        };
        others.map(status).collect()
    }

    async fn close(&mut self) {
        self.is_closed = true;
        self.inbox.close();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No change is left half-done by a panic elsewhere.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
