//! A network within one process, for tests, measurements and clusters of one program.
//!
//! Frames are lost only where a queue is full or nobody listens. Other faults belong to a simulator.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::Bytes;
use paxos_core::NodeId;

use crate::inbox::{Inbox, InboxSender, inbox};
use crate::{Lane, Received, SendOutcome, Transport};

/// The longest frame.
const MAX_FRAME_BYTES: usize = 64 << 20;

/// Connects the transports of one process. Clones are the same network.
#[derive(Clone, Debug, Default)]
pub struct MemoryNetwork {
    /// For each node its inboxes, one for each lane: a flooded lane does not fill the others.
    nodes: Arc<Mutex<BTreeMap<NodeId, [InboxSender; 3]>>>,
}

impl MemoryNetwork {
    /// The end of `node`. If there is one already it receives nothing more: the node has been started again.
    #[must_use]
    pub fn bind(&self, node: NodeId) -> MemoryTransport {
        let lanes = Lane::ALL.map(|_| inbox());
        let senders = [lanes[0].0.clone(), lanes[1].0.clone(), lanes[2].0.clone()];
        self.nodes().insert(node, senders);
        MemoryTransport {
            node,
            network: self.clone(),
            inboxes: lanes.map(|(_, inbox)| inbox),
            is_closed: false,
        }
    }

    fn nodes(&self) -> MutexGuard<'_, BTreeMap<NodeId, [InboxSender; 3]>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One node's end of a [`MemoryNetwork`].
#[derive(Debug)]
pub struct MemoryTransport {
    node: NodeId,
    network: MemoryNetwork,
    inboxes: [Inbox; 3],
    is_closed: bool,
}

#[async_trait]
impl Transport for MemoryTransport {
    fn local_node(&self) -> NodeId {
        self.node
    }

    fn send(&self, to: NodeId, lane: Lane, frame: Bytes) -> SendOutcome {
        if frame.len() > MAX_FRAME_BYTES {
            return SendOutcome::TooLarge;
        }
        if self.is_closed {
            return SendOutcome::Disconnected;
        }
        match self.network.nodes().get(&to) {
            None => SendOutcome::UnknownPeer,
            Some(_) if to == self.node => SendOutcome::UnknownPeer,
            Some(lanes) => lanes[lane as usize].try_put(self.node, lane, frame),
        }
    }

    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Option<Received>> {
        if self.is_closed {
            return Poll::Ready(None);
        }
        for inbox in &mut self.inboxes {
            // A lane ends only if another transport was bound for this node; then nothing more comes at all.
            if let Poll::Ready(Some(received)) = inbox.poll(context) {
                return Poll::Ready(Some(received));
            }
        }
        Poll::Pending
    }

    fn is_connected(&self, peer: NodeId) -> bool {
        !self.is_closed && peer != self.node && self.network.nodes().contains_key(&peer)
    }

    async fn close(&mut self) {
        self.is_closed = true;
        self.inboxes.iter_mut().for_each(Inbox::close);
    }
}
