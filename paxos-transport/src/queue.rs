//! Frames that wait to be sent.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::limits::LaneLimit;
use crate::{Lane, SendOutcome};

/// Frames on their way to one peer on one lane.
#[derive(Debug)]
pub(crate) struct LaneQueue {
    lane: Lane,
    limit: LaneLimit,
    waiting: Mutex<Waiting>,
    is_filled: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    gate: Gate,
    frames: VecDeque<Bytes>,
    cost: usize,
}

/// Whether frames are taken in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Gate {
    /// No: nobody could send them.
    #[default]
    Shut,
    /// Yes.
    Open,
    /// Never again; what waits may still be sent.
    Closing,
}

impl LaneQueue {
    /// An empty queue that takes nothing before it is opened.
    pub(crate) fn new(lane: Lane, limit: LaneLimit) -> LaneQueue {
        LaneQueue { lane, limit, waiting: Mutex::default(), is_filled: Notify::new() }
    }

    pub(crate) fn lane(&self) -> Lane {
        self.lane
    }

    pub(crate) fn push(&self, frame: Bytes) -> SendOutcome {
        let mut waiting = self.waiting();
        match waiting.gate {
            Gate::Shut => return SendOutcome::Disconnected,
            Gate::Closing => return SendOutcome::Closed,
            Gate::Open => {}
        }
        let cost = waiting.cost + self.limit.cost(frame.len());
        if cost > self.limit.bytes && !waiting.frames.is_empty() {
            return SendOutcome::Full;
        }
        waiting.cost = cost;
        waiting.frames.push_back(frame);
        drop(waiting);
        self.is_filled.notify_one();
        SendOutcome::Queued
    }

    pub(crate) fn pop(&self) -> Option<Bytes> {
        let mut waiting = self.waiting();
        let frame = waiting.frames.pop_front()?;
        waiting.cost -= self.limit.cost(frame.len());
        Some(frame)
    }

    /// Returns when there may be something to pop, or when the queue is closing.
    pub(crate) async fn filled(&self) {
        self.is_filled.notified().await;
    }

    /// Passes the word on to another of several who empty the queue, if something is left.
    pub(crate) fn wake_another(&self) {
        let waiting = self.waiting();
        if !waiting.frames.is_empty() || waiting.gate == Gate::Closing {
            drop(waiting);
            self.is_filled.notify_one();
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.waiting().gate == Gate::Open
    }

    /// Whether everything has been popped and nothing more will come.
    pub(crate) fn is_done(&self) -> bool {
        let waiting = self.waiting();
        waiting.gate == Gate::Closing && waiting.frames.is_empty()
    }

    pub(crate) fn open(&self) {
        let mut waiting = self.waiting();
        if waiting.gate == Gate::Shut {
            waiting.gate = Gate::Open;
        }
    }

    /// Drops what waits, and takes nothing more until opened again. Returns how many frames that were.
    pub(crate) fn shut(&self) -> usize {
        let mut waiting = self.waiting();
        if waiting.gate == Gate::Open {
            waiting.gate = Gate::Shut;
        }
        waiting.cost = 0;
        std::mem::take(&mut waiting.frames).len()
    }

    /// Takes nothing more, ever; what waits may still be popped.
    pub(crate) fn close(&self) {
        self.waiting().gate = Gate::Closing;
        self.is_filled.notify_one();
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Every change is complete before the guard is dropped, so a panic elsewhere leaves nothing half-done.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue() -> LaneQueue {
        LaneQueue::new(Lane::Log, LaneLimit { frames: 4, bytes: 400 })
    }

    #[test]
    fn frames_and_bytes_are_bounded_but_one_frame_always_fits() {
        let queue = queue();
        queue.open();
        assert_eq!(queue.push(vec![0; 1000].into()), SendOutcome::Queued);
        assert_eq!(queue.push(Bytes::new()), SendOutcome::Full);
        assert_eq!(queue.pop().map(|frame| frame.len()), Some(1000));
        for _ in 0..4 {
            assert_eq!(queue.push(Bytes::new()), SendOutcome::Queued);
        }
        assert_eq!(queue.push(Bytes::new()), SendOutcome::Full);
    }

    #[test]
    fn only_an_open_queue_takes_frames_and_a_closing_one_still_gives_them() {
        let queue = queue();
        assert_eq!(queue.push(Bytes::new()), SendOutcome::Disconnected);
        queue.open();
        assert_eq!(queue.push(Bytes::new()), SendOutcome::Queued);
        assert_eq!(queue.shut(), 1);
        assert_eq!(queue.pop(), None);
        queue.open();
        assert_eq!(queue.push(Bytes::new()), SendOutcome::Queued);
        queue.close();
        queue.open();
        assert_eq!(queue.push(Bytes::new()), SendOutcome::Closed);
        assert!(!queue.is_done() && queue.pop().is_some() && queue.is_done());
    }
}
