//! Guests: nodes of the cluster that are not among the peers, and connect nevertheless.
//!
//! A node that was removed while it was away must be told so, and a new node introduces itself before it is
//! added. Nobody knows a guest's address, so it dials, whatever its id, and frames for it go back over its
//! own connections. All guests together get little memory, and an idle one loses its place.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use paxos_core::NodeId;
use tokio::time::{Instant, sleep};

use crate::lane::{LaneLimit, LaneLimits};
use crate::lock::lock;
use crate::network::link::Role;
use crate::network::peers::Network;
use crate::network::table::PeerLinks;
use crate::transport::MAX_GUESTS;
use crate::{Lane, SendOutcome};

/// The bounds of the queues of each guest, and of the frames that were received from all guests together.
pub(crate) const GUEST_LANES: LaneLimits = LaneLimits {
    control: LaneLimit { frames: 1024, bytes: 1 << 20 },
    log: LaneLimit { frames: 64, bytes: 64 << 10 },
    bulk: LaneLimit { frames: 64, bytes: 64 << 10 },
};
/// A guest with which no frame is exchanged for this long loses its place.
pub(crate) const GUEST_IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a guest is checked. The place of one that has hung up is free after this time.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

impl Network {
    /// Sends a frame to a guest, over its own connections.
    pub(crate) fn send_to_guest(&self, to: NodeId, lane: Lane, frame: Bytes) -> SendOutcome {
        let guest = lock(&self.nodes).guests.get(&to).cloned();
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
        if let Some(links) = nodes.guests.get(&node).or_else(|| nodes.peers.get(&node)) {
            return Some(Arc::clone(links));
        }
        if nodes.guests.len() >= MAX_GUESTS {
            return None;
        }
        let guest = Arc::new(PeerLinks::new(node, Role::Guest, &self.config, &self.guest_inbox));
        nodes.guests.insert(node, Arc::clone(&guest));
        drop(nodes);
        let (network, watched) = (Arc::clone(self), Arc::clone(&guest));
        self.spawn_until_closing(async move { network.watch_guest(node, &watched).await });
        Some(guest)
    }

    /// Frees the place of a guest once it has hung up or is idle.
    async fn watch_guest(self: &Arc<Self>, node: NodeId, guest: &Arc<PeerLinks>) {
        let mut counters = guest.counters.snapshot();
        let mut changed_at = Instant::now();
        loop {
            sleep(LOOK_INTERVAL).await;
            let present = guest.counters.snapshot();
            if present != counters {
                (counters, changed_at) = (present, Instant::now());
            }
            let is_idle = changed_at.elapsed() >= GUEST_IDLE_TIMEOUT;
            if is_idle || guest.links().iter().all(|link| !link.is_claimed()) {
                break;
            }
        }
        let mut nodes = lock(&self.nodes);
        // By now it may be a peer, or a guest again.
        if nodes.guests.get(&node).is_some_and(|present| Arc::ptr_eq(present, guest)) {
            nodes.guests.remove(&node);
            drop(nodes);
            tracing::info!(peer = node.0, "guest has left");
            self.let_go(guest);
        }
    }
}
