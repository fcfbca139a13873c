//! The transport of all networked backends.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::Bytes;
use paxos_core::NodeId;

use crate::backend::Inbox;
use crate::network::dialing::KeepLinks;
use crate::network::peers::Network;
use crate::network::table::PeerTable;
use crate::{CertificateStatus, Lane, Peer, PeerStatus, Received, SendOutcome, SetPeersError, Transport};

/// The transport of a networked backend; made by the backend's `bind`.
#[derive(Debug)]
pub struct NetworkTransport {
    network: Arc<Network>,
    /// The network's own, without its lock.
    peers: Arc<PeerTable>,
    keeper: Box<dyn KeepLinks>,
    inbox: Inbox,
    local_address: SocketAddr,
    farewell: Option<Box<dyn Farewell>>,
    is_closed: bool,
}

/// How a backend tells its peers that the node stops, if it has a way to.
#[async_trait]
pub(crate) trait Farewell: fmt::Debug + Send + Sync {
    /// Sends the message.
    fn begin(&self);

    /// Sends the message, and waits a short time for the peers to acknowledge it.
    async fn finish(&self);
}

impl NetworkTransport {
    pub(crate) fn new(
        network: Arc<Network>,
        keeper: Box<dyn KeepLinks>,
        inbox: Inbox,
        local_address: SocketAddr,
        farewell: Option<Box<dyn Farewell>>,
    ) -> NetworkTransport {
        let peers = network.peer_table();
        NetworkTransport { network, peers, keeper, inbox, local_address, farewell, is_closed: false }
    }

    /// The address that the transport listens on, with the port that the system has chosen if it was 0.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.local_address
    }
}

#[async_trait]
impl Transport for NetworkTransport {
    fn local_node(&self) -> NodeId {
        self.network.config.node
    }

    fn cluster(&self) -> Option<&str> {
        Some(self.network.config.identity.cluster())
    }

    fn max_frame_bytes(&self) -> usize {
        self.network.config.max_frame_bytes
    }

    fn send(&self, to: NodeId, lane: Lane, frame: Bytes) -> SendOutcome {
        match self.peers.get(&to) {
            Some(peer) => peer.send(lane, frame),
            None => self.network.send_to_guest(to, lane, frame),
        }
    }

    fn set_peers(&mut self, peers: &[Peer]) -> Result<(), SetPeersError> {
        if self.is_closed {
            return Err(SetPeersError::Closed);
        }
        let addresses = Peer::addresses(self.network.config.node, peers)?;
        self.peers = self.network.set_peers(&addresses, self.keeper.as_ref());
        Ok(())
    }

    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Option<Received>> {
        if self.is_closed {
            return Poll::Ready(None);
        }
        self.inbox.poll(context)
    }

    fn peers(&self) -> Vec<PeerStatus> {
        self.network.peers()
    }

    fn certificates(&self) -> Vec<CertificateStatus> {
        self.network.certificates()
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
