//! A node's end of a network, the same for all networked backends.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::Bytes;
use paxos_core::NodeId;

use crate::inbox::Inbox;
use crate::network::Network;
use crate::{Lane, PeerStatus, Received, SendOutcome, Transport};

/// A node's end of a networked backend, made by that backend's `bind`.
#[derive(Debug)]
pub struct NetworkTransport {
    network: Arc<Network>,
    inbox: Inbox,
    local_address: SocketAddr,
    farewell: Option<Box<dyn Farewell>>,
    is_closed: bool,
}

/// What a backend has to tell its peers, as a whole, when a node leaves.
#[async_trait]
pub(crate) trait Farewell: fmt::Debug + Send + Sync {
    /// Begins to.
    fn begin(&self);

    /// Begins to, and waits for a moment until they have heard of it.
    async fn finish(&self);
}

impl NetworkTransport {
    pub(crate) fn new(
        network: Arc<Network>,
        inbox: Inbox,
        local_address: SocketAddr,
        farewell: Option<Box<dyn Farewell>>,
    ) -> NetworkTransport {
        NetworkTransport { network, inbox, local_address, farewell, is_closed: false }
    }

    /// The address that is listened on: tells the port if 0 was asked for.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.local_address
    }

    /// Dials `peer` at another address from now on.
    pub fn set_address(&self, peer: NodeId, address: String) {
        self.network.set_address(peer, address);
    }
}

#[async_trait]
impl Transport for NetworkTransport {
    fn local_node(&self) -> NodeId {
        self.network.config.node
    }

    fn max_frame_bytes(&self) -> usize {
        self.network.config.max_frame_bytes
    }

    fn send(&self, to: NodeId, lane: Lane, frame: Bytes) -> SendOutcome {
        self.network.send(to, lane, frame)
    }

    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Option<Received>> {
        if self.is_closed { Poll::Ready(None) } else { self.inbox.poll(context) }
    }

    fn peers(&self) -> Vec<PeerStatus> {
        self.network.peers()
    }

    async fn close(&mut self) {
        self.is_closed = true;
        self.network.close().await;
        self.inbox.close();
        if let Some(farewell) = &self.farewell {
            farewell.finish().await;
        }
    }
}

impl Drop for NetworkTransport {
    fn drop(&mut self) {
        self.network.hang_up();
        if let Some(farewell) = &self.farewell {
            farewell.begin();
        }
    }
}
