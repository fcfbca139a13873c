//! Frames that wait to be sent.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use tokio::sync::Notify;

use super::Counters;
use crate::lane::{LaneLimit, LaneLimits};
use crate::lock::lock;
use crate::{Lane, SendOutcome};

/// Frames that wait to be sent to one peer on one lane, bounded in number and bytes.
///
/// [`push`](Outbox::push) never blocks, and says what became of the frame; any number of tasks
/// [`pop`](Outbox::pop). What is sent and dropped is counted. An outbox accepts frames only while it is open,
/// which is while the peer is connected: it starts shut.
#[derive(Debug)]
pub struct Outbox {
    lane: Lane,
    limit: LaneLimit,
    max_frame_bytes: usize,
    counters: Arc<Counters>,
    waiting: Mutex<Waiting>,
    is_filled: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    gate: Gate,
    frames: VecDeque<Bytes>,
    cost: usize,
}

/// Whether the outbox accepts frames.
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

impl Outbox {
    /// Makes an empty outbox, which accepts frames of up to `max_frame_bytes` once it is opened.
    #[must_use]
    pub fn new(lane: Lane, limits: &LaneLimits, max_frame_bytes: usize, counters: Arc<Counters>) -> Outbox {
        let limit = limits.of(lane);
        Outbox { lane, limit, max_frame_bytes, counters, waiting: Mutex::default(), is_filled: Notify::new() }
    }

    /// The lane of its frames.
    #[must_use]
    pub fn lane(&self) -> Lane {
        self.lane
    }

    /// Adds a frame, or drops it: [`Full`](SendOutcome::Full) if there is no space,
    /// [`TooLarge`](SendOutcome::TooLarge) if it is longer than any may be,
    /// [`Disconnected`](SendOutcome::Disconnected) if the outbox is shut, and
    /// [`Closed`](SendOutcome::Closed) if it is closed.
    pub fn push(&self, frame: Bytes) -> SendOutcome {
        let frame_bytes = frame.len();
        let is_too_large = frame_bytes > self.max_frame_bytes;
        let outcome = if is_too_large { SendOutcome::TooLarge } else { self.add(frame) };
        self.counters.on_outcome(outcome, frame_bytes);
        outcome
    }

    fn add(&self, frame: Bytes) -> SendOutcome {
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

    /// Takes the frame that has waited longest, and counts it as sent.
    pub fn pop(&self) -> Option<Bytes> {
        let mut waiting = self.waiting();
        let frame = waiting.frames.pop_front()?;
        waiting.cost -= self.limit.cost(frame.len());
        drop(waiting);
        self.counters.on_sent(frame.len());
        Some(frame)
    }

    /// Waits until there may be a frame to pop, or the outbox is closed. Cancel-safe.
    pub async fn filled(&self) {
        self.is_filled.notified().await;
    }

    /// Wakes another of the tasks that pop from this outbox, if frames are left or it is closed. A task calls
    /// this once it has popped what it sends next, if there may be others.
    pub fn wake_another(&self) {
        let waiting = self.waiting();
        if !waiting.frames.is_empty() || waiting.gate == Gate::Closing {
            drop(waiting);
            self.is_filled.notify_one();
        }
    }

    /// Whether it accepts frames.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.waiting().gate == Gate::Open
    }

    /// Whether the outbox is closed and empty.
    #[must_use]
    pub fn is_done(&self) -> bool {
        let waiting = self.waiting();
        waiting.gate == Gate::Closing && waiting.frames.is_empty()
    }

    /// Accepts frames from now on: the peer is connected. Does nothing to an outbox that is closed.
    pub fn open(&self) {
        let mut waiting = self.waiting();
        if waiting.gate == Gate::Shut {
            waiting.gate = Gate::Open;
        }
    }

    /// Drops all frames, and accepts none until it is opened again: the peer is not connected any more.
    pub fn shut(&self) {
        let mut waiting = self.waiting();
        if waiting.gate == Gate::Open {
            waiting.gate = Gate::Shut;
        }
        waiting.cost = 0;
        let dropped = std::mem::take(&mut waiting.frames);
        drop(waiting);
        self.counters.on_disconnected(dropped.len());
    }

    /// Accepts no more frames, ever; queued ones may still be popped.
    pub fn close(&self) {
        self.waiting().gate = Gate::Closing;
        self.is_filled.notify_one();
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Every change is complete before the guard is dropped, so a panic elsewhere leaves nothing
        // half-done.
        lock(&self.waiting)
    }
}

/// Takes a frame of the first of the outboxes that has one, and counts it as sent. A task that has
/// [waited](wait_for_any) calls this; if frames are left, it or another one is woken again.
pub fn pop_any(outboxes: &[&Outbox]) -> Option<(Lane, Bytes)> {
    let popped = outboxes.iter().find_map(|outbox| Some((outbox.lane(), outbox.pop()?)));
    for outbox in outboxes {
        outbox.wake_another();
    }
    popped
}

/// Waits until one of the outboxes may have a frame, or is closed. Cancel-safe.
///
/// # Panics
///
/// If there are no outboxes, or more than one for each lane.
pub async fn wait_for_any(outboxes: &[&Outbox]) {
    match outboxes {
        [only] => only.filled().await,
        [first, second] => tokio::select! {
            () = first.filled() => {}
            () = second.filled() => {}
        },
        [first, second, third] => tokio::select! {
            () = first.filled() => {}
            () = second.filled() => {}
            () = third.filled() => {}
        },
        _ => panic!("a connection carries one lane, two or three"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outbox() -> Outbox {
        let limit = LaneLimit { frames: 4, bytes: 400 };
        let limits = LaneLimits { control: limit, log: limit, bulk: limit };
        Outbox::new(Lane::Log, &limits, 1000, Arc::default())
    }

    #[test]
    fn frames_and_bytes_are_bounded_but_one_frame_always_fits() {
        let outbox = outbox();
        outbox.open();
        assert_eq!(outbox.push(vec![0; 1000].into()), SendOutcome::Queued);
        assert_eq!(outbox.push(Bytes::new()), SendOutcome::Full);
        assert_eq!(outbox.pop().map(|frame| frame.len()), Some(1000));
        for _ in 0..4 {
            assert_eq!(outbox.push(Bytes::new()), SendOutcome::Queued);
        }
        assert_eq!(outbox.push(Bytes::new()), SendOutcome::Full);
        assert_eq!(outbox.push(vec![0; 1001].into()), SendOutcome::TooLarge);
        let counted = outbox.counters.snapshot();
        assert_eq!((counted.sent.frames, counted.sent.bytes), (1, 1000));
        let dropped = counted.dropped;
        assert_eq!((dropped.full, dropped.too_large, dropped.longest_too_large_bytes), (2, 1, 1001));
    }

    #[test]
    fn only_an_open_queue_takes_frames_and_a_closing_one_still_gives_them() {
        let outbox = outbox();
        assert_eq!(outbox.push(Bytes::new()), SendOutcome::Disconnected);
        outbox.open();
        assert_eq!(outbox.push(Bytes::new()), SendOutcome::Queued);
        outbox.shut();
        assert_eq!(outbox.counters.snapshot().dropped.disconnected, 2, "the refused one, and the queued one");
        assert_eq!(outbox.pop(), None);
        outbox.open();
        assert_eq!(outbox.push(Bytes::new()), SendOutcome::Queued);
        outbox.close();
        outbox.open();
        assert_eq!(outbox.push(Bytes::new()), SendOutcome::Closed);
        assert!(!outbox.is_done() && outbox.pop().is_some() && outbox.is_done());
    }
}
