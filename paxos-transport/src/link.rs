//! One of the two connections to a peer, whether it is up or not.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use paxos_core::NodeId;
use tokio::task::AbortHandle;

use crate::counters::Counters;
use crate::inbox::{InboxSender, LaneInbox};
use crate::queue::LaneQueue;
use crate::tls::{BULK_PROTOCOL, MAIN_PROTOCOL};
use crate::{Lane, NetworkConfig, SendOutcome};

/// Which of the two connections between a pair of nodes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Class {
    /// For `Control` and `Log`.
    Main,
    /// For `Bulk`.
    Bulk,
}

impl Class {
    pub(crate) const ALL: [Class; 2] = [Class::Main, Class::Bulk];

    pub(crate) fn of_lane(lane: Lane) -> Class {
        if lane == Lane::Bulk { Class::Bulk } else { Class::Main }
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

/// The place of a connection: there before it is made and after it has broken.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) peer: NodeId,
    pub(crate) class: Class,
    queues: Vec<LaneQueue>,
    inboxes: Vec<LaneInbox>,
    max_frame_bytes: usize,
    #[cfg(feature = "quic")]
    log_streams: usize,
    counters: Arc<Counters>,
    latest: Mutex<Latest>,
}

/// The latest connection of a link.
#[derive(Debug, Default)]
struct Latest {
    number: u64,
    is_opened: bool,
    /// The task that serves it, if the peer has dialed.
    task: Option<AbortHandle>,
}

impl Link {
    pub(crate) fn new(
        peer: NodeId,
        class: Class,
        config: &NetworkConfig,
        inbox: &InboxSender,
        counters: Arc<Counters>,
    ) -> Link {
        let limits = &config.lanes;
        Link {
            peer,
            class,
            queues: class.lanes().iter().map(|lane| LaneQueue::new(*lane, limits.of(*lane))).collect(),
            inboxes: class.lanes().iter().map(|lane| inbox.for_peer(peer, *lane, limits)).collect(),
            max_frame_bytes: config.max_frame_bytes,
            #[cfg(feature = "quic")]
            log_streams: config.log_streams,
            counters,
            latest: Mutex::default(),
        }
    }

    pub(crate) fn send(&self, lane: Lane, frame: Bytes) -> SendOutcome {
        let outcome = if frame.len() > self.max_frame_bytes {
            SendOutcome::TooLarge
        } else {
            let queue = self.queues.iter().find(|queue| queue.lane() == lane);
            queue.expect("a frame is sent over the link of its lane").push(frame)
        };
        self.counters.on_outcome(outcome);
        outcome
    }

    pub(crate) fn is_open(&self) -> bool {
        self.queues.iter().all(LaneQueue::is_open)
    }

    /// Takes no more frames, ever; what waits may still be sent.
    pub(crate) fn close(&self) {
        self.queues.iter().for_each(LaneQueue::close);
    }

    /// For a connection that was made just now; it replaces the one before.
    pub(crate) fn claim(self: &Arc<Self>) -> Claim {
        let mut latest = self.latest();
        latest.number += 1;
        latest.is_opened = false;
        if let Some(task) = latest.task.take() {
            task.abort();
        }
        Claim { link: Arc::clone(self), number: latest.number }
    }

    /// Names the task that serves the claim, to be ended by the next one.
    pub(crate) fn served_by(&self, number: u64, task: AbortHandle) {
        let mut latest = self.latest();
        if latest.number == number {
            latest.task = Some(task);
        } else {
            task.abort();
        }
    }

    fn latest(&self) -> MutexGuard<'_, Latest> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What entitles a connection to its link. The latest claim counts: an earlier one, whose task may take a moment
/// to end, neither opens nor shuts the link any more. Dropping the claim shuts the link.
#[derive(Debug)]
pub(crate) struct Claim {
    link: Arc<Link>,
    number: u64,
}

impl Claim {
    /// The peer has let us in: frames may be sent.
    pub(crate) fn opened(&self) {
        let mut latest = self.link.latest();
        if latest.number == self.number && !latest.is_opened {
            latest.is_opened = true;
            self.link.queues.iter().for_each(LaneQueue::open);
            self.link.counters.on_connected();
            tracing::info!(peer = self.link.peer.0, class = ?self.link.class, "connected");
        }
    }

    /// Whether the peer has let this connection in, as long as no other one has taken its place.
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

    pub(crate) fn queues(&self) -> &[LaneQueue] {
        &self.link.queues
    }

    pub(crate) fn inbox(&self, lane: Lane) -> Option<&LaneInbox> {
        self.link.inboxes.iter().find(|inbox| inbox.lane() == lane)
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.link.counters
    }

    pub(crate) fn max_frame_bytes(&self) -> usize {
        self.link.max_frame_bytes
    }

    /// How many streams the `Log` lane is spread over, where there are streams.
    #[cfg(feature = "quic")]
    pub(crate) fn log_streams(&self) -> usize {
        self.link.log_streams
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let latest = self.link.latest();
        if latest.number == self.number {
            let lost = self.link.queues.iter().map(LaneQueue::shut).sum();
            self.link.counters.on_disconnected(lost);
        }
    }
}
