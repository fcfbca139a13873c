//! Persist before send, by construction.
//!
//! Everything that rests on stable storage waits here as a [`Consequence`] of the write that holds it, and
//! leaves only when that write's [`Durable`] has come back. There is no other way for a promise, an
//! acceptance or a prepare to become an output.

use std::collections::VecDeque;

use super::{Output, Replica};
use crate::durable::{Durable, Entry, HardState, Write, WriteNumber};
use crate::id::{Ballot, Epoch, NodeId, Slot};
use crate::message::{Accepted, Body, Message, Promise};
use crate::mutant::{Mutant, mutated};

/// What a replica does once a write is durable.
#[derive(Debug)]
pub(super) enum Consequence {
    /// Send a promise or an acceptance, or tell of a new epoch. The message keeps the epoch in which it was
    /// made.
    Send { to: NodeId, message: Message },
    /// Count the candidate's own promise, and send the prepare.
    OwnPromise { ballot: Ballot },
    /// Count the leader's own acceptance.
    OwnAcceptance { ballot: Ballot, slot: Slot },
}

impl Consequence {
    /// Whether a mutant lets it happen before the write is durable.
    fn leaves_too_early(&self) -> bool {
        match self {
            Consequence::Send { .. } => mutated(Mutant::SendBeforeSync),
            Consequence::OwnPromise { .. } => mutated(Mutant::PrepareBeforeSync),
            Consequence::OwnAcceptance { .. } => mutated(Mutant::OwnAcceptanceBeforeSync),
        }
    }
}

/// The write that this step gathers, the numbers of those under way, and what waits for them.
#[derive(Debug, Default)]
pub(super) struct Writes {
    entries: Vec<(Slot, Entry)>,
    hard_state_changed: bool,
    last_made: WriteNumber,
    durable: WriteNumber,
    waiting: VecDeque<(WriteNumber, Consequence)>,
}

impl Writes {
    /// Has `entry` written with this step.
    pub(super) fn put(&mut self, slot: Slot, entry: Entry) {
        self.entries.push((slot, entry));
    }

    /// Has the hard state written with this step, even if no entry is.
    pub(super) fn put_hard_state(&mut self) {
        self.hard_state_changed = true;
    }

    /// Holds `consequence` back until all that has been put so far is durable.
    pub(super) fn after_durable(&mut self, consequence: Consequence) {
        self.waiting.push_back((self.number(), consequence));
    }

    /// The number of the write with which all that has been put so far becomes durable.
    pub(super) fn number(&self) -> WriteNumber {
        if self.is_gathering() { WriteNumber(self.last_made.0 + 1) } else { self.last_made }
    }

    /// All writes up to this one are durable.
    pub(super) fn durable(&self) -> WriteNumber {
        self.durable
    }

    /// Like [`after_durable`](Writes::after_durable), unless an equal answer already waits: so messages that
    /// come again and again take no memory while the disk is stuck.
    pub(super) fn answer_after_durable(&mut self, to: NodeId, message: Message) {
        let (epoch, body) = (message.epoch, &message.body);
        let is_equal = |waiting: &Body| match (waiting, body) {
            (
                Body::Promise(Promise { ballot, first, .. }),
                Body::Promise(Promise { ballot: other, first: from, .. }),
            ) => (ballot, first) == (other, from),
            (waiting, body) => waiting == body,
        };
        let waits = self.waiting.iter().any(|(_, consequence)| match consequence {
            Consequence::Send { to: receiver, message } => {
                *receiver == to && message.epoch == epoch && is_equal(&message.body)
            }
            _ => false,
        });
        if !waits {
            self.after_durable(Consequence::Send { to, message });
        }
    }

    pub(super) fn on_durable(&mut self, durable: &Durable) {
        let (first, last) = durable.numbers();
        assert_eq!(first.0, self.durable.0 + 1, "writes become durable in order, without gaps");
        assert!(last <= self.last_made, "only a write that was made becomes durable");
        self.durable = last;
    }

    /// Gives unused memory back.
    pub(super) fn give_back_memory(&mut self) {
        if self.waiting.is_empty() {
            self.waiting = VecDeque::new();
        }
    }

    /// The next consequence of a durable write, if any is left.
    fn pop_due(&mut self) -> Option<Consequence> {
        let (number, consequence) = self.waiting.front()?;
        if *number > self.durable && !consequence.leaves_too_early() {
            None
        } else {
            self.waiting.pop_front().map(|(_, due)| due)
        }
    }

    /// Joins the acceptances that are due and directly follow the one just popped to it, so that one message
    /// reports them all.
    fn extend_acceptance(&mut self, receiver: NodeId, epoch: Epoch, ballot: Ballot, last: &mut Slot) {
        while let Some((number, Consequence::Send { to, message })) = self.waiting.front()
            && let Body::Accepted(Accepted { ballot: same, first, last: end }) = &message.body
        {
            let is_next = *first == last.next() || mutated(Mutant::AcceptedRangeOverHoles);
            let is_alike = *to == receiver && message.epoch == epoch && *same == ballot;
            if *number > self.durable || !is_alike || !is_next {
                return;
            }
            *last = *end;
            self.waiting.pop_front();
        }
    }

    /// The write of this step, if there is anything to write.
    pub(super) fn take(&mut self, hard_state: HardState) -> Option<Write> {
        if !self.is_gathering() {
            return None;
        }
        self.hard_state_changed = false;
        self.last_made.0 += 1;
        Some(Write::new(self.last_made, hard_state, std::mem::take(&mut self.entries)))
    }

    fn is_gathering(&self) -> bool {
        self.hard_state_changed || !self.entries.is_empty()
    }
}

impl Replica {
    /// Carries out the consequences of writes that have become durable.
    pub(super) fn release_durable(&mut self) {
        while let Some(due) = self.writes.pop_due() {
            match due {
                Consequence::Send { to, mut message } => {
                    let epoch = message.epoch;
                    if let Body::Accepted(Accepted { ballot, last, .. }) = &mut message.body {
                        self.writes.extend_acceptance(to, epoch, *ballot, last);
                    }
                    self.outputs.push(Output::Send { to, message });
                }
                Consequence::OwnPromise { ballot } => self.on_own_promise(ballot),
                Consequence::OwnAcceptance { ballot, slot } => {
                    if let Some(own) = self.own_index() {
                        self.on_accepted(own, Accepted { ballot, first: slot, last: slot });
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Value;

    const BALLOT: Ballot = Ballot { round: 3, node: NodeId(2) };
    const OTHER: Ballot = Ballot { round: 4, node: NodeId(2) };

    fn accepted(ballot: Ballot, slot: u64) -> Message {
        Message::new(Epoch(0), Accepted { ballot, first: Slot(slot), last: Slot(slot) })
    }

    fn make_durable(writes: &mut Writes) {
        let write = writes.take(HardState::default()).expect("there is something to write");
        writes.on_durable(&write.into_durable());
    }

    /// The last slot that the answer about slot 1 tells if `second` is due after it.
    fn last_told(second: (NodeId, Message)) -> Slot {
        let mut writes = Writes::default();
        writes.put_hard_state();
        writes.after_durable(Consequence::Send { to: NodeId(2), message: accepted(BALLOT, 1) });
        writes.after_durable(Consequence::Send { to: second.0, message: second.1 });
        make_durable(&mut writes);
        writes.pop_due().expect("the first is durable");
        let mut last = Slot(1);
        writes.extend_acceptance(NodeId(2), Epoch(0), BALLOT, &mut last);
        assert_eq!(writes.waiting.is_empty(), last == Slot(2), "one message for two, or one for each");
        last
    }

    #[test]
    fn acceptances_of_neighbouring_slots_are_told_together() {
        assert_eq!(last_told((NodeId(2), accepted(BALLOT, 2))), Slot(2));
        assert_eq!(last_told((NodeId(2), accepted(BALLOT, 3))), Slot(1), "slot 2 was not accepted");
        assert_eq!(last_told((NodeId(2), accepted(OTHER, 2))), Slot(1), "of another ballot");
        assert_eq!(last_told((NodeId(3), accepted(BALLOT, 2))), Slot(1), "for another proposer");
        let later = Message { epoch: Epoch(1), ..accepted(BALLOT, 2) };
        assert_eq!(last_told((NodeId(2), later)), Slot(1), "of another epoch");
    }

    #[test]
    fn an_acceptance_is_not_told_with_one_before_it_that_is_durable_earlier() {
        let mut writes = Writes::default();
        writes.put_hard_state();
        writes.after_durable(Consequence::Send { to: NodeId(2), message: accepted(BALLOT, 1) });
        make_durable(&mut writes);
        writes.put(Slot(2), Entry::Accepted { ballot: BALLOT, value: Value::no_op() });
        writes.after_durable(Consequence::Send { to: NodeId(2), message: accepted(BALLOT, 2) });
        writes.pop_due().expect("the first is durable");
        let mut last = Slot(1);
        writes.extend_acceptance(NodeId(2), Epoch(0), BALLOT, &mut last);
        assert_eq!((last, writes.waiting.len()), (Slot(1), 1));
        make_durable(&mut writes);
        assert!(writes.pop_due().is_some() && writes.pop_due().is_none());
    }

    #[test]
    fn the_same_answer_waits_only_once() {
        let mut writes = Writes::default();
        writes.put_hard_state();
        let promise = |ballot, first, rest| {
            Message::new(Epoch(0), Promise { ballot, first: Slot(first), reports: vec![], rest, time: None })
        };
        let answers = [
            (NodeId(2), promise(BALLOT, 1, None)),
            (NodeId(2), promise(BALLOT, 1, Some(Slot(9)))), // the same question, whatever came meanwhile
            (NodeId(2), promise(BALLOT, 2, None)),
            (NodeId(2), promise(OTHER, 1, None)),
            (NodeId(3), promise(BALLOT, 1, None)),
            (NodeId(2), accepted(BALLOT, 1)),
            (NodeId(2), accepted(BALLOT, 1)),
            (NodeId(2), accepted(BALLOT, 2)),
        ];
        for (to, message) in answers {
            writes.answer_after_durable(to, message);
        }
        assert_eq!(writes.waiting.len(), 6);
    }
}
