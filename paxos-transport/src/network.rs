//! What the networked backends share: peers, their connections, and keeping them up.
//!
//! Of two nodes the one with the higher id dials, and both send and receive on the same connection. There are two
//! between each pair, one for `Control` and `Log` and one for `Bulk`, so that a snapshot's congestion does not
//! delay a heartbeat. A connection that breaks is dialed again, with a jittered exponential back-off; one that
//! a peer opens anew replaces the old one, as the peer may have been started again.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use paxos_core::NodeId;
use rustls::pki_types::CertificateDer;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::counters::Counters;
use crate::inbox::InboxSender;
use crate::link::{Claim, Class, Link};
use crate::{Lane, NetworkConfig, PeerStatus, SendOutcome};

/// A sign of life is shown this often.
pub(crate) const SIGN_OF_LIFE_INTERVAL: Duration = Duration::from_secs(1);
/// The same complaint is logged once in this time.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(30);
/// How many complaints are remembered; more are not logged at all.
const MAX_COMPLAINTS: usize = 1000;

/// A way to open connections.
pub(crate) trait Dialer: Send + Sync + 'static {
    type Connection: Connection;

    /// Whether it makes sense to dial this address.
    fn can_reach(&self, address: SocketAddr) -> bool;

    fn dial(
        &self,
        peer: NodeId,
        address: SocketAddr,
        class: Class,
    ) -> impl Future<Output = Result<Self::Connection, Ended>> + Send;
}

/// A connection to a peer that has been proved.
pub(crate) trait Connection: Send + 'static {
    /// Carries frames both ways until it breaks, or until the queues are closed and everything is sent.
    fn carry(self, claim: &Arc<Claim>) -> impl Future<Output = Ended> + Send;
}

/// Why there is no connection, or no more.
#[derive(Debug)]
pub(crate) enum Ended {
    /// Nobody is there, or not any more: that passes.
    Broken(String),
    /// One side does not take the other for what it should be: somebody has to look.
    Refused(String),
    /// This node is closing.
    Closed,
}

/// A node's end of a network.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) config: NetworkConfig,
    links: BTreeMap<(NodeId, Class), Arc<Link>>,
    counters: BTreeMap<NodeId, Arc<Counters>>,
    addresses: Mutex<BTreeMap<NodeId, String>>,
    complaints: Mutex<BTreeMap<String, Instant>>,
    is_closing: watch::Sender<bool>,
    tasks: Mutex<JoinSet<()>>,
}

impl Network {
    pub(crate) fn new(config: NetworkConfig, inbox: &InboxSender) -> Network {
        let mut links = BTreeMap::new();
        let mut counters = BTreeMap::new();
        for &peer in config.peers.keys().filter(|peer| **peer != config.node) {
            let counter = Arc::new(Counters::default());
            for class in Class::ALL {
                let link = Link::new(peer, class, &config, inbox, Arc::clone(&counter));
                links.insert((peer, class), Arc::new(link));
            }
            counters.insert(peer, counter);
        }
        Network {
            links,
            counters,
            addresses: Mutex::new(config.peers.clone()),
            complaints: Mutex::default(),
            is_closing: watch::Sender::new(false),
            tasks: Mutex::default(),
            config,
        }
    }

    pub(crate) fn send(&self, to: NodeId, lane: Lane, frame: Bytes) -> SendOutcome {
        match self.links.get(&(to, Class::of_lane(lane))) {
            Some(link) => link.send(lane, frame),
            None => SendOutcome::UnknownPeer,
        }
    }

    pub(crate) fn peers(&self) -> Vec<PeerStatus> {
        let is_open = |peer, class| self.links.get(&(peer, class)).is_some_and(|link| link.is_open());
        let status = |(&peer, counters): (&NodeId, &Arc<Counters>)| PeerStatus {
            peer,
            is_connected: Class::ALL.into_iter().all(|class| is_open(peer, class)),
            counters: counters.snapshot(),
        };
        self.counters.iter().map(status).collect()
    }

    pub(crate) fn set_address(&self, peer: NodeId, address: String) {
        lock(&self.addresses).insert(peer, address);
    }

    /// Starts to dial every peer that is ours to dial.
    pub(crate) fn start_dialing<D: Dialer>(self: &Arc<Self>, dialer: &Arc<D>) {
        for link in self.links.values().filter(|link| link.peer < self.config.node) {
            let (network, dialer, link) = (Arc::clone(self), Arc::clone(dialer), Arc::clone(link));
            lock(&self.tasks).spawn(async move { network.keep_dialing(dialer.as_ref(), &link).await });
        }
    }

    /// Runs a task that ends when this node begins to close.
    pub(crate) fn spawn_until_closing(self: &Arc<Self>, work: impl Future<Output = ()> + Send + 'static) {
        let mut closing = self.is_closing.subscribe();
        let mut tasks = lock(&self.tasks);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move {
            tokio::select! {
                () = work => {}
                _ = closing.wait_for(|is_closing| *is_closing) => {}
            }
        });
    }

    /// The link of a peer that has opened a connection, if it is one who may do so.
    pub(crate) fn admit(&self, chain: &[CertificateDer<'_>], protocol: &[u8]) -> Result<Arc<Link>, String> {
        let peer = self.config.identity.prove(chain)?;
        let class = Class::of_protocol(protocol).ok_or("it speaks another version of the protocol")?;
        let link = self.links.get(&(peer, class));
        let link = link.ok_or_else(|| format!("node {peer} is not among this node's --peers"))?;
        if peer < self.config.node {
            return Err(format!("node {peer} dials, but of two nodes the one with the higher id does that"));
        }
        Ok(Arc::clone(link))
    }

    /// Serves a connection that a peer has opened, in place of one it has opened before.
    pub(crate) fn serve<C: Connection>(self: &Arc<Self>, link: &Arc<Link>, connection: C) {
        let mut tasks = lock(&self.tasks);
        if *self.is_closing.borrow() {
            return;
        }
        let claim = Arc::new(link.claim());
        let (network, number) = (Arc::clone(self), claim.number());
        let task = tasks.spawn(async move {
            let ended = connection.carry(&claim).await;
            network.report(claim.peer(), "a connection has ended", &ended);
        });
        link.served_by(number, task);
    }

    /// Logs a complaint, but the same one not again and again.
    fn complain(&self, complaint: String) {
        let mut complaints = lock(&self.complaints);
        let now = Instant::now();
        complaints.retain(|_, since| now < *since + COMPLAINT_INTERVAL);
        if complaints.len() < MAX_COMPLAINTS && !complaints.contains_key(&complaint) {
            tracing::warn!(node = self.config.node.0, "{complaint}");
            complaints.insert(complaint, now);
        }
    }

    /// Logs that somebody was not let in.
    pub(crate) fn complain_of(&self, address: SocketAddr, problem: &str) {
        self.complain(format!(
            "refused a connection from {}: {problem}; if that is a node of this cluster, give it a certificate by this \
             cluster's CA, and list it in --peers",
            address.ip()
        ));
    }

    /// Sends what waits, as far as that is done in time, and ends all connections.
    pub(crate) async fn close(&self) {
        self.is_closing.send_replace(true);
        self.links.values().for_each(|link| link.close());
        let mut tasks = std::mem::take(&mut *lock(&self.tasks));
        let flush = async { while tasks.join_next().await.is_some() {} };
        // Whoever is not done by then is cut off.
        let _ = tokio::time::timeout(self.config.flush_timeout, flush).await;
        tasks.shutdown().await;
    }

    /// Ends all connections at once.
    pub(crate) fn hang_up(&self) {
        self.is_closing.send_replace(true);
        self.links.values().for_each(|link| link.close());
        drop(std::mem::take(&mut *lock(&self.tasks)));
    }

    async fn keep_dialing<D: Dialer>(&self, dialer: &D, link: &Arc<Link>) {
        let mut closing = self.is_closing.subscribe();
        let mut backoff = self.config.min_backoff;
        for attempt in 0.. {
            let attempted = tokio::select! {
                attempted = self.dial(dialer, link, attempt) => attempted,
                _ = closing.wait_for(|is_closing| *is_closing) => return,
            };
            let ended = match attempted {
                Ok(connection) => {
                    let claim = Arc::new(link.claim());
                    let ended = connection.carry(&claim).await;
                    if claim.is_opened() {
                        backoff = self.config.min_backoff;
                    }
                    ended
                }
                Err(ended) => ended,
            };
            self.report(link.peer, &format!("no connection at {}", self.address(link.peer)), &ended);
            // Between half of it and all of it, so that nodes do not dial in step.
            let pause = backoff.mul_f64(0.5 + fastrand::f64() / 2.0);
            backoff = (backoff * 2).min(self.config.max_backoff);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = closing.wait_for(|is_closing| *is_closing) => return,
            }
        }
    }

    async fn dial<D: Dialer>(&self, dialer: &D, link: &Link, attempt: usize) -> Result<D::Connection, Ended> {
        let connect = async {
            let found = tokio::net::lookup_host(self.address(link.peer)).await;
            let found = found.map_err(|error| Ended::Broken(format!("its host is unknown: {error}")))?;
            let addresses: Vec<_> = found.filter(|address| dialer.can_reach(*address)).collect();
            // A host may have several addresses, of which not all need to work.
            let address = addresses.get(attempt % addresses.len().max(1));
            let address = address.ok_or_else(|| Ended::Broken(String::from("its host has no address")))?;
            dialer.dial(link.peer, *address, link.class).await
        };
        let timed_out = |_| Ended::Broken(String::from("no answer in time"));
        tokio::time::timeout(self.config.connect_timeout, connect).await.map_err(timed_out)?
    }

    fn report(&self, peer: NodeId, what: &str, ended: &Ended) {
        match ended {
            Ended::Closed => {}
            Ended::Broken(reason) => tracing::debug!(peer = peer.0, reason, "{what}"),
            Ended::Refused(reason) => self.complain(format!(
                "node {peer}: {what}: {reason}; both nodes need certificates of the same CA and cluster, and the \
                 right ids in --peers"
            )),
        }
    }

    fn address(&self, peer: NodeId) -> String {
        lock(&self.addresses).get(&peer).cloned().unwrap_or_default()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No change is left half-done by a panic elsewhere.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
