//! A network within one process, for tests, measurements and clusters of one program.
//!
//! A frame is in the receiver's queue when `send` returns, and frames of one lane stay in order. A frame is
//! lost only if the queue is full or the receiver is gone. To test with other faults, use a simulator.
//!
//! Every node that was bound is a peer of the others, until [`set_peers`](Transport::set_peers) names the
//! peers of a node; addresses are ignored. From then on other nodes are its guests: it can send to those from
//! which it has received something.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::Bytes;
use paxos_core::NodeId;

use crate::backend::{Counters, Inbox, InboxSender, LaneInbox, Roster, inbox};
use crate::lane::LaneLimits;
use crate::lock::lock;
use crate::{Lane, Peer, PeerStatus, Received, SendOutcome, SetPeersError, Transport};

/// Connects the transports of one process. Clones are the same network.
#[derive(Clone, Debug)]
pub struct MemoryNetwork {
    hub: Arc<Hub>,
}

#[derive(Debug)]
struct Hub {
    max_frame_bytes: usize,
    limits: LaneLimits,
    nodes: Mutex<BTreeMap<NodeId, Arc<BoundNode>>>,
}

/// A node that was bound to the network; its transport may be gone.
#[derive(Debug)]
struct BoundNode {
    inbox: InboxSender,
    senders: Mutex<Senders>,
}

/// Those that may send to a node.
#[derive(Debug)]
struct Senders {
    /// Whether the peers were set; all other nodes are peers until then.
    are_peers_set: bool,
    /// Their queues.
    known: Roster<LaneInboxes>,
}

/// The queues from one node to another.
#[derive(Debug)]
struct LaneInboxes([LaneInbox; 3]);

impl MemoryNetwork {
    /// An empty network with the default limits.
    #[must_use]
    pub fn new() -> MemoryNetwork {
        MemoryNetwork::with_limits(16 << 20, LaneLimits::default())
    }

    /// An empty network for frames of up to `max_frame_bytes`, with queues bounded by `limits`.
    #[must_use]
    pub fn with_limits(max_frame_bytes: usize, limits: LaneLimits) -> MemoryNetwork {
        MemoryNetwork { hub: Arc::new(Hub { max_frame_bytes, limits, nodes: Mutex::default() }) }
    }

    /// Binds `node` to the network. If its former transport still exists, it is closed, as if the node had
    /// been restarted.
    #[must_use]
    pub fn bind(&self, node: NodeId) -> MemoryTransport {
        let (sender, inbox) = inbox();
        let own = Arc::new(BoundNode {
            inbox: sender,
            senders: Mutex::new(Senders { are_peers_set: false, known: Roster::new([]) }),
        });
        lock(&self.hub.nodes).insert(node, Arc::clone(&own));
        let counters = Mutex::default();
        let hub = Arc::clone(&self.hub);
        MemoryTransport {
            node,
            own: Arc::downgrade(&own),
            peers: None,
            hub,
            inbox,
            counters,
            is_closed: false,
        }
    }
}

impl Default for MemoryNetwork {
    fn default() -> Self {
        MemoryNetwork::new()
    }
}

impl BoundNode {
    /// The queues from another node; `None` if it is no peer, and there is no room for one more guest.
    fn lane_inboxes(&self, from: NodeId, limits: &LaneLimits) -> Option<Arc<LaneInboxes>> {
        let mut senders = lock(&self.senders);
        if let Some(known) = senders.known.find(from) {
            return Some(Arc::clone(known));
        }
        let new = || self.new_inboxes(from, limits);
        if senders.are_peers_set {
            senders.known.add_guest(from, new)
        } else {
            Some(senders.known.add_peer(from, new))
        }
    }

    fn new_inboxes(&self, from: NodeId, limits: &LaneLimits) -> LaneInboxes {
        LaneInboxes(Lane::ALL.map(|lane| self.inbox.for_peer(from, lane, limits)))
    }

    /// Whether the node can send to `to`: a peer, or a guest.
    fn can_send_to(&self, to: NodeId) -> bool {
        let senders = lock(&self.senders);
        !senders.are_peers_set || senders.known.find(to).is_some()
    }
}

/// The transport of one node of a [`MemoryNetwork`].
#[derive(Debug)]
pub struct MemoryTransport {
    node: NodeId,
    /// This node as the others see it; gone if another transport was bound for it.
    own: Weak<BoundNode>,
    /// The peers that were set last; `None` if all other nodes are.
    peers: Option<BTreeSet<NodeId>>,
    hub: Arc<Hub>,
    inbox: Inbox,
    counters: Mutex<BTreeMap<NodeId, Arc<Counters>>>,
    is_closed: bool,
}

impl MemoryTransport {
    fn is_peer(&self, node: NodeId) -> bool {
        self.peers.as_ref().is_none_or(|peers| peers.contains(&node))
    }

    fn counters(&self, peer: NodeId) -> Arc<Counters> {
        let mut counters = lock(&self.counters);
        let new = || {
            let counters = Counters::default();
            counters.on_connected();
            Arc::new(counters)
        };
        Arc::clone(counters.entry(peer).or_insert_with(new))
    }

    fn deliver(&self, to: &BoundNode, lane: Lane, frame: Bytes) -> SendOutcome {
        if frame.len() > self.hub.max_frame_bytes {
            return SendOutcome::TooLarge;
        }
        let Some(inboxes) = to.lane_inboxes(self.node, &self.hub.limits) else {
            return SendOutcome::Disconnected;
        };
        let inbox = &inboxes.0[lane as usize];
        let Some(reservation) = inbox.try_reserve(frame.len()) else { return SendOutcome::Full };
        if inbox.put(reservation, frame) { SendOutcome::Queued } else { SendOutcome::Disconnected }
    }
}

#[async_trait]
impl Transport for MemoryTransport {
    fn local_node(&self) -> NodeId {
        self.node
    }

    fn max_frame_bytes(&self) -> usize {
        self.hub.max_frame_bytes
    }

    fn send(&self, to: NodeId, lane: Lane, frame: Bytes) -> SendOutcome {
        if self.is_closed {
            return SendOutcome::Closed;
        }
        if !self.is_peer(to) && !self.own.upgrade().is_some_and(|own| own.can_send_to(to)) {
            return SendOutcome::UnknownPeer;
        }
        let node = lock(&self.hub.nodes).get(&to).cloned();
        let Some(node) = node.filter(|_| to != self.node) else { return SendOutcome::UnknownPeer };
        let frame_bytes = frame.len();
        let outcome = self.deliver(&node, lane, frame);
        let counters = self.counters(to);
        counters.on_outcome(outcome, frame_bytes);
        if outcome.is_queued() {
            counters.on_sent(frame_bytes);
        }
        outcome
    }

    fn set_peers(&mut self, peers: &[Peer]) -> Result<(), SetPeersError> {
        let own = self.own.upgrade().filter(|_| !self.is_closed).ok_or(SetPeersError::Closed)?;
        let peers: BTreeSet<NodeId> = Peer::addresses(self.node, peers)?.into_keys().collect();
        let mut senders = lock(&own.senders);
        senders.are_peers_set = true;
        let new = |from| own.new_inboxes(from, &self.hub.limits);
        // The queues of those that are gone are dropped; what is in the inbox stays there.
        drop(senders.known.set_peers(peers.iter().copied(), new));
        drop(senders);
        lock(&self.counters).retain(|peer, _| peers.contains(peer));
        self.peers = Some(peers);
        Ok(())
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
        let nodes = lock(&self.hub.nodes).clone();
        let peers = match &self.peers {
            Some(peers) => peers.clone(),
            None => nodes.keys().copied().filter(|node| *node != self.node).collect(),
        };
        let status = |peer: NodeId| {
            let is_open = nodes.get(&peer).is_some_and(|node| node.inbox.is_open());
            let mut status = PeerStatus::new(peer, !self.is_closed && is_open);
            status.counters = self.counters(peer).snapshot();
            status
        };
        peers.into_iter().map(status).collect()
    }

    async fn close(&mut self) {
        self.is_closed = true;
        self.inbox.close();
    }
}
