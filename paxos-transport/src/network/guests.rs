//! Guests: nodes of the cluster that are not among the peers, and connect nevertheless.
//!
//! A node that was removed while it was away must be told so, and a new node introduces itself before it is
//! added. Nobody knows a guest's address, so it dials, whatever its id, and frames for it go back over its
//! own connections. All guests together get little memory, and an idle one loses its place.

use std::sync::Arc;

use bytes::Bytes;
use paxos_core::NodeId;

use crate::backend::guest_has_left;
use crate::lock::lock;
use crate::network::link::Role;
use crate::network::peers::Network;
use crate::network::table::PeerLinks;
use crate::{Lane, SendOutcome};

impl Network {
    /// Sends a frame to a guest, over its own connections.
    pub(crate) fn send_to_guest(&self, to: NodeId, lane: Lane, frame: Bytes) -> SendOutcome {
        let guest = lock(&self.nodes).guests().get(&to).cloned();
        match guest.map(|guest| guest.send(lane, frame)) {
            // A guest comes and goes as it likes.
            None | Some(SendOutcome::Disconnected | SendOutcome::Closed) => SendOutcome::UnknownPeer,
            Some(outcome) => outcome,
        }
    }

    /// The links of a guest that connects; `None` if there is no room for it.
    pub(crate) fn receive_guest(self: &Arc<Self>, node: NodeId) -> Option<Arc<PeerLinks>> {
        let mut nodes = lock(&self.nodes);
        // It may have become a peer just now.
        if let Some(links) = nodes.find(node) {
            return Some(Arc::clone(links));
        }
        let new = || PeerLinks::new(node, Role::Guest, &self.config, &self.guest_inbox);
        let guest = nodes.add_guest(node, new)?;
        drop(nodes);
        let (network, watched) = (Arc::clone(self), Arc::clone(&guest));
        self.spawn_until_closing(async move { network.watch_guest(node, &watched).await });
        Some(guest)
    }

    /// Frees the place of a guest once it has hung up or is idle.
    async fn watch_guest(self: &Arc<Self>, node: NodeId, guest: &Arc<PeerLinks>) {
        guest_has_left(&guest.counters, || guest.links().iter().any(|link| link.is_claimed())).await;
        if lock(&self.nodes).remove_guest(node, guest) {
            tracing::info!(peer = node.0, "guest has left");
            self.let_go(guest);
        }
    }
}
