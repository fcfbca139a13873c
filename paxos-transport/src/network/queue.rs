//! The queue of frames to one peer on one lane.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::lane::LaneLimit;
use crate::lock::lock;
use crate::{Lane, SendOutcome};

/// Frames that wait to be sent to one peer on one lane.
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

/// Whether the queue accepts frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Gate {
    /// No: the peer is not connected.
    #[default]
    Shut,
    /// Yes.
    Open,
    /// Never again, but queued frames may still be sent.
    Closing,
}

impl LaneQueue {
    /// Makes an empty queue, which accepts frames once it is opened.
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

    /// Waits until there may be a frame to pop, or the queue is closing.
    pub(crate) async fn filled(&self) {
        self.is_filled.notified().await;
    }

    /// Wakes another of the tasks that pop from this queue, if frames are left.
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

    /// Whether the queue is closing and empty.
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

    /// Drops all frames, and accepts none until it is opened again. Returns how many were dropped.
    pub(crate) fn shut(&self) -> usize {
        let mut waiting = self.waiting();
        if waiting.gate == Gate::Open {
            waiting.gate = Gate::Shut;
        }
        waiting.cost = 0;
        std::mem::take(&mut waiting.frames).len()
    }

    /// Accepts no more frames; queued ones may still be popped.
    pub(crate) fn close(&self) {
        self.waiting().gate = Gate::Closing;
        self.is_filled.notify_one();
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Every change is complete before the guard is dropped, so a panic elsewhere leaves nothing
        // half-done.
        lock(&self.waiting)
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
