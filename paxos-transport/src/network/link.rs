//! A link: one of the two connections to a peer, connected or not, with its queues.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use paxos_core::NodeId;
use rustls::pki_types::CertificateDer;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::backend::{Counters, GUEST_LANES, InboxSender, LaneInbox, Outbox};
use crate::lock::lock;
use crate::network::rivals::{Rivals, Verdict};
use crate::network::tls::{BULK_PROTOCOL, MAIN_PROTOCOL};
use crate::{Lane, NetworkConfig, SendOutcome, Unreachable};

/// For this long a known lasting problem is not replaced by a guess.
const CERTAIN_FOR: Duration = Duration::from_secs(30);

/// Tells the two connections between a pair of nodes apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Class {
    /// The connection for `Control` and `Log`.
    Main,
    /// The connection for `Bulk`, whose congestion must not delay the others.
    Bulk,
}

impl Class {
    pub(crate) const ALL: [Class; 2] = [Class::Main, Class::Bulk];

    pub(crate) fn of_lane(lane: Lane) -> Class {
        match lane {
            Lane::Control | Lane::Log => Class::Main,
            Lane::Bulk => Class::Bulk,
        }
    }

    pub(crate) fn of_protocol(protocol: &[u8]) -> Option<Class> {
        Class::ALL.into_iter().find(|class| class.protocol() == protocol)
    }

    pub(crate) fn protocol(self) -> &'static [u8] {
        match self {
            Class::Main => MAIN_PROTOCOL,
            Class::Bulk => BULK_PROTOCOL,
        }
    }

    /// The lanes that go over it, the most urgent first.
    pub(crate) fn lanes(self) -> &'static [Lane] {
        match self {
            Class::Main => &[Lane::Control, Lane::Log],
            Class::Bulk => &[Lane::Bulk],
        }
    }
}

/// What the other node is to this one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    Peer,
    Guest,
}

/// One of the two connections to a peer. It exists as long as the peer is one, while connections come and go.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) peer: NodeId,
    pub(crate) class: Class,
    role: Role,
    outboxes: Vec<Outbox>,
    inboxes: Vec<LaneInbox>,
    max_frame_bytes: usize,
    #[cfg(feature = "quic")]
    log_streams: usize,
    counters: Arc<Counters>,
    latest: Mutex<LatestConnection>,
    rivals: Mutex<Rivals>,
    is_closing: watch::Sender<bool>,
    /// Tells the task that dials to do so anew.
    is_redialed: Notify,
    /// The task that dials, or that finds out why the peer does not.
    keeper: Mutex<Option<AbortHandle>>,
}

/// The state of a link's latest connection.
#[derive(Debug)]
struct LatestConnection {
    number: u64,
    /// Whether there is a connection, opened or not.
    is_claimed: bool,
    is_opened: bool,
    /// The task that serves the connection, if the peer has dialed.
    task: Option<AbortHandle>,
    /// The certificates that the peer has shown; empty while there is no connection.
    chain: Vec<CertificateDer<'static>>,
    /// When the link was connected or disconnected last.
    changed_at: Instant,
    /// Why there is no connection, and when that was found out.
    problem: (Unreachable, Instant),
}

/// How a connection has ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// It has broken for this reason.
    Because(Unreachable),
    /// This node is closing its transport.
    Closed,
}

impl Ended {
    /// The peer is gone, or the network between.
    pub(crate) fn lost(problem: impl std::fmt::Display) -> Ended {
        Ended::Because(Unreachable::Lost { problem: problem.to_string() })
    }
}

/// The present status of a link.
#[derive(Clone, Debug)]
pub(crate) struct LinkStatus {
    pub(crate) is_open: bool,
    /// When that changed last.
    pub(crate) since: Instant,
    /// Why it is not connected, if it is not.
    pub(crate) problem: Option<Unreachable>,
}

impl Link {
    pub(crate) fn new(
        peer: NodeId,
        class: Class,
        role: Role,
        config: &NetworkConfig,
        inbox: &InboxSender,
        counters: Arc<Counters>,
    ) -> Link {
        let limits = match role {
            Role::Peer => &config.lanes,
            Role::Guest => &GUEST_LANES,
        };
        let outbox = |lane: &Lane| Outbox::new(*lane, limits, config.max_frame_bytes, Arc::clone(&counters));
        Link {
            peer,
            class,
            role,
            outboxes: class.lanes().iter().map(outbox).collect(),
            inboxes: class.lanes().iter().map(|lane| inbox.for_peer(peer, *lane, limits)).collect(),
            max_frame_bytes: config.max_frame_bytes,
            #[cfg(feature = "quic")]
            log_streams: config.log_streams,
            counters,
            latest: Mutex::new(LatestConnection {
                number: 0,
                is_claimed: false,
                is_opened: false,
                task: None,
                chain: Vec::new(),
                changed_at: Instant::now(),
                problem: (Unreachable::NotYet, Instant::now()),
            }),
            rivals: Mutex::default(),
            is_closing: watch::Sender::new(false),
            is_redialed: Notify::new(),
            keeper: Mutex::default(),
        }
    }

    pub(crate) fn send(&self, lane: Lane, frame: Bytes) -> SendOutcome {
        let outbox = self.outboxes.iter().find(|outbox| outbox.lane() == lane);
        outbox.expect("a frame is sent over the link of its lane").push(frame)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.outboxes.iter().all(Outbox::is_open)
    }

    pub(crate) fn status(&self) -> LinkStatus {
        let latest = self.latest();
        let is_open = self.is_open();
        let problem = (!is_open).then(|| latest.problem.0.clone());
        LinkStatus { is_open, since: latest.changed_at, problem }
    }

    /// Remembers how a connection has ended.
    pub(crate) fn on_ended(&self, ended: Ended) {
        if let Ended::Because(problem) = ended {
            tracing::debug!(peer = self.peer.0, class = ?self.class, %problem, "connection ended");
            self.set_problem(problem);
        }
    }

    /// Remembers why there is no connection.
    pub(crate) fn set_problem(&self, problem: Unreachable) {
        self.latest().problem = (problem, Instant::now());
    }

    /// Remembers a guess why there is no connection, unless a lasting problem was found out recently.
    pub(crate) fn suspect(&self, problem: Unreachable) {
        let mut latest = self.latest();
        let (known, since) = &latest.problem;
        if !known.is_lasting() || since.elapsed() > CERTAIN_FOR {
            latest.problem = (problem, Instant::now());
        }
    }

    /// Refuses all further frames, and makes no more connections; queued frames may still be sent.
    pub(crate) fn close(&self) {
        self.outboxes.iter().for_each(Outbox::close);
        self.is_closing.send_replace(true);
    }

    /// Whether the link makes no more connections.
    pub(crate) fn is_closing(&self) -> bool {
        *self.is_closing.borrow()
    }

    /// Waits until the link makes no more connections.
    pub(crate) async fn closing(&self) {
        // The link has the sending side, so that this does not fail.
        let _ = self.is_closing.subscribe().wait_for(|is_closing| *is_closing).await;
    }

    /// Has the task that dials give up its connection or attempt, and dial anew.
    pub(crate) fn redial(&self) {
        self.is_redialed.notify_one();
    }

    /// Waits until the link is to be dialed anew.
    pub(crate) async fn redialed(&self) {
        self.is_redialed.notified().await;
    }

    /// Remembers the certificates that the peer has shown for the connection that is about to be claimed.
    pub(crate) fn on_shown(&self, chain: Vec<CertificateDer<'static>>) {
        self.latest().chain = chain;
    }

    /// Checks the certificates that the peer has shown, if there is a connection.
    pub(crate) fn check_shown<T>(&self, check: impl FnOnce(&[CertificateDer<'static>]) -> T) -> Option<T> {
        let chain = self.latest().chain.clone();
        (!chain.is_empty()).then(|| check(&chain))
    }

    /// Ends the present connection, whichever side has dialed.
    pub(crate) fn hang_up(&self) {
        if let Some(task) = self.latest().task.take() {
            task.abort();
        } else {
            self.redial();
        }
    }

    /// Registers the task that keeps the link connected.
    pub(crate) fn kept_by(&self, task: AbortHandle) {
        *lock(&self.keeper) = Some(task);
    }

    /// Ends the tasks of the link at once, and with them its connection.
    pub(crate) fn abort(&self) {
        let tasks = [lock(&self.keeper).take(), self.latest().task.take()];
        tasks.into_iter().flatten().for_each(|task| task.abort());
    }

    /// Decides whether a connection that the peer opens replaces the present one.
    pub(crate) fn judge_rival(&self, address: SocketAddr) -> Verdict {
        let is_open = self.is_open();
        let mut rivals = lock(&self.rivals);
        let verdict = rivals.on_connection(Instant::now().into_std(), address, is_open);
        if verdict.is_rival {
            self.counters.on_rival();
        }
        verdict
    }

    /// Gives the link to a new connection, and ends the one before.
    pub(crate) fn claim(self: &Arc<Self>) -> Claim {
        self.claim_from(self.latest())
    }

    /// Gives the link to a new connection, unless it has one.
    pub(crate) fn claim_if_free(self: &Arc<Self>) -> Option<Claim> {
        let latest = self.latest();
        (!latest.is_claimed).then(|| self.claim_from(latest))
    }

    fn claim_from(self: &Arc<Self>, mut latest: MutexGuard<'_, LatestConnection>) -> Claim {
        latest.number += 1;
        latest.is_claimed = true;
        latest.is_opened = false;
        if let Some(task) = latest.task.take() {
            task.abort();
        }
        Claim { link: Arc::clone(self), number: latest.number }
    }

    /// Whether there is a connection, opened or not.
    pub(crate) fn is_claimed(&self) -> bool {
        self.latest().is_claimed
    }

    /// Registers the task that serves a claim; the next claim aborts it.
    pub(crate) fn served_by(&self, number: u64, task: AbortHandle) {
        let mut latest = self.latest();
        if latest.number == number {
            latest.task = Some(task);
        } else {
            task.abort();
        }
    }

    fn latest(&self) -> MutexGuard<'_, LatestConnection> {
        lock(&self.latest)
    }
}

/// The right of a connection to use its link. Only the latest claim counts: an earlier one, whose task may
/// still be ending, can't connect or disconnect the link any more. Dropping the latest claim disconnects the
/// link.
#[derive(Debug)]
pub(crate) struct Claim {
    link: Arc<Link>,
    number: u64,
}

impl Claim {
    /// Marks the link as connected. Called when something arrives from the peer, which proves that it has
    /// accepted the connection.
    pub(crate) fn opened(&self) {
        let mut latest = self.link.latest();
        if latest.number == self.number && !latest.is_opened {
            latest.is_opened = true;
            if !self.link.is_open() {
                latest.changed_at = Instant::now();
            }
            self.link.outboxes.iter().for_each(Outbox::open);
            self.link.counters.on_connected();
            let (peer, class) = (self.link.peer.0, self.link.class);
            match self.link.role {
                Role::Peer => tracing::info!(peer, ?class, "peer connected"),
                Role::Guest => tracing::info!(peer, ?class, "guest connected"),
            }
        }
    }

    /// Whether the peer has accepted this connection, and no later one has replaced it.
    pub(crate) fn is_opened(&self) -> bool {
        let latest = self.link.latest();
        latest.number == self.number && latest.is_opened
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn peer(&self) -> NodeId {
        self.link.peer
    }

    pub(crate) fn outboxes(&self) -> &[Outbox] {
        &self.link.outboxes
    }

    pub(crate) fn inboxes(&self) -> &[LaneInbox] {
        &self.link.inboxes
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.link.counters
    }

    pub(crate) fn max_frame_bytes(&self) -> usize {
        self.link.max_frame_bytes
    }

    /// How many streams of QUIC the `Log` lane is spread over.
    #[cfg(feature = "quic")]
    pub(crate) fn log_streams(&self) -> usize {
        self.link.log_streams
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut latest = self.link.latest();
        if latest.number == self.number {
            latest.is_claimed = false;
            latest.chain = Vec::new();
            if self.link.is_open() {
                latest.changed_at = Instant::now();
            }
            self.link.outboxes.iter().for_each(Outbox::shut);
        }
    }
}
