//! Bounded queues of frames on their way out, one for each peer and lane.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::inbox::FRAME_BYTES;
use crate::{Lane, SendOutcome};

/// Frames on their way to one peer on one lane.
#[derive(Debug)]
pub(crate) struct LaneQueue {
    lane: Lane,
    frames: Mutex<Waiting>,
    is_filled: Notify,
    is_open: AtomicBool,
}

#[derive(Debug, Default)]
struct Waiting {
    frames: VecDeque<Bytes>,
    bytes: usize,
}

impl LaneQueue {
    /// An open queue takes frames; a closed one drops them, because nobody could send them.
    pub(crate) fn new(lane: Lane, is_open: bool) -> LaneQueue {
        LaneQueue {
            lane,
            frames: Mutex::default(),
            is_filled: Notify::new(),
            is_open: AtomicBool::new(is_open),
        }
    }

    pub(crate) fn push(&self, frame: Bytes) -> SendOutcome {
        if !self.is_open.load(Ordering::Acquire) {
            return SendOutcome::Disconnected;
        }
        let mut waiting = self.waiting();
        let bytes = waiting.bytes + frame.len() + FRAME_BYTES;
        if bytes > self.lane.queue_bytes() && !waiting.frames.is_empty() {
            return SendOutcome::Full;
        }
        waiting.bytes = bytes;
        waiting.frames.push_back(frame);
        drop(waiting);
        self.is_filled.notify_one();
        SendOutcome::Queued
    }

    pub(crate) fn lane(&self) -> Lane {
        self.lane
    }

    pub(crate) fn pop(&self) -> Option<Bytes> {
        let mut waiting = self.waiting();
        let frame = waiting.frames.pop_front()?;
        waiting.bytes -= frame.len() + FRAME_BYTES;
        Some(frame)
    }

    /// Returns when there may be something to pop.
    pub(crate) async fn filled(&self) {
        self.is_filled.notified().await;
    }

    /// Passes the word on to another of several who empty the queue, if something is left.
    pub(crate) fn wake_another(&self) {
        if !self.waiting().frames.is_empty() {
            self.is_filled.notify_one();
        }
    }

    pub(crate) fn open(&self) {
        self.is_open.store(true, Ordering::Release);
    }

    pub(crate) fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Acquire)
    }

    /// Drops what waits and takes nothing more until it is opened again.
    pub(crate) fn close(&self) {
        self.is_open.store(false, Ordering::Release);
        *self.waiting() = Waiting::default();
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
