//! A link: what a hub keeps for one peer or guest; and a claim: the right of a connection to use it.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use bytes::Bytes;
use paxos_core::NodeId;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::{Counters, FrameReader, InboxSender, LaneInbox, Outbox, Pulse, StreamError, write_frames};
use crate::lane::LaneLimits;
use crate::lock::lock;
use crate::{Lane, PeerStatus, SendOutcome, Unreachable};

/// The queues, counters and state of one peer or guest. It exists as long as the node is one, while
/// connections come and go.
#[derive(Debug)]
pub struct Link {
    node: NodeId,
    max_frame_bytes: usize,
    outboxes: [Outbox; 3],
    inboxes: [LaneInbox; 3],
    counters: Arc<Counters>,
    holders: watch::Sender<Holders>,
    state: Mutex<State>,
}

/// Which claim each lane belongs to.
#[derive(Clone, Copy, Debug, Default)]
struct Holders {
    latest: u64,
    of_lanes: [Option<u64>; 3],
    is_closed: bool,
}

#[derive(Debug)]
struct State {
    address: String,
    /// When the node was connected or disconnected last.
    changed_at: Instant,
    unreachable: Unreachable,
}

impl Link {
    pub(super) fn new(
        node: NodeId,
        address: String,
        max_frame_bytes: usize,
        limits: &LaneLimits,
        inbox: &InboxSender,
    ) -> Link {
        let counters = Arc::<Counters>::default();
        let outbox = |lane| Outbox::new(lane, limits, max_frame_bytes, Arc::clone(&counters));
        Link {
            node,
            max_frame_bytes,
            outboxes: Lane::ALL.map(outbox),
            inboxes: Lane::ALL.map(|lane| inbox.for_peer(node, lane, limits)),
            counters,
            holders: watch::Sender::default(),
            state: Mutex::new(State {
                address,
                changed_at: Instant::now(),
                unreachable: Unreachable::NotYet,
            }),
        }
    }

    /// The peer or guest.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Where it is reached, as [`set_peers`](crate::Transport::set_peers) was told; empty for a guest.
    #[must_use]
    pub fn address(&self) -> String {
        self.state().address.clone()
    }

    /// Its counters.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Where frames of one lane wait to be sent to it.
    #[must_use]
    pub fn outbox(&self, lane: Lane) -> &Outbox {
        &self.outboxes[lane as usize]
    }

    /// Where frames of one lane that have arrived from it wait.
    #[must_use]
    pub fn inbox(&self, lane: Lane) -> &LaneInbox {
        &self.inboxes[lane as usize]
    }

    /// Whether every lane has a connection that both sides have accepted.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.outboxes.iter().all(Outbox::is_open)
    }

    /// Its present status.
    #[must_use]
    pub fn status(&self) -> PeerStatus {
        let (is_connected, state) = (self.is_connected(), self.state());
        PeerStatus::new(self.node, is_connected).with(|status| {
            status.since = Some(state.changed_at);
            status.unreachable = (!is_connected).then(|| state.unreachable.clone());
            status.round_trip = self.counters.round_trip().filter(|_| is_connected);
            status.counters = self.counters.snapshot();
        })
    }

    /// Adds a frame that has arrived to its inbox, and counts it; drops it if there is no space. For
    /// protocols that lose frames anyway; others reserve the space before they read a frame.
    pub fn receive(&self, lane: Lane, frame: Bytes) {
        self.counters.on_received(frame.len());
        let inbox = self.inbox(lane);
        if let Some(space) = inbox.try_reserve(frame.len()) {
            // If the receiving side is gone, the task that has read it ends soon.
            let _ = inbox.put(space, frame);
        }
    }

    pub(super) fn send(&self, lane: Lane, frame: Bytes) -> SendOutcome {
        self.outbox(lane).push(frame)
    }

    /// Gives lanes to a new connection. The one that has had them before is revoked.
    pub(super) fn claim(self: &Arc<Self>, lanes: &[Lane]) -> Claim {
        let mut number = 0;
        self.holders.send_modify(|holders| {
            holders.latest += 1;
            number = holders.latest;
            for lane in lanes {
                holders.of_lanes[*lane as usize] = Some(number);
            }
        });
        Claim { link: Arc::clone(self), lanes: lanes.to_vec(), number, is_opened: AtomicBool::new(false) }
    }

    /// Whether any connection holds a lane.
    pub(super) fn is_claimed(&self) -> bool {
        self.holders.borrow().of_lanes.iter().any(Option::is_some)
    }

    /// Waits until no connection holds any of these lanes, or the link is closed.
    pub(super) async fn unclaimed(&self, lanes: &[Lane]) {
        let is_free = |lane: &Lane, holders: &Holders| holders.of_lanes[*lane as usize].is_none();
        let are_free =
            |holders: &Holders| holders.is_closed || lanes.iter().all(|lane| is_free(lane, holders));
        // The link has the sending side, so that this does not fail.
        let _ = self.holders.subscribe().wait_for(are_free).await;
    }

    /// Waits until a connection holds one of these lanes, or the link is closed.
    pub(super) async fn claimed(&self, lanes: &[Lane]) {
        let is_held = |lane: &Lane, holders: &Holders| holders.of_lanes[*lane as usize].is_some();
        let are_held =
            |holders: &Holders| holders.is_closed || lanes.iter().any(|lane| is_held(lane, holders));
        let _ = self.holders.subscribe().wait_for(are_held).await;
    }

    /// Changes the address. The present connections are revoked if it differs.
    pub(super) fn move_to(&self, address: &str) {
        let mut state = self.state();
        if state.address != address {
            address.clone_into(&mut state.address);
            drop(state);
            self.revoke();
        }
    }

    /// Ends all connections at once.
    pub(super) fn revoke(&self) {
        let before = self.is_connected();
        self.holders.send_modify(|holders| {
            holders.of_lanes = [None; 3];
            self.outboxes.iter().for_each(Outbox::shut);
        });
        self.note_change(before);
    }

    /// Accepts no more frames and connections; queued frames may still be sent.
    pub(super) fn close(&self) {
        self.outboxes.iter().for_each(Outbox::close);
        self.holders.send_modify(|holders| holders.is_closed = true);
    }

    /// Waits until the link is closed.
    pub(super) async fn closed(&self) {
        // The link has the sending side, so that this does not fail.
        let _ = self.holders.subscribe().wait_for(|holders| holders.is_closed).await;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.holders.borrow().is_closed
    }

    /// Remembers why there is no connection.
    pub(super) fn set_unreachable(&self, problem: Unreachable) {
        self.state().unreachable = problem;
    }

    /// Notes that the node was connected or disconnected, if it was not `before`.
    fn note_change(&self, before: bool) {
        if self.is_connected() != before {
            self.state().changed_at = Instant::now();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// The right of a connection to send and receive on some lanes of a [`Link`].
///
/// Only the latest claim of a lane counts: an earlier one, whose task may still be ending, can't connect or
/// disconnect the peer any more. Dropping the latest claim disconnects its lanes.
#[derive(Debug)]
pub struct Claim {
    link: Arc<Link>,
    lanes: Vec<Lane>,
    number: u64,
    is_opened: AtomicBool,
}

impl Claim {
    /// The link that the lanes belong to.
    #[must_use]
    pub fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// The lanes, the most urgent first.
    #[must_use]
    pub fn lanes(&self) -> &[Lane] {
        &self.lanes
    }

    /// The outboxes of the lanes, the most urgent first.
    #[must_use]
    pub fn outboxes(&self) -> Vec<&Outbox> {
        self.lanes.iter().map(|lane| self.link.outbox(*lane)).collect()
    }

    /// Connects the lanes: frames are accepted from now on. To be called when something arrives from the
    /// peer, which proves that it has accepted the connection; further calls do nothing.
    pub fn opened(&self) {
        let before = self.link.is_connected();
        // No other claim comes in between while the holders are borrowed.
        let holders = self.link.holders.borrow();
        let mut held = self.lanes.iter().filter(|lane| self.holds(&holders, **lane)).peekable();
        if held.peek().is_some() && !self.is_opened.swap(true, Ordering::Relaxed) {
            self.link.counters.on_connected();
        }
        held.for_each(|lane| self.link.outbox(*lane).open());
        drop(holders);
        self.link.note_change(before);
    }

    /// Whether the peer has accepted this connection.
    #[must_use]
    pub fn is_opened(&self) -> bool {
        self.is_opened.load(Ordering::Relaxed)
    }

    /// Waits until the connection has lost one of its lanes: a later one has taken its place, the peer has
    /// moved, or is none any more. Cancel-safe.
    pub async fn revoked(&self) {
        let mut holders = self.link.holders.subscribe();
        let is_lost = |holders: &Holders| self.lanes.iter().any(|lane| !self.holds(holders, *lane));
        // The link has the sending side, so that this does not fail.
        let _ = holders.wait_for(is_lost).await;
    }

    /// Writes the frames of the lanes to a stream, the most urgent first, until it breaks or the link is
    /// closed and everything is sent.
    ///
    /// # Errors
    ///
    /// Those of the stream.
    pub async fn write_frames<W: AsyncWrite + Unpin>(&self, stream: &mut W, pulse: Pulse) -> io::Result<()> {
        write_frames(&self.outboxes(), stream, pulse).await
    }

    /// Reads frames from a stream until it breaks (an error) or ends between two frames. The first sign of
    /// life [opens](Claim::opened) the claim.
    ///
    /// # Errors
    ///
    /// [`StreamError`].
    pub async fn read_frames<R: AsyncRead + Unpin>(
        &self,
        stream: &mut R,
        pulse: Pulse,
    ) -> Result<(), StreamError> {
        let (inboxes, counters) = (&self.link.inboxes, self.link.counters());
        let reader = FrameReader::new(inboxes, counters, self.link.max_frame_bytes);
        reader.read(stream, pulse.timeout, || self.opened()).await
    }

    /// Sends and receives on a stream in both directions, until either has ended. Once everything is sent
    /// because the link is closed, it reads until the peer closes its side, too: closing a socket with unread
    /// data could lose what was sent. So shutting `writer` down must make the peer read the end of the
    /// stream; with a writer that does not, closing takes as long as the hub waits for what is queued.
    pub async fn carry<R, W>(&self, reader: &mut R, writer: &mut W, pulse: Pulse) -> Unreachable
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let (read, write) = (self.read_frames(reader, pulse), self.write_frames(writer, pulse));
        tokio::pin!(read, write);
        let read = tokio::select! {
            read = &mut read => read,
            written = &mut write => match written {
                Ok(()) => read.await,
                Err(error) => Err(error.into()),
            },
        };
        let problem = match read {
            Ok(()) if self.is_opened() => String::from("it has closed the connection"),
            Ok(()) => {
                let problem = String::from("it has closed the connection at once");
                return Unreachable::NotAdmitted { problem };
            }
            Err(StreamError::Io(error)) if error.kind() == io::ErrorKind::TimedOut => {
                String::from("no sign of life")
            }
            Err(error) => error.to_string(),
        };
        Unreachable::Lost { problem }
    }

    fn holds(&self, holders: &Holders, lane: Lane) -> bool {
        holders.of_lanes[lane as usize] == Some(self.number)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let before = self.link.is_connected();
        self.link.holders.send_if_modified(|holders| {
            for lane in &self.lanes {
                if self.holds(holders, *lane) {
                    holders.of_lanes[*lane as usize] = None;
                    self.link.outbox(*lane).shut();
                }
            }
            true
        });
        self.link.note_change(before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::inbox;

    fn link() -> Arc<Link> {
        let (sender, _inbox) = inbox();
        Arc::new(Link::new(NodeId(2), String::from("there"), 1000, &LaneLimits::default(), &sender))
    }

    #[tokio::test]
    async fn only_the_latest_claim_of_a_lane_connects_and_disconnects_it() {
        let link = link();
        let old = link.claim(&Lane::ALL);
        old.opened();
        assert!(link.is_connected());
        let new = link.claim(&[Lane::Log]);
        old.revoked().await;
        drop(old);
        assert!(!link.is_connected() && link.outbox(Lane::Log).is_open(), "what was replaced is not shut");
        let rest = link.claim(&[Lane::Control, Lane::Bulk]);
        rest.opened();
        assert!(link.is_connected());
        assert_eq!(link.counters().snapshot().connections, 2);
        drop(new);
        assert!(!link.is_connected() && link.is_claimed());
        drop(rest);
        assert!(!link.is_claimed());
    }

    #[tokio::test]
    async fn a_peer_that_moves_loses_its_connections_and_one_that_stays_does_not() {
        let link = link();
        let claim = link.claim(&Lane::ALL);
        claim.opened();
        link.move_to("there");
        assert!(link.is_connected());
        link.move_to("elsewhere");
        claim.revoked().await;
        assert!(!link.is_connected());
        claim.opened();
        assert!(!link.is_connected(), "a revoked claim connects nothing");
    }
}
