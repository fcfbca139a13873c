//! A transport over a hub.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use paxos_core::NodeId;
use tokio::time::{sleep, timeout};

use super::{Claim, Hub, HubConfig, Inbox, Link};
use crate::{Lane, Peer, PeerStatus, Received, SendOutcome, SetPeersError, Transport, Unreachable};

/// A node dials a peer with a higher id, which should have dialed, after this time without a connection: it
/// may be no peer there, but a guest.
const OUT_OF_TURN_AFTER: Duration = Duration::from_secs(1);

/// How a backend connects to a peer.
#[async_trait]
pub trait Dialer: Send + Sync + 'static {
    /// The lanes of each connection with a peer. The default is one for each lane.
    fn connections(&self) -> &'static [&'static [Lane]] {
        &[&[Lane::Control], &[Lane::Log], &[Lane::Bulk]]
    }

    /// Connects to the [address](Link::address) of the claim's link, says who this node is, and carries the
    /// frames of the claim's lanes until the connection ends. Returns why it could not connect, or why the
    /// connection has ended.
    ///
    /// The future is dropped if nothing arrives from the peer in time, so that the claim is not
    /// [opened](Claim::opened), and if the claim is [revoked](Claim::revoked). It is called again then.
    async fn connect(&self, claim: &Claim) -> Unreachable;
}

/// A whole [`Transport`] over a [`Hub`], whose peers change while it runs, with guests. A backend adds a
/// [`Dialer`], and a task that accepts connections.
pub struct HubTransport {
    hub: Arc<Hub>,
    /// The hub's own, without its lock.
    links: Arc<BTreeMap<NodeId, Arc<Link>>>,
    inbox: Inbox,
    dialer: Arc<dyn Dialer>,
    is_closed: bool,
}

impl fmt::Debug for HubTransport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let HubTransport { hub, is_closed, .. } = self;
        formatter
            .debug_struct("HubTransport")
            .field("hub", hub)
            .field("is_closed", is_closed)
            .finish_non_exhaustive()
    }
}

impl HubTransport {
    /// Starts to connect to `peers`. `inbox` is the one that was made with the hub.
    ///
    /// # Errors
    ///
    /// [`SetPeersError`], as [`set_peers`](Transport::set_peers).
    pub fn start(
        hub: Arc<Hub>,
        inbox: Inbox,
        dialer: impl Dialer,
        peers: &[Peer],
    ) -> Result<HubTransport, SetPeersError> {
        let (links, dialer) = (hub.links(), Arc::new(dialer));
        let mut transport = HubTransport { hub, links, inbox, dialer, is_closed: false };
        transport.set_peers(peers)?;
        Ok(transport)
    }
}

#[async_trait]
impl Transport for HubTransport {
    fn local_node(&self) -> NodeId {
        self.hub.config().node
    }

    fn max_frame_bytes(&self) -> usize {
        self.hub.config().max_frame_bytes
    }

    fn send(&self, to: NodeId, lane: Lane, frame: Bytes) -> SendOutcome {
        match self.links.get(&to) {
            _ if self.is_closed => SendOutcome::Closed,
            Some(link) => link.send(lane, frame),
            None => self.hub.send_to_guest(to, lane, frame),
        }
    }

    fn set_peers(&mut self, peers: &[Peer]) -> Result<(), SetPeersError> {
        if self.is_closed {
            return Err(SetPeersError::Closed);
        }
        for link in self.hub.set_peers(peers)? {
            for lanes in self.dialer.connections() {
                let (config, dialer) = (self.hub.config().clone(), Arc::clone(&self.dialer));
                let keeper = Keeper { config, link: Arc::clone(&link), lanes };
                self.hub.spawn_connection(async move { keeper.keep_connected(dialer.as_ref()).await });
            }
        }
        self.links = self.hub.links();
        Ok(())
    }

    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Option<Received>> {
        if self.is_closed {
            return Poll::Ready(None);
        }
        self.inbox.poll(context)
    }

    fn peers(&self) -> Vec<PeerStatus> {
        self.hub.peers()
    }

    async fn close(&mut self) {
        self.is_closed = true;
        self.hub.close().await;
        self.inbox.close();
    }
}

impl Drop for HubTransport {
    fn drop(&mut self) {
        self.hub.hang_up();
    }
}

/// Keeps some lanes of a link connected.
struct Keeper {
    config: HubConfig,
    link: Arc<Link>,
    lanes: &'static [Lane],
}

impl Keeper {
    async fn keep_connected(&self, dialer: &dyn Dialer) {
        let mut backoff = self.config.min_backoff;
        while !self.link.is_closed() {
            if self.link.node() > self.config.node {
                // It dials, unless this node is none of its peers.
                self.link.unclaimed(self.lanes).await;
                if timeout(OUT_OF_TURN_AFTER, self.link.claimed(self.lanes)).await.is_ok() {
                    continue;
                }
            }
            let was_connected = self.connect(dialer).await;
            backoff = if was_connected { self.config.min_backoff } else { backoff * 2 };
            backoff = backoff.min(self.config.max_backoff);
            tokio::select! {
                () = sleep(backoff) => {}
                () = self.link.closed() => {}
            }
        }
    }

    /// Connects, and carries frames until the connection ends. Returns whether it was accepted.
    async fn connect(&self, dialer: &dyn Dialer) -> bool {
        let claim = self.link.claim(self.lanes);
        let unless_opened = async || {
            if claim.is_opened() {
                std::future::pending::<()>().await;
            }
        };
        let is_late = async {
            sleep(self.config.connect_timeout).await;
            unless_opened().await;
        };
        // A link that is closed before it was connected has nothing to send.
        let is_futile = async {
            self.link.closed().await;
            unless_opened().await;
        };
        tokio::select! {
            problem = dialer.connect(&claim) => self.link.set_unreachable(problem),
            () = is_late => {
                let problem = String::from("nothing has arrived from it in time");
                self.link.set_unreachable(Unreachable::Foreign { problem });
            }
            () = is_futile => {}
            () = claim.revoked() => {}
        }
        claim.is_opened()
    }
}
