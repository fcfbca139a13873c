//! Messages that come before the membership that begins their epoch.
//!
//! Frames overtake each other: what a leader sends in a new epoch may come before the accept with the
//! membership that begins it. The replica can't count such a message yet and drops it, and the leader would
//! send it again only after `resend_ticks`, for which all clients wait if it needs this node for a quorum. So
//! the driver keeps it, and hands it to the replica again once that has entered the epoch. For the replica it
//! is a message that has come twice, as messages may.

use std::collections::VecDeque;

use paxos_core::{Body, Epoch, Input, Message, NodeId};

use super::Driver;
use crate::error::NodeError;
use crate::state_machine::StateMachine;

/// At most this many messages are kept; of more the oldest is forgotten.
const MAX_MESSAGES: usize = 256;
/// At most this many bytes of frames are kept; a frame that is longer by itself is not.
const MAX_BYTES: usize = 4 << 20;
/// For how many ticks a message is kept. By then its sender has sent it again.
const KEPT_TICKS: u128 = 50;

/// The messages that are kept.
#[derive(Debug, Default)]
pub(super) struct EarlyMessages {
    /// In the order in which they came.
    kept: VecDeque<Early>,
    bytes: usize,
}

#[derive(Debug)]
struct Early {
    from: NodeId,
    message: Message,
    frame_bytes: usize,
    at_ticks: u128,
}

impl EarlyMessages {
    fn keep(&mut self, early: Early) {
        if early.frame_bytes > MAX_BYTES {
            return;
        }
        self.bytes += early.frame_bytes;
        self.kept.push_back(early);
        while self.kept.len() > MAX_MESSAGES || self.bytes > MAX_BYTES {
            self.pop();
        }
    }

    fn pop(&mut self) -> Option<Early> {
        let early = self.kept.pop_front()?;
        self.bytes -= early.frame_bytes;
        Some(early)
    }

    /// Forgets messages that have been kept for long enough.
    pub(super) fn on_tick(&mut self, now_ticks: u128) {
        while self.kept.front().is_some_and(|early| early.at_ticks + KEPT_TICKS <= now_ticks) {
            self.pop();
        }
    }

    /// Takes the messages of `epoch`, in the order in which they came. Those of earlier epochs are forgotten.
    fn take(&mut self, epoch: Epoch) -> Vec<(NodeId, Message)> {
        let mut taken = Vec::new();
        for _ in 0..self.kept.len() {
            let Some(early) = self.pop() else { break };
            if early.message.epoch > epoch {
                self.bytes += early.frame_bytes;
                self.kept.push_back(early);
            } else if early.message.epoch == epoch {
                taken.push((early.from, early.message));
            }
        }
        taken
    }
}

impl<S: StateMachine> Driver<S> {
    /// A copy of a message that the replica is about to drop, as it is not in the message's epoch yet.
    pub(super) fn early_copy(&self, message: &Message) -> Option<Message> {
        let is_early = message.epoch > self.replica.membership().epoch();
        let waits_for_answer =
            matches!(message.body, Body::Accept(_) | Body::Heartbeat(_) | Body::Prepare(_));
        (is_early && waits_for_answer).then(|| message.clone())
    }

    /// Keeps such a copy, unless the message itself has led the replica into its epoch.
    pub(super) fn keep_early(&mut self, from: NodeId, message: Message, frame_bytes: usize) {
        if message.epoch > self.replica.membership().epoch() {
            let at_ticks = self.clock.ticks;
            self.peers.early.keep(Early { from, message, frame_bytes, at_ticks });
        }
    }

    /// Hands the replica what came before the epoch that it is in now.
    pub(super) fn take_in_early(&mut self) -> Result<(), NodeError> {
        if self.peers.early.kept.is_empty() {
            return Ok(());
        }
        let epoch = self.replica.membership().epoch();
        let early = self.peers.early.take(epoch);
        early.into_iter().try_for_each(|(from, message)| self.step(Input::Receive { from, message }))
    }
}

#[cfg(test)]
mod tests {
    use paxos_core::Slot;
    use paxos_core::message::Fetch;

    use super::*;

    fn early(epoch: u64, number: u64, frame_bytes: usize) -> Early {
        let message = Message::new(Epoch(epoch), Fetch::all_from(Slot(number)));
        Early { from: NodeId(1), message, frame_bytes, at_ticks: u128::from(number) }
    }

    fn numbers(early: &EarlyMessages) -> Vec<u128> {
        early.kept.iter().map(|early| early.at_ticks).collect()
    }

    #[test]
    fn messages_wait_for_their_epoch_and_keep_their_order() {
        let mut messages = EarlyMessages::default();
        for (epoch, number) in [(2, 1), (3, 2), (2, 3), (1, 4)] {
            messages.keep(early(epoch, number, 10));
        }
        assert!(messages.take(Epoch(0)).is_empty());
        let taken = messages.take(Epoch(2));
        let taken: Vec<Message> = taken.into_iter().map(|(_, message)| message).collect();
        assert_eq!(taken, [early(2, 1, 0).message, early(2, 3, 0).message]);
        assert_eq!((numbers(&messages), messages.bytes), (vec![2], 10), "what was of epoch 1 is forgotten");
    }

    #[test]
    fn the_oldest_is_forgotten_when_there_are_too_many_or_it_has_waited_for_long() {
        let mut messages = EarlyMessages::default();
        for number in 0..=MAX_MESSAGES as u64 {
            messages.keep(early(1, number, 1));
        }
        assert_eq!((messages.kept.len(), messages.bytes), (MAX_MESSAGES, MAX_MESSAGES));
        assert_eq!(messages.kept.front().map(|early| early.at_ticks), Some(1));
        messages.keep(early(1, 1000, MAX_BYTES + 1));
        assert_eq!(messages.kept.len(), MAX_MESSAGES, "a frame that is too long costs no other its place");
        messages.keep(early(1, 1000, MAX_BYTES));
        assert_eq!((numbers(&messages), messages.bytes), (vec![1000], MAX_BYTES));
        messages.on_tick(1000 + KEPT_TICKS - 1);
        assert_eq!(numbers(&messages), [1000]);
        messages.on_tick(1000 + KEPT_TICKS);
        assert_eq!((numbers(&messages), messages.bytes), (Vec::new(), 0));
    }
}
