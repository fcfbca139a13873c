//! A transport whose frames pass over links, for transports that have no socket to put a proxy before.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::Bytes;
use paxos_core::NodeId;
use tokio::sync::oneshot;

use super::lines::{Line, Lines};
use super::link::Fate;
use super::schedule::{Delivery, Schedule};
use crate::backend::{Inbox, InboxSender, LaneInbox, inbox};
use crate::{
    CertificateStatus, Lane, LaneLimits, Peer, PeerStatus, Received, SendOutcome, SetPeersError, Transport,
};

/// How many frames are taken from the transport before one that has arrived is handed out.
const MAX_FRAMES_PER_POLL: usize = 64;
/// From how many nodes frames are delayed at a time. When there are more, those that are known are forgotten,
/// and found again when they send something.
const MAX_SENDERS: usize = 128;

/// The transport of one node, with links before it.
pub(super) struct DelayedTransport {
    inner: Box<dyn Transport>,
    lines: Arc<Lines>,
    schedule: Arc<Schedule>,
    /// What has arrived over the links.
    inbox: Inbox,
    inbox_sender: InboxSender,
    senders: BTreeMap<NodeId, Sender>,
    /// Resolves when the emulator is gone.
    ended: oneshot::Receiver<()>,
    is_closed: bool,
}

/// A node from which frames come. Each of its lanes holds as many frames, under way or arrived, as
/// [`LaneLimits`] say by default.
struct Sender {
    line: Arc<Line>,
    lanes: [Arc<LaneInbox>; 3],
}

impl DelayedTransport {
    pub(super) fn new(
        inner: Box<dyn Transport>,
        lines: Arc<Lines>,
        schedule: Arc<Schedule>,
        ended: oneshot::Receiver<()>,
    ) -> DelayedTransport {
        let (inbox_sender, inbox) = inbox();
        let senders = BTreeMap::new();
        DelayedTransport { inner, lines, schedule, inbox, inbox_sender, senders, ended, is_closed: false }
    }

    /// Sends a frame that the transport has received over the link.
    fn delay(&mut self, received: Received) {
        let Received { from, lane, frame } = received;
        let sender = self.sender(from);
        let (line, inbox) = (Arc::clone(&sender.line), Arc::clone(&sender.lanes[lane as usize]));
        let fate = {
            let mut state = line.state();
            state.on_frame(self.schedule.now(), frame.len())
        };
        if let Fate::Delivered { at, copy_at } = fate {
            for at in [Some(at), copy_at].into_iter().flatten() {
                let Some(reservation) = inbox.try_reserve(frame.len()) else {
                    self.schedule.record.on_fate(Fate::QueueFull);
                    return;
                };
                let (inbox, frame) = (Arc::clone(&inbox), frame.clone());
                self.schedule.add(at, Delivery::Frame { inbox, reservation, frame });
            }
        }
        self.schedule.record.on_fate(fate);
    }

    fn sender(&mut self, from: NodeId) -> &Sender {
        if self.senders.len() >= MAX_SENDERS && !self.senders.contains_key(&from) {
            self.senders.clear();
        }
        self.senders.entry(from).or_insert_with(|| {
            let limits = LaneLimits::default();
            let lane = |lane| Arc::new(self.inbox_sender.for_peer(from, lane, &limits));
            Sender { line: self.lines.line(from, self.inner.local_node()), lanes: Lane::ALL.map(lane) }
        })
    }

    fn is_ended(&mut self, context: &mut Context<'_>) -> bool {
        self.is_closed = self.is_closed || Pin::new(&mut self.ended).poll(context).is_ready();
        self.is_closed
    }
}

#[async_trait]
impl Transport for DelayedTransport {
    fn local_node(&self) -> NodeId {
        self.inner.local_node()
    }

    fn cluster(&self) -> Option<&str> {
        self.inner.cluster()
    }

    fn max_frame_bytes(&self) -> usize {
        self.inner.max_frame_bytes()
    }

    fn send(&self, to: NodeId, lane: Lane, frame: Bytes) -> SendOutcome {
        if self.is_closed { SendOutcome::Closed } else { self.inner.send(to, lane, frame) }
    }

    fn set_peers(&mut self, peers: &[Peer]) -> Result<(), SetPeersError> {
        self.inner.set_peers(peers)
    }

    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Option<Received>> {
        if self.is_ended(context) {
            return Poll::Ready(None);
        }
        let mut has_more = true;
        for _ in 0..MAX_FRAMES_PER_POLL {
            match self.inner.poll_receive(context) {
                Poll::Ready(Some(received)) => self.delay(received),
                Poll::Ready(None) => {
                    self.is_closed = true;
                    return Poll::Ready(None);
                }
                Poll::Pending => {
                    has_more = false;
                    break;
                }
            }
        }
        let arrived = self.inbox.poll(context);
        if arrived.is_pending() && has_more {
            context.waker().wake_by_ref();
        }
        arrived
    }

    fn peers(&self) -> Vec<PeerStatus> {
        self.inner.peers()
    }

    fn is_connected(&self, peer: NodeId) -> bool {
        self.inner.is_connected(peer)
    }

    fn certificates(&self) -> Vec<CertificateStatus> {
        self.inner.certificates()
    }

    async fn close(&mut self) {
        self.is_closed = true;
        self.inbox.close();
        self.inner.close().await;
    }
}
