//! The bounded queue of frames that have arrived.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use paxos_core::NodeId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

#[cfg(feature = "memory")]
use crate::SendOutcome;
use crate::{Lane, Received};

/// What a queued frame is taken to cost beside its bytes.
pub(crate) const FRAME_BYTES: usize = 64;
/// How many frames may have arrived and not been taken.
const INBOX_FRAMES: usize = 16 << 10;
/// How many bytes may have arrived and not been taken; beyond that nothing more is read from any peer.
const INBOX_BYTES: usize = 64 << 20;

/// Where arriving frames are put. Cloned for each connection.
#[derive(Clone, Debug)]
pub(crate) struct InboxSender {
    frames: mpsc::Sender<(Received, OwnedSemaphorePermit)>,
    room: Arc<Semaphore>,
}

/// Where the user takes them.
#[derive(Debug)]
pub(crate) struct Inbox(mpsc::Receiver<(Received, OwnedSemaphorePermit)>);

/// An inbox with room for [`INBOX_FRAMES`] and [`INBOX_BYTES`].
pub(crate) fn inbox() -> (InboxSender, Inbox) {
    let (frames, receiver) = mpsc::channel(INBOX_FRAMES);
    (InboxSender { frames, room: Arc::new(Semaphore::new(INBOX_BYTES)) }, Inbox(receiver))
}

impl InboxSender {
    /// Puts a frame in, waiting for room; `false` if nobody will take it any more.
    #[cfg(feature = "network")]
    pub(crate) async fn put(&self, from: NodeId, lane: Lane, frame: Bytes) -> bool {
        let Ok(permit) = Arc::clone(&self.room).acquire_many_owned(cost(&frame)).await else { return false };
        self.frames.send((Received { from, lane, frame }, permit)).await.is_ok()
    }

    /// Puts a frame in if there is room now.
    #[cfg(feature = "memory")]
    pub(crate) fn try_put(&self, from: NodeId, lane: Lane, frame: Bytes) -> SendOutcome {
        if self.frames.is_closed() {
            return SendOutcome::Disconnected;
        }
        let Ok(permit) = Arc::clone(&self.room).try_acquire_many_owned(cost(&frame)) else {
            return SendOutcome::Full;
        };
        match self.frames.try_send((Received { from, lane, frame }, permit)) {
            Ok(()) => SendOutcome::Queued,
            Err(mpsc::error::TrySendError::Full(_)) => SendOutcome::Full,
            Err(mpsc::error::TrySendError::Closed(_)) => SendOutcome::Disconnected,
        }
    }
}

fn cost(frame: &Bytes) -> u32 {
    u32::try_from((frame.len() + FRAME_BYTES).min(INBOX_BYTES)).unwrap_or(u32::MAX)
}

impl Inbox {
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Received>> {
        self.0.poll_recv(context).map(|received| received.map(|(received, _)| received))
    }

    pub(crate) fn close(&mut self) {
        self.0.close();
        while self.0.try_recv().is_ok() {}
    }
}
