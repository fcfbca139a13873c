//! All nodes that a transport talks with, and its tasks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use paxos_core::NodeId;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{Claim, GUEST_LANES, Inbox, InboxSender, Link, Roster, guest_has_left, inbox};
use crate::lane::LaneLimits;
use crate::lock::lock;
use crate::{Lane, Peer, PeerStatus, SendOutcome, SetPeersError, Unreachable};

/// The settings of a [`Hub`].
///
/// [`new`](HubConfig::new) sets the defaults; [`with`](HubConfig::with) changes them in one expression.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HubConfig {
    /// This node.
    pub node: NodeId,
    /// The longest frame that is sent or received, in bytes.
    pub max_frame_bytes: usize,
    /// The bounds of the queues of each peer.
    pub lanes: LaneLimits,
    /// How long an attempt to connect may take, until something arrives from the peer.
    pub connect_timeout: Duration,
    /// The first pause before an attempt to reconnect. It doubles with each failed attempt.
    pub min_backoff: Duration,
    /// The longest pause before an attempt to reconnect.
    pub max_backoff: Duration,
    /// How long closing, and letting a peer go, tries to send the queued frames.
    pub flush_timeout: Duration,
}

impl HubConfig {
    /// Settings with defaults for all limits and times.
    #[must_use]
    pub fn new(node: NodeId) -> HubConfig {
        HubConfig {
            node,
            max_frame_bytes: 16 << 20,
            lanes: LaneLimits::default(),
            connect_timeout: Duration::from_secs(1),
            min_backoff: Duration::from_millis(20),
            max_backoff: Duration::from_millis(500),
            flush_timeout: Duration::from_millis(500),
        }
    }

    /// Changes fields in one expression.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut HubConfig)) -> HubConfig {
        change(&mut self);
        self
    }
}

/// Why a node that connects is not served.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// It claims to be this node.
    #[error("it claims to be this node")]
    Itself,
    /// It is a peer with a lower id.
    #[error("of two peers, the one with the higher id dials")]
    DialsOutOfTurn,
    /// It is no peer, and there are as many guests as may be.
    #[error("it is no peer, and there is no room for one more guest")]
    NoRoom,
    /// The transport is closed.
    #[error("the transport is closed")]
    Closed,
}

/// The peers and guests of one node, with a [`Link`] for each, and the tasks that serve them.
///
/// Of two peers, the one with the higher id dials. Connections that others dial are handed to
/// [`serve`](Hub::serve), once the backend knows who it is. A node that is no peer becomes a guest by that.
#[derive(Debug)]
pub struct Hub {
    config: HubConfig,
    inbox: InboxSender,
    guest_inbox: InboxSender,
    nodes: Mutex<Roster<Link>>,
    /// The runtime that the hub was made on.
    runtime: Handle,
    tasks: Mutex<Tasks>,
}

#[derive(Debug, Default)]
struct Tasks {
    is_closed: bool,
    /// Those that may send for a short time when the transport closes.
    connections: JoinSet<()>,
    /// Those that end at once.
    others: JoinSet<()>,
}

impl Hub {
    /// A hub without peers, and the inbox of all its nodes.
    ///
    /// # Panics
    ///
    /// Outside a runtime of tokio, on which the tasks of the hub will run.
    #[must_use]
    pub fn new(config: HubConfig) -> (Arc<Hub>, Inbox) {
        let (sender, inbox) = inbox();
        let hub = Hub {
            guest_inbox: sender.with_shared_bounds(&GUEST_LANES),
            inbox: sender,
            nodes: Mutex::new(Roster::new([])),
            runtime: Handle::current(),
            tasks: Mutex::default(),
            config,
        };
        (Arc::new(hub), inbox)
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> &HubConfig {
        &self.config
    }

    /// The status of all peers, in the order of their ids.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerStatus> {
        let peers = Arc::clone(lock(&self.nodes).peers());
        peers.values().map(|link| link.status()).collect()
    }

    /// The present links to all peers.
    pub(super) fn links(&self) -> Arc<BTreeMap<NodeId, Arc<Link>>> {
        Arc::clone(lock(&self.nodes).peers())
    }

    /// Sends a frame to a guest, over its own connections.
    pub(super) fn send_to_guest(&self, to: NodeId, lane: Lane, frame: Bytes) -> SendOutcome {
        let guest = lock(&self.nodes).guests().get(&to).cloned();
        match guest.map(|guest| guest.send(lane, frame)) {
            // A guest comes and goes as it likes.
            None | Some(SendOutcome::Disconnected | SendOutcome::Closed) => SendOutcome::UnknownPeer,
            Some(outcome) => outcome,
        }
    }

    /// Makes these nodes the peers, and returns the links of the new ones.
    pub(super) fn set_peers(self: &Arc<Self>, peers: &[Peer]) -> Result<Vec<Arc<Link>>, SetPeersError> {
        let addresses = Peer::addresses(self.config.node, peers)?;
        let HubConfig { max_frame_bytes, lanes, .. } = &self.config;
        let new =
            |node: NodeId| Link::new(node, addresses[&node].clone(), *max_frame_bytes, lanes, &self.inbox);
        let changes = lock(&self.nodes).set_peers(addresses.keys().copied(), new);
        for link in changes.removed.values().chain(&changes.promoted) {
            self.let_go(link);
        }
        for (node, link) in changes.peers.iter() {
            link.move_to(&addresses[node]);
        }
        Ok(changes.added.into_values().collect())
    }

    /// Serves a connection that `node` has dialed, in a task of its own, until it ends by itself or another
    /// one takes its place. Returns at once.
    ///
    /// `carry` gets the claim to `lanes`, and returns why the connection has ended. Who the node is must have
    /// been found out before.
    ///
    /// # Errors
    ///
    /// [`Refused`]; the connection is to be closed.
    pub fn serve<F>(
        self: &Arc<Self>,
        node: NodeId,
        lanes: &[Lane],
        carry: impl FnOnce(Arc<Claim>) -> F,
    ) -> Result<(), Refused>
    where
        F: Future<Output = Unreachable> + Send + 'static,
    {
        let link = self.admit(node)?;
        let claim = Arc::new(link.claim(lanes));
        let carried = carry(Arc::clone(&claim));
        let is_served = self.spawn_connection(async move {
            tokio::select! {
                problem = carried => link.set_unreachable(problem),
                () = claim.revoked() => {}
            }
        });
        if is_served { Ok(()) } else { Err(Refused::Closed) }
    }

    /// The link for a node that connects.
    fn admit(self: &Arc<Self>, node: NodeId) -> Result<Arc<Link>, Refused> {
        if node == self.config.node {
            return Err(Refused::Itself);
        }
        let mut nodes = lock(&self.nodes);
        if let Some(peer) = nodes.peers().get(&node) {
            return if node < self.config.node { Err(Refused::DialsOutOfTurn) } else { Ok(Arc::clone(peer)) };
        }
        if let Some(guest) = nodes.guests().get(&node) {
            return Ok(Arc::clone(guest));
        }
        let max_frame_bytes = self.config.max_frame_bytes;
        let new = || Link::new(node, String::new(), max_frame_bytes, &GUEST_LANES, &self.guest_inbox);
        let guest = nodes.add_guest(node, new).ok_or(Refused::NoRoom)?;
        drop(nodes);
        let (hub, watched) = (Arc::downgrade(self), Arc::clone(&guest));
        self.spawn(async move {
            guest_has_left(watched.counters(), || watched.is_claimed()).await;
            let Some(hub) = hub.upgrade() else { return };
            if lock(&hub.nodes).remove_guest(node, &watched) {
                hub.let_go(&watched);
            }
        });
        Ok(guest)
    }

    /// Sends for a short time what is queued for a node, then ends its connections.
    fn let_go(&self, link: &Arc<Link>) {
        link.close();
        let (link, flush_timeout) = (Arc::clone(link), self.config.flush_timeout);
        self.spawn(async move {
            sleep(flush_timeout).await;
            link.revoke();
        });
    }

    /// Runs a task, such as one that accepts connections, until the transport is closed.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = lock(&self.tasks);
        while tasks.others.try_join_next().is_some() {}
        if !tasks.is_closed {
            tasks.others.spawn_on(work, &self.runtime);
        }
    }

    /// Runs a task that may send for a short time when the transport is closed. `false` if it is closed.
    pub(super) fn spawn_connection(&self, work: impl Future<Output = ()> + Send + 'static) -> bool {
        let mut tasks = lock(&self.tasks);
        while tasks.connections.try_join_next().is_some() {}
        if !tasks.is_closed {
            tasks.connections.spawn_on(work, &self.runtime);
        }
        !tasks.is_closed
    }

    /// Sends queued frames for at most the configured time, then ends all tasks.
    pub(super) async fn close(&self) {
        let mut tasks = self.stop();
        tasks.others.shutdown().await;
        let flush = async { while tasks.connections.join_next().await.is_some() {} };
        // Those that are still sending then are aborted.
        let _ = timeout(self.config.flush_timeout, flush).await;
        tasks.connections.shutdown().await;
    }

    /// Ends all tasks at once.
    pub(super) fn hang_up(&self) {
        drop(self.stop());
    }

    fn stop(&self) -> Tasks {
        let stopped = Tasks { is_closed: true, ..Tasks::default() };
        let tasks = std::mem::replace(&mut *lock(&self.tasks), stopped);
        lock(&self.nodes).all().for_each(|link| link.close());
        tasks
    }
}
