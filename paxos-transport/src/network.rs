//! What the networked backends share: peers, their connections, and keeping them up.
//!
//! Of two nodes the one with the higher id dials, and both send and receive on the same connection. There are two
//! between each pair, one for `Control` and `Log` and one for `Bulk`, so that a snapshot's congestion does not
//! delay a heartbeat. A connection that breaks is dialed again, with a jittered exponential back-off; one that
//! a peer opens anew replaces the old one, as the peer may have been started again.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use paxos_core::NodeId;
use rustls::pki_types::CertificateDer;
use tokio::task::AbortHandle;

use crate::inbox::InboxSender;
use crate::lane_queue::LaneQueue;
use crate::tls::{BULK_PROTOCOL, MAIN_PROTOCOL};
use crate::{Lane, SendOutcome, TlsIdentity};

/// The same complaint is logged once in this time.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(30);
/// How many complaints are remembered.
const MAX_COMPLAINTS: usize = 1000;

/// How a networked backend is set up.
#[derive(Debug)]
pub struct NetworkConfig {
    /// This node.
    pub node: NodeId,
    /// Where to listen for peers.
    pub listen: SocketAddr,
    /// Where each node is reached, as `HOST:PORT`; looked up again for each connection. This node's own entry is
    /// ignored.
    pub peers: BTreeMap<NodeId, String>,
    /// What proves who this node is.
    pub identity: TlsIdentity,
    /// The longest frame, in bytes; at most 1 GiB.
    pub max_frame_bytes: usize,
    /// How long connecting and the handshake may take.
    pub connect_timeout: Duration,
    /// How long to wait before dialing again at first; doubles each time.
    pub min_backoff: Duration,
    /// How long to wait before dialing again at most.
    pub max_backoff: Duration,
    /// A peer that is silent for so long is taken for gone.
    pub idle_timeout: Duration,
    /// How many connections may be in their handshake at once; further ones are refused.
    pub max_handshakes: usize,
}

impl NetworkConfig {
    /// The set-up of a node with defaults for all limits.
    #[must_use]
    pub fn new(
        node: NodeId,
        listen: SocketAddr,
        peers: BTreeMap<NodeId, String>,
        identity: TlsIdentity,
    ) -> NetworkConfig {
        NetworkConfig {
            node,
            listen,
            peers,
            identity,
            max_frame_bytes: 16 << 20,
            connect_timeout: Duration::from_secs(3),
            min_backoff: Duration::from_millis(20),
            max_backoff: Duration::from_millis(500),
            idle_timeout: Duration::from_secs(5),
            max_handshakes: 64,
        }
    }
}

/// Which of the two connections between a pair of nodes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Class {
    Main,
    Bulk,
}

impl Class {
    pub(crate) const ALL: [Class; 2] = [Class::Main, Class::Bulk];

    pub(crate) fn protocol(self) -> &'static [u8] {
        match self {
            Class::Main => MAIN_PROTOCOL,
            Class::Bulk => BULK_PROTOCOL,
        }
    }

    pub(crate) fn of_protocol(protocol: &[u8]) -> Option<Class> {
        Class::ALL.into_iter().find(|class| class.protocol() == protocol)
    }
}

/// A way to open connections.
pub(crate) trait Dialer: Send + Sync + 'static {
    type Connection: Connection;

    fn dial(
        &self,
        peer: NodeId,
        address: SocketAddr,
        class: Class,
    ) -> impl Future<Output = Result<Self::Connection, DialError>> + Send;
}

/// A connection to a peer that has been proved.
pub(crate) trait Connection: Send + 'static {
    /// Carries frames both ways until it breaks; tells why it did.
    fn carry(self, link: Arc<Link>) -> impl Future<Output = String> + Send;
}

/// Why a connection could not be opened.
#[derive(Debug)]
pub(crate) enum DialError {
    /// Nobody is there, or it takes too long: that passes.
    Unreachable(String),
    /// One side does not take the other for what it should be: somebody has to look.
    Refused(String),
}

/// One of the two connections to a peer, whether it is up or not.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) peer: NodeId,
    pub(crate) class: Class,
    /// The lanes that go over it, the most urgent first.
    pub(crate) queues: Vec<LaneQueue>,
    pub(crate) inbox: InboxSender,
    pub(crate) max_frame_bytes: usize,
    /// The task that serves the connection which the peer has opened last.
    accepted: Mutex<Option<AbortHandle>>,
}

/// A node's end of a network.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) config: NetworkConfig,
    links: BTreeMap<(NodeId, Class), Arc<Link>>,
    addresses: Mutex<BTreeMap<NodeId, String>>,
    complaints: Mutex<BTreeMap<String, Instant>>,
}

impl Network {
    pub(crate) fn new(config: NetworkConfig, inbox: &InboxSender) -> Network {
        let mut links = BTreeMap::new();
        for &peer in config.peers.keys().filter(|peer| **peer != config.node) {
            for class in Class::ALL {
                let lanes: &[Lane] = match class {
                    Class::Main => &[Lane::Control, Lane::Log],
                    Class::Bulk => &[Lane::Bulk],
                };
                let queues = lanes.iter().map(|lane| LaneQueue::new(*lane, false)).collect();
                let (inbox, max_frame_bytes) = (inbox.clone(), config.max_frame_bytes);
                let link = Link { peer, class, queues, inbox, max_frame_bytes, accepted: Mutex::default() };
                links.insert((peer, class), Arc::new(link));
            }
        }
        let addresses = Mutex::new(config.peers.clone());
        Network { config, links, addresses, complaints: Mutex::default() }
    }

    pub(crate) fn send(&self, to: NodeId, lane: Lane, frame: Bytes) -> SendOutcome {
        if frame.len() > self.config.max_frame_bytes {
            return SendOutcome::TooLarge;
        }
        let class = if lane == Lane::Bulk { Class::Bulk } else { Class::Main };
        match self.links.get(&(to, class)) {
            Some(link) => link.queues[usize::from(lane == Lane::Log)].push(frame),
            None => SendOutcome::UnknownPeer,
        }
    }

    pub(crate) fn is_connected(&self, peer: NodeId) -> bool {
        Class::ALL
            .iter()
            .all(|class| self.links.get(&(peer, *class)).is_some_and(|link| link.queues[0].is_open()))
    }

    pub(crate) fn set_address(&self, peer: NodeId, address: String) {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner).insert(peer, address);
    }

    /// Starts to dial every peer that is ours to dial. The tasks run until aborted.
    pub(crate) fn start_dialing<D: Dialer>(self: &Arc<Self>, dialer: &Arc<D>) -> Vec<AbortHandle> {
        let ours = self.links.values().filter(|link| link.peer < self.config.node);
        ours.map(|link| {
            let work = keep_dialing(Arc::clone(self), Arc::clone(dialer), Arc::clone(link));
            tokio::spawn(work).abort_handle()
        })
        .collect()
    }

    /// The link of a peer that has opened a connection, if it is who may do so.
    pub(crate) fn admit(&self, chain: &[CertificateDer<'_>], protocol: &[u8]) -> Result<Arc<Link>, String> {
        let peer = self.config.identity.prove(chain)?;
        let class = Class::of_protocol(protocol).ok_or("it speaks another version of the protocol")?;
        let link = self.links.get(&(peer, class));
        let link = link.ok_or_else(|| format!("node {peer} is not among this node's --peers"))?;
        if peer < self.config.node {
            return Err(format!("node {peer} has the lower id and must not dial"));
        }
        Ok(Arc::clone(link))
    }

    /// Logs a complaint, but the same one not again and again.
    pub(crate) fn complain(&self, complaint: String) {
        let mut complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        complaints.retain(|_, since| now < *since + COMPLAINT_INTERVAL);
        if complaints.len() < MAX_COMPLAINTS && !complaints.contains_key(&complaint) {
            tracing::warn!(node = self.config.node.0, "{complaint}");
            complaints.insert(complaint, now);
        }
    }

    /// Ends the connections that peers have opened.
    pub(crate) fn hang_up(&self) {
        for link in self.links.values() {
            link.replace_accepted(None);
            link.close();
        }
    }

    fn address(&self, peer: NodeId) -> String {
        let addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        addresses.get(&peer).cloned().unwrap_or_default()
    }
}

impl Link {
    /// Serves a connection that the peer has opened, in place of one it has opened before.
    pub(crate) fn serve_accepted<C: Connection>(self: &Arc<Self>, connection: C) {
        let link = Arc::clone(self);
        let task = tokio::spawn(async move {
            let reason = connection.carry(Arc::clone(&link)).await;
            tracing::info!(peer = link.peer.0, class = ?link.class, reason, "a connection has ended");
            link.close();
        });
        // In this order, so that the old task can't close what is opened here.
        self.replace_accepted(Some(task.abort_handle()));
        self.open();
    }

    fn replace_accepted(&self, task: Option<AbortHandle>) {
        let mut accepted = self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = std::mem::replace(&mut *accepted, task) {
            old.abort();
        }
    }

    fn open(&self) {
        self.queues.iter().for_each(LaneQueue::open);
    }

    fn close(&self) {
        self.queues.iter().for_each(LaneQueue::close);
    }
}

async fn keep_dialing<D: Dialer>(network: Arc<Network>, dialer: Arc<D>, link: Arc<Link>) {
    let (peer, class) = (link.peer, link.class);
    let mut backoff = network.config.min_backoff;
    loop {
        let dialed_at = Instant::now();
        match dial(&network, dialer.as_ref(), &link).await {
            Ok(connection) => {
                tracing::info!(peer = peer.0, ?class, "connected");
                link.open();
                let reason = connection.carry(Arc::clone(&link)).await;
                link.close();
                tracing::info!(peer = peer.0, ?class, reason, "a connection has ended");
            }
            Err(DialError::Unreachable(problem)) => {
                tracing::debug!(peer = peer.0, ?class, problem, "a peer can't be reached");
            }
            Err(DialError::Refused(problem)) => {
                let address = network.address(peer);
                network.complain(format!("no connection to node {peer} at {address}: {problem}"));
            }
        }
        // A connection that lasted was a success; one that broke at once was not.
        if dialed_at.elapsed() > 2 * network.config.max_backoff {
            backoff = network.config.min_backoff;
        }
        tokio::time::sleep(backoff.mul_f64(0.5 + fastrand::f64())).await;
        backoff = (backoff * 2).min(network.config.max_backoff);
    }
}

async fn dial<D: Dialer>(network: &Network, dialer: &D, link: &Link) -> Result<D::Connection, DialError> {
    let unreachable = |error: std::io::Error| DialError::Unreachable(error.to_string());
    let connect = async {
        let mut addresses = tokio::net::lookup_host(network.address(link.peer)).await.map_err(unreachable)?;
        let address = addresses.next().ok_or_else(|| DialError::Unreachable(String::from("unknown host")))?;
        dialer.dial(link.peer, address, link.class).await
    };
    let timed_out = |_| DialError::Unreachable(String::from("no answer in time"));
    tokio::time::timeout(network.config.connect_timeout, connect).await.map_err(timed_out)?
}
