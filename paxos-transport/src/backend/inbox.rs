//! Frames that have arrived and wait for the user.
//!
//! Each pair of peer and lane has its own bound, so that no peer or lane can use up the space of another. A
//! frame's space is reserved before the frame is read, so a peer can't make this node allocate more by
//! announcing long frames.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use paxos_core::NodeId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::lane::{LaneLimit, LaneLimits};
use crate::{Lane, Received};

/// On every 16th frame `Bulk` goes first, so that it is not starved.
const BULK_FIRST_EVERY: u32 = 16;

/// The frames of all nodes that have arrived: [`Transport::poll_receive`](crate::Transport::poll_receive)
/// hands them out.
///
/// Urgent lanes go first, but `Bulk` is not starved. A transport owns one; made by [`inbox`].
#[derive(Debug)]
pub struct Inbox {
    lanes: [mpsc::UnboundedReceiver<Arrived>; 3],
    turn: u32,
}

#[derive(Debug)]
struct Arrived {
    received: Received,
    /// Returned when the user takes the frame.
    _reservation: Reservation,
}

/// The share of the inbox's bound that one frame takes. It is returned when the user takes the frame, or when
/// this is dropped.
#[must_use]
#[derive(Debug)]
pub struct Reservation(#[expect(dead_code, reason = "held until the frame is taken")] OwnedSemaphorePermit);

/// The sending side of an [`Inbox`], from which each peer and lane gets its own [`LaneInbox`].
#[derive(Clone, Debug)]
pub struct InboxSender {
    lanes: [mpsc::UnboundedSender<Arrived>; 3],
    /// The capacity of each lane, if all peers share it.
    shared: Option<[Arc<Semaphore>; 3]>,
}

/// The sending side of an [`Inbox`] for one peer on one lane.
///
/// A connection reserves the space of a frame before it reads the frame, and then puts it in.
#[derive(Debug)]
pub struct LaneInbox {
    from: NodeId,
    lane: Lane,
    limit: LaneLimit,
    /// In units of [`LaneLimit::cost`].
    capacity: Arc<Semaphore>,
    frames: mpsc::UnboundedSender<Arrived>,
}

/// Makes an empty inbox, and its sending side.
#[must_use]
pub fn inbox() -> (InboxSender, Inbox) {
    // These channels are bounded all the same: each frame in them holds a reservation.
    let (control_in, control) = mpsc::unbounded_channel();
    let (log_in, log) = mpsc::unbounded_channel();
    let (bulk_in, bulk) = mpsc::unbounded_channel();
    (
        InboxSender { lanes: [control_in, log_in, bulk_in], shared: None },
        Inbox { lanes: [control, log, bulk], turn: 0 },
    )
}

impl Inbox {
    /// Takes a frame, from the most urgent lane that has one. `None` when no sending side is left.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Received>> {
        self.turn = self.turn.wrapping_add(1);
        let order = if self.turn.is_multiple_of(BULK_FIRST_EVERY) { [2, 1, 0] } else { [0, 1, 2] };
        let mut ended = 0;
        for lane in order {
            match self.lanes[lane].poll_recv(context) {
                Poll::Ready(Some(arrived)) => return Poll::Ready(Some(arrived.received)),
                Poll::Ready(None) => ended += 1,
                Poll::Pending => {}
            }
        }
        if ended == self.lanes.len() { Poll::Ready(None) } else { Poll::Pending }
    }

    /// Drops all frames, and accepts no more.
    pub fn close(&mut self) {
        for lane in &mut self.lanes {
            lane.close();
            while lane.try_recv().is_ok() {}
        }
    }
}

impl InboxSender {
    /// Whether the receiving side still exists.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.lanes.iter().all(|lane| !lane.is_closed())
    }

    /// The inbox of one node on one lane, with the bounds of that lane for itself.
    #[must_use]
    pub fn for_peer(&self, from: NodeId, lane: Lane, limits: &LaneLimits) -> LaneInbox {
        let limit = countable(limits.of(lane));
        let capacity = match &self.shared {
            Some(shared) => Arc::clone(&shared[lane as usize]),
            None => Arc::new(Semaphore::new(limit.bytes)),
        };
        LaneInbox { from, lane, limit, capacity, frames: self.lanes[lane as usize].clone() }
    }

    /// A sending side whose peers share the bounds of each lane, instead of having each their own.
    #[must_use]
    pub fn with_shared_bounds(&self, limits: &LaneLimits) -> InboxSender {
        let capacity = |lane: Lane| Arc::new(Semaphore::new(countable(limits.of(lane)).bytes));
        InboxSender { lanes: self.lanes.clone(), shared: Some(Lane::ALL.map(capacity)) }
    }
}

/// The limit in what a semaphore can count: 32 bits.
fn countable(limit: LaneLimit) -> LaneLimit {
    LaneLimit { bytes: limit.bytes.clamp(1, u32::MAX as usize), ..limit }
}

impl LaneInbox {
    /// The node whose frames it takes.
    #[must_use]
    pub fn from(&self) -> NodeId {
        self.from
    }

    /// The lane whose frames it takes.
    #[must_use]
    pub fn lane(&self) -> Lane {
        self.lane
    }

    /// Waits until a frame of this size fits. `None` if the receiving side is gone. Cancel-safe.
    pub async fn reserve(&self, frame_bytes: usize) -> Option<Reservation> {
        let permits = Arc::clone(&self.capacity).acquire_many_owned(self.cost(frame_bytes)).await.ok()?;
        (!self.frames.is_closed()).then_some(Reservation(permits))
    }

    /// Reserves space for a frame, if it fits now.
    pub fn try_reserve(&self, frame_bytes: usize) -> Option<Reservation> {
        Arc::clone(&self.capacity).try_acquire_many_owned(self.cost(frame_bytes)).ok().map(Reservation)
    }

    /// Adds a frame for which space was reserved. `false` if the receiving side is gone.
    #[must_use = "a connection whose receiving side is gone is closed"]
    pub fn put(&self, reservation: Reservation, frame: Bytes) -> bool {
        let received = Received { from: self.from, lane: self.lane, frame };
        self.frames.send(Arrived { received, _reservation: reservation }).is_ok()
    }

    fn cost(&self, frame_bytes: usize) -> u32 {
        u32::try_from(self.limit.cost(frame_bytes)).unwrap_or(u32::MAX)
    }
}
