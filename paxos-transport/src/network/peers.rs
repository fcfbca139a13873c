//! The peers of a transport, how they change, and which connections are accepted.
//!
//! Of two peers, the one with the higher id dials, and both send and receive on the same connection. Each
//! pair of nodes has two connections, one for `Control` and `Log` and one for `Bulk`, so that the congestion
//! of a snapshot does not delay a heartbeat. A broken connection is dialed again after a jittered exponential
//! back-off. A new connection of a peer replaces the old one, since the peer may have restarted.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use paxos_core::NodeId;
use rustls::pki_types::CertificateDer;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;

use crate::backend::{GUEST_LANES, InboxSender, Roster};
use crate::lock::lock;
use crate::network::calls::{CallDesk, Caller};
use crate::network::complaints::Complaints;
use crate::network::connection::Connection;
use crate::network::dialing::KeepLinks;
use crate::network::link::{Class, Link, Role};
use crate::network::resolve::Lookups;
use crate::network::table::{PeerLinks, PeerTable};
use crate::network::{expiry, rivals};
use crate::{CertificateOwner, CertificateStatus, NetworkConfig, PeerStatus, TlsIdentity, Unreachable};

/// After this time without a frame, a node sends a sign of life.
pub(crate) const SIGN_OF_LIFE_INTERVAL: Duration = Duration::from_secs(1);

/// The state that all tasks of a networked transport share.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) config: NetworkConfig,
    inbox: InboxSender,
    pub(crate) guest_inbox: InboxSender,
    /// All nodes that this one talks with.
    pub(crate) nodes: Mutex<Roster<PeerLinks>>,
    pub(crate) lookups: Arc<Lookups>,
    pub(crate) calls: CallDesk,
    complaints: Complaints,
    certificates: Mutex<BTreeMap<CertificateOwner, CertificateStatus>>,
    pub(crate) is_closing: watch::Sender<bool>,
    /// The runtime that the transport was bound on.
    runtime: Handle,
    tasks: Mutex<JoinSet<()>>,
}

/// Why an authenticated connection is refused.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// In words for the log, and for the other side.
    pub(crate) problem: String,
    /// Whether somebody has to do something about it.
    is_fault: bool,
}

impl Refusal {
    fn fault(problem: impl Into<String>) -> Refusal {
        Refusal { problem: problem.into(), is_fault: true }
    }
}

impl Network {
    pub(crate) fn new(config: NetworkConfig, inbox: InboxSender) -> Network {
        let others = config.peers.keys().filter(|peer| **peer != config.node);
        let links = |peer: &NodeId| (*peer, PeerLinks::new(*peer, Role::Peer, &config, &inbox));
        let nodes = Roster::new(others.map(links));
        Network {
            nodes: Mutex::new(nodes),
            guest_inbox: inbox.with_shared_bounds(&GUEST_LANES),
            inbox,
            lookups: Arc::new(Lookups::new(
                Arc::clone(&config.resolver),
                config.lookup_timeout,
                &config.peers,
            )),
            calls: CallDesk::new(config.calls.clone()),
            complaints: Complaints::new(config.node),
            certificates: Mutex::new(by_owner(&config.identity.current())),
            is_closing: watch::Sender::new(false),
            runtime: Handle::current(),
            tasks: Mutex::default(),
            config,
        }
    }

    /// The present links to all peers.
    pub(crate) fn peer_table(&self) -> Arc<PeerTable> {
        Arc::clone(lock(&self.nodes).peers())
    }

    pub(crate) fn peers(&self) -> Vec<PeerStatus> {
        self.peer_table().values().map(|peer| peer.status()).collect()
    }

    /// Makes the nodes in `addresses` the peers, and returns the links to them.
    pub(crate) fn set_peers(
        self: &Arc<Self>,
        addresses: &BTreeMap<NodeId, String>,
        keeper: &dyn KeepLinks,
    ) -> Arc<PeerTable> {
        let renamed = self.lookups.set_names(addresses);
        let links = |peer: NodeId| PeerLinks::new(peer, Role::Peer, &self.config, &self.inbox);
        let changes = lock(&self.nodes).set_peers(addresses.keys().copied(), links);
        for links in &changes.promoted {
            self.let_go(links);
        }
        for (peer, links) in &changes.removed {
            tracing::info!(peer = peer.0, "peer removed");
            lock(&self.certificates).remove(&CertificateOwner::Node(*peer));
            self.let_go(links);
        }
        for (peer, links) in changes.peers.iter() {
            if changes.added.contains_key(peer) {
                tracing::info!(peer = peer.0, "peer added");
                keeper.keep(self, links);
            } else if renamed.contains(peer) {
                tracing::info!(peer = peer.0, address = addresses[peer], "peer moved");
                links.links().iter().for_each(|link| link.redial());
            }
        }
        changes.peers
    }

    /// Sends for a short time what is queued for a node, then ends its connections.
    pub(crate) fn let_go(self: &Arc<Self>, links: &Arc<PeerLinks>) {
        links.close();
        let (links, flush_timeout) = (Arc::clone(links), self.config.flush_timeout);
        self.spawn_until_closing(async move {
            sleep(flush_timeout).await;
            links.abort();
        });
    }

    /// Spawns a task. Closing the transport waits for it for a short time.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        let mut tasks = lock(&self.tasks);
        while tasks.try_join_next().is_some() {}
        tasks.spawn_on(work, &self.runtime)
    }

    /// Spawns a task that ends when the transport begins to close.
    pub(crate) fn spawn_until_closing(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut closing = self.is_closing.subscribe();
        self.spawn(async move {
            tokio::select! {
                () = work => {}
                _ = closing.wait_for(|is_closing| *is_closing) => {}
            }
        });
    }

    /// Finds out who calls, by the certificate.
    ///
    /// # Errors
    ///
    /// Why the call is refused.
    pub(crate) fn admit_caller(&self, chain: &[CertificateDer<'_>]) -> Result<Caller, Refusal> {
        let identity = self.config.identity.current();
        // It may have been replaced during the handshake.
        identity.verify(chain).and_then(|()| identity.prove_caller(chain)).map_err(Refusal::fault)
    }

    /// Finds the link for an accepted connection, by the peer's certificate and the negotiated protocol.
    ///
    /// # Errors
    ///
    /// Why the connection is refused.
    pub(crate) fn admit(
        self: &Arc<Self>,
        chain: &[CertificateDer<'_>],
        protocol: &[u8],
    ) -> Result<Arc<Link>, Refusal> {
        let node = self.config.identity.current().prove(chain).map_err(Refusal::fault)?;
        let class = Class::of_protocol(protocol)
            .ok_or_else(|| Refusal::fault("it speaks another version of the protocol"))?;
        if node == self.config.node {
            return Err(Refusal::fault(format!("it has the certificate of this node, node {node}")));
        }
        let links = match self.peer_table().get(&node) {
            Some(_) if node < self.config.node => {
                let problem =
                    format!("node {node} dials, but of two peers the one with the higher id does that");
                return Err(Refusal { problem, is_fault: false });
            }
            Some(links) => Arc::clone(links),
            None => self.receive_guest(node).ok_or_else(|| {
                Refusal::fault(format!(
                    "node {node} is not among the peers of node {}, and there is no room for one more guest",
                    self.config.node
                ))
            })?,
        };
        Ok(Arc::clone(links.link(class)))
    }

    /// Logs that a connection was refused.
    pub(crate) fn on_refused(&self, from: IpAddr, refusal: &Refusal) {
        let (from, problem) = (from.to_canonical(), &refusal.problem);
        if !refusal.is_fault {
            tracing::debug!(%from, problem, "connection refused");
            return;
        }
        self.complaints.log(format!(
            "refused a connection from {from}: {problem}; if that is a node of this cluster, give it a certificate by this \
             cluster's CA, and list the same peers on all nodes"
        ));
    }

    /// Handles a failed handshake of an accepted connection. If it is clear which peer it was, this is why
    /// that peer is not connected; otherwise it is logged.
    pub(crate) fn on_failed_handshake(&self, from: IpAddr, mut problem: Unreachable) {
        let from = from.to_canonical();
        if let Unreachable::Certificate { from: place, .. } = &mut problem {
            *place = Some(from);
        }
        if !problem.is_lasting() {
            tracing::debug!(%from, %problem, "handshake failed");
            return;
        }
        let mut candidates = self.lookups.peers_at(from);
        let table = self.peer_table();
        candidates.retain(|peer| {
            let links = table.get(peer);
            *peer > self.config.node && links.is_some_and(|links| !links.link(Class::Main).is_open())
        });
        let claimed = self.config.identity.current().take_refused_node();
        let claimed = claimed.filter(|peer| *peer > self.config.node);
        let peer = match candidates[..] {
            [only] => Some(only),
            _ => claimed,
        };
        let links = peer.and_then(|peer| table.get(&peer));
        let mut is_known = false;
        for link in links.iter().flat_map(|links| links.links()).filter(|link| !link.is_open()) {
            link.set_problem(problem.clone());
            is_known = true;
        }
        if !is_known {
            self.complaints
                .log(format!("a connection from {from} has failed: {problem}; {}", problem.advice()));
        }
    }

    /// Remembers the certificates that a peer has shown, and their validity.
    pub(crate) fn on_connection(&self, link: &Link, connection: &impl Connection) {
        let chain = connection.peer_chain();
        let owner = CertificateOwner::Node(link.peer);
        if let Some(status) = chain.first().and_then(|der| expiry::of_certificate(owner, der)) {
            lock(&self.certificates).insert(owner, status);
        }
        link.on_shown(chain);
    }

    /// Follows the identity of this node: when it is replaced, connections end with nodes for whose
    /// certificates the CA does not vouch any more.
    pub(crate) async fn follow_identity(self: Arc<Self>, mut identities: watch::Receiver<Arc<TlsIdentity>>) {
        while identities.changed().await.is_ok() {
            let identity = Arc::clone(&identities.borrow_and_update());
            lock(&self.certificates).extend(by_owner(&identity));
            let all: Vec<_> = lock(&self.nodes).all().cloned().collect();
            all.iter().flat_map(|links| links.links()).for_each(|link| self.check_shown(link));
        }
    }

    /// Ends the connection of a link if the present CA does not vouch for the peer's certificate. To be
    /// called for each new connection once hanging up can end it: the identity may have been replaced during
    /// the handshake.
    pub(crate) fn check_shown(&self, link: &Link) {
        let identity = self.config.identity.current();
        if let Some(Err(problem)) = link.check_shown(|chain| identity.verify(chain)) {
            let (peer, class) = (link.peer.0, link.class);
            tracing::warn!(
                peer,
                ?class,
                problem,
                "connection ended: the CA does not vouch for the peer any more"
            );
            link.hang_up();
        }
    }

    pub(crate) fn certificates(&self) -> Vec<CertificateStatus> {
        lock(&self.certificates).values().copied().collect()
    }

    /// Starts to serve an accepted connection in place of the one before, unless that one is very new.
    pub(crate) fn serve<C: Connection>(&self, link: &Arc<Link>, connection: C) {
        let mut tasks = lock(&self.tasks);
        if *self.is_closing.borrow() || link.is_closing() {
            return;
        }
        let verdict = link.judge_rival(connection.peer_address());
        if let Some((count, hosts)) = verdict.told {
            self.complaints.log(rivals::complaint(link.peer, count, &hosts));
        }
        if !verdict.is_served {
            return;
        }
        self.on_connection(link, &connection);
        let claim = Arc::new(link.claim());
        let number = claim.number();
        let served = Arc::clone(link);
        let task = tasks.spawn(async move {
            let ended = connection.carry(&claim).await;
            served.on_ended(ended);
        });
        link.served_by(number, task);
        drop(tasks);
        self.check_shown(link);
    }

    /// Sends queued frames for at most the configured time, then ends all connections.
    pub(crate) async fn close(&self) {
        self.is_closing.send_replace(true);
        self.close_links();
        let mut tasks = std::mem::take(&mut *lock(&self.tasks));
        let flush = async { while tasks.join_next().await.is_some() {} };
        // Tasks that are still sending then are aborted.
        let _ = tokio::time::timeout(self.config.flush_timeout, flush).await;
        tasks.shutdown().await;
    }

    /// Ends all connections at once.
    pub(crate) fn hang_up(&self) {
        self.is_closing.send_replace(true);
        self.close_links();
        drop(std::mem::take(&mut *lock(&self.tasks)));
    }

    fn close_links(&self) {
        lock(&self.nodes).all().for_each(|links| links.close());
    }
}

/// The validity of the certificates of an identity.
fn by_owner(identity: &TlsIdentity) -> BTreeMap<CertificateOwner, CertificateStatus> {
    identity.certificates().iter().map(|status| (status.owner, *status)).collect()
}
