//! Persist before send, by construction.
//!
//! Whatever rests on stable storage waits here as a [`Consequence`] of the write that holds it, and leaves only
//! when that write's [`Durable`] has come back. There is no other way for a promise, an acceptance or the own
//! ballot of a prepare to become an output.

use std::collections::VecDeque;

use super::{Output, Replica};
use crate::durable::{Durable, Entry, HardState, Write, WriteNumber};
use crate::id::{Ballot, NodeId, Slot};
use crate::message::Body;
use crate::mutant::{Mutant, mutated};

/// What is done once a write is durable.
#[derive(Debug)]
pub(super) enum Consequence {
    /// Send a promise or an acceptance.
    Send { to: NodeId, body: Body },
    /// Count the own promise, and let the prepare leave.
    OwnPromise { ballot: Ballot },
    /// Count the leader's own acceptance.
    OwnAcceptance { ballot: Ballot, slot: Slot },
}

impl Consequence {
    /// Whether a mutant lets it happen before the write is durable.
    fn is_rash(&self) -> bool {
        match self {
            Consequence::Send { .. } => mutated(Mutant::SendBeforeSync),
            Consequence::OwnPromise { .. } => mutated(Mutant::PrepareBeforeSync),
            Consequence::OwnAcceptance { .. } => mutated(Mutant::OwnAcceptanceBeforeSync),
        }
    }
}

/// The write that this step gathers, and those under way.
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
    pub(super) fn then(&mut self, consequence: Consequence) {
        let number = if self.is_gathering() { WriteNumber(self.last_made.0 + 1) } else { self.last_made };
        self.waiting.push_back((number, consequence));
    }

    /// The same for an answer to what may have come before: if the same answer waits already it is not added, so that
    /// repeated questions take no memory while the disk is stuck.
    pub(super) fn then_once(&mut self, to: NodeId, body: Body) {
        let is_it = |waiting: &Body| match (waiting, &body) {
            (Body::Promise { ballot, first, .. }, Body::Promise { ballot: other, first: from, .. }) => {
                (ballot, first) == (other, from)
            }
            (waiting, body) => waiting == body,
        };
        let waits = self.waiting.iter().any(|(_, consequence)| {
            matches!(consequence, Consequence::Send { to: receiver, body } if *receiver == to && is_it(body))
        });
        if !waits {
            self.then(Consequence::Send { to, body });
        }
    }

    pub(super) fn on_durable(&mut self, durable: &Durable) {
        let (first, last) = durable.numbers();
        assert_eq!(first.0, self.durable.0 + 1, "writes become durable in order, without gaps");
        assert!(last <= self.last_made, "only a write that was made becomes durable");
        self.durable = last;
    }

    /// The next consequence of a durable write, if any is left.
    fn pop_due(&mut self) -> Option<Consequence> {
        let (number, consequence) = self.waiting.front()?;
        if *number > self.durable && !consequence.is_rash() {
            None
        } else {
            self.waiting.pop_front().map(|(_, due)| due)
        }
    }

    /// Adds a directly following acceptance that is due to the one just popped, so that one message tells both.
    fn extend_acceptance(&mut self, receiver: NodeId, ballot: Ballot, last: &mut Slot) {
        while let Some((
            number,
            Consequence::Send { to, body: Body::Accepted { ballot: same, first, last: end } },
        )) = self.waiting.front()
        {
            let is_next = *first == last.next() || mutated(Mutant::AcceptedRangeOverHoles);
            if *number > self.durable || *to != receiver || *same != ballot || !is_next {
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
    /// Does what durable writes allow.
    pub(super) fn release_durable(&mut self, outputs: &mut Vec<Output>) {
        while let Some(due) = self.writes.pop_due() {
            match due {
                Consequence::Send { to, mut body } => {
                    if let Body::Accepted { ballot, last, .. } = &mut body {
                        self.writes.extend_acceptance(to, *ballot, last);
                    }
                    self.send(to, body, outputs);
                }
                Consequence::OwnPromise { ballot } => self.on_own_promise(ballot, outputs),
                Consequence::OwnAcceptance { ballot, slot } => {
                    self.on_accepted(self.own_index(), ballot, slot, slot);
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

    fn accepted(ballot: Ballot, slot: u64) -> Body {
        Body::Accepted { ballot, first: Slot(slot), last: Slot(slot) }
    }

    fn make_durable(writes: &mut Writes) {
        let write = writes.take(HardState::default()).expect("there is something to write");
        writes.on_durable(&write.into_durable());
    }

    /// The last slot that the answer about slot 1 tells if `second` is due after it.
    fn last_told(second: (NodeId, Body)) -> Slot {
        let mut writes = Writes::default();
        writes.put_hard_state();
        writes.then(Consequence::Send { to: NodeId(2), body: accepted(BALLOT, 1) });
        writes.then(Consequence::Send { to: second.0, body: second.1 });
        make_durable(&mut writes);
        writes.pop_due().expect("the first is durable");
        let mut last = Slot(1);
        writes.extend_acceptance(NodeId(2), BALLOT, &mut last);
        assert_eq!(writes.waiting.is_empty(), last == Slot(2), "one message for two, or one for each");
        last
    }

    #[test]
    fn acceptances_of_neighbouring_slots_are_told_together() {
        assert_eq!(last_told((NodeId(2), accepted(BALLOT, 2))), Slot(2));
        assert_eq!(last_told((NodeId(2), accepted(BALLOT, 3))), Slot(1), "slot 2 was not accepted");
        assert_eq!(last_told((NodeId(2), accepted(OTHER, 2))), Slot(1), "of another ballot");
        assert_eq!(last_told((NodeId(3), accepted(BALLOT, 2))), Slot(1), "for another proposer");
    }

    #[test]
    fn an_acceptance_is_not_told_with_one_before_it_that_is_durable_earlier() {
        let mut writes = Writes::default();
        writes.put_hard_state();
        writes.then(Consequence::Send { to: NodeId(2), body: accepted(BALLOT, 1) });
        make_durable(&mut writes);
        writes.put(Slot(2), Entry::Accepted { ballot: BALLOT, value: Value::no_op() });
        writes.then(Consequence::Send { to: NodeId(2), body: accepted(BALLOT, 2) });
        writes.pop_due().expect("the first is durable");
        let mut last = Slot(1);
        writes.extend_acceptance(NodeId(2), BALLOT, &mut last);
        assert_eq!((last, writes.waiting.len()), (Slot(1), 1));
        make_durable(&mut writes);
        assert!(writes.pop_due().is_some() && writes.pop_due().is_none());
    }

    #[test]
    fn the_same_answer_waits_only_once() {
        let mut writes = Writes::default();
        writes.put_hard_state();
        let promise =
            |ballot, first, rest| Body::Promise { ballot, first: Slot(first), reports: vec![], rest };
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
        for (to, body) in answers {
            writes.then_once(to, body);
        }
        assert_eq!(writes.waiting.len(), 6);
    }
}
