//! Frames that have arrived and wait for the user.
//!
//! Each pair of peer and lane has a bound of its own, so that one peer can't take the room of another, nor one
//! lane that of another. Room is taken before a frame is read, so what a peer merely announces is bounded too.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use paxos_core::NodeId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::limits::{LaneLimit, LaneLimits};
use crate::{Lane, Received};

/// Once in so many frames the most patient lane goes first, so that it is not starved.
const PATIENT_TURN: u32 = 16;

/// Where the user takes frames.
#[derive(Debug)]
pub(crate) struct Inbox {
    lanes: [mpsc::UnboundedReceiver<Arrived>; 3],
    turn: u32,
}

#[derive(Debug)]
struct Arrived {
    received: Received,
    /// Given back when the user takes the frame.
    _room: Room,
}

/// Room for one frame.
#[derive(Debug)]
pub(crate) struct Room(#[expect(dead_code, reason = "held until the frame is taken")] OwnedSemaphorePermit);

/// Gives each peer its way into an [`Inbox`].
#[derive(Clone, Debug)]
pub(crate) struct InboxSender([mpsc::UnboundedSender<Arrived>; 3]);

/// The way into an [`Inbox`] for one peer on one lane.
#[derive(Debug)]
pub(crate) struct LaneInbox {
    from: NodeId,
    lane: Lane,
    limit: LaneLimit,
    room: Arc<Semaphore>,
    frames: mpsc::UnboundedSender<Arrived>,
}

/// An empty inbox.
pub(crate) fn inbox() -> (InboxSender, Inbox) {
    // Bounded all the same: nothing is put in without room.
    let (control_in, control) = mpsc::unbounded_channel();
    let (log_in, log) = mpsc::unbounded_channel();
    let (bulk_in, bulk) = mpsc::unbounded_channel();
    (InboxSender([control_in, log_in, bulk_in]), Inbox { lanes: [control, log, bulk], turn: 0 })
}

impl Inbox {
    /// Takes a frame, of an urgent lane rather than of a patient one. `None` when nobody can put any in.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Received>> {
        self.turn = self.turn.wrapping_add(1);
        let order = if self.turn.is_multiple_of(PATIENT_TURN) { [2, 1, 0] } else { [0, 1, 2] };
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

    /// Drops what has arrived and takes nothing more.
    pub(crate) fn close(&mut self) {
        for lane in &mut self.lanes {
            lane.close();
            while lane.try_recv().is_ok() {}
        }
    }
}

impl InboxSender {
    /// Whether there is still somebody to take what is put in.
    #[cfg(feature = "memory")]
    pub(crate) fn is_open(&self) -> bool {
        self.0.iter().all(|lane| !lane.is_closed())
    }

    pub(crate) fn for_peer(&self, from: NodeId, lane: Lane, limits: &LaneLimits) -> LaneInbox {
        let limit = limits.of(lane);
        // A semaphore counts in 32 bits.
        let bytes = limit.bytes.clamp(1, u32::MAX as usize);
        let limit = LaneLimit { bytes, ..limit };
        let room = Arc::new(Semaphore::new(bytes));
        LaneInbox { from, lane, limit, room, frames: self.0[lane as usize].clone() }
    }
}

impl LaneInbox {
    #[cfg(feature = "network")]
    pub(crate) fn lane(&self) -> Lane {
        self.lane
    }

    /// Waits for room for a frame; `None` if nobody will take it any more.
    #[cfg(feature = "network")]
    pub(crate) async fn room(&self, frame_bytes: usize) -> Option<Room> {
        let room = Arc::clone(&self.room).acquire_many_owned(self.cost(frame_bytes)).await.ok()?;
        (!self.frames.is_closed()).then_some(Room(room))
    }

    /// Room for a frame, if there is any now.
    #[cfg(feature = "memory")]
    pub(crate) fn room_now(&self, frame_bytes: usize) -> Option<Room> {
        Arc::clone(&self.room).try_acquire_many_owned(self.cost(frame_bytes)).ok().map(Room)
    }

    /// Puts a frame into its room; `false` if nobody will take it any more.
    pub(crate) fn put(&self, room: Room, frame: Bytes) -> bool {
        let received = Received { from: self.from, lane: self.lane, frame };
        self.frames.send(Arrived { received, _room: room }).is_ok()
    }

    fn cost(&self, frame_bytes: usize) -> u32 {
        u32::try_from(self.limit.cost(frame_bytes)).unwrap_or(u32::MAX)
    }
}
