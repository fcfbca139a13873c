//! What a leader has proposed and does not know to be chosen yet, slot by slot.
//!
//! Slots are counted as chosen only in order: a membership that is chosen before a slot ends the slot's
//! epoch. So a slot that a quorum has accepted waits here for those before it.

use std::collections::VecDeque;

use crate::id::Slot;
use crate::membership::{MemberIndex, MemberSet};
use crate::mutant::{Mutant, mutated};
use crate::value::Value;

/// The slots from the first one that is not known to be chosen to the last one in which a value is proposed.
/// As bounded as the part of the log that is not chosen: by the window, or by what a new leader found.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    /// The slot of the first of `slots`. It only grows.
    first: Slot,
    slots: VecDeque<State>,
    /// How many of `slots` hold a proposal, and how many bytes and commands are in their values.
    proposals: usize,
    bytes: usize,
    commands: usize,
}

#[derive(Debug)]
enum State {
    /// Nothing is proposed here: the value was known to be chosen before.
    Empty,
    Proposed(Proposal),
    /// A quorum has accepted the proposal, while a slot before it is still in flight.
    Accepted,
}

/// A proposal that no quorum is known to have accepted.
#[derive(Debug)]
pub(super) struct Proposal {
    pub(super) accepted_by: MemberSet,
    size_bytes: usize,
    commands: usize,
    pub(super) sent_at_ticks: u64,
}

impl InFlight {
    /// Adds a proposal of `value`, behind all others.
    pub(super) fn put(&mut self, slot: Slot, value: &Value, now_ticks: u64) {
        let end = self.first.advanced_by(self.slots.len() as u64);
        assert!(slot >= end, "one value is proposed for each ballot and slot, in ascending order of slots");
        if self.slots.is_empty() {
            self.first = slot;
        } else {
            (end.0..slot.0).for_each(|_| self.slots.push_back(State::Empty));
        }
        let proposal = Proposal {
            accepted_by: MemberSet::default(),
            size_bytes: value.size_bytes(),
            commands: value.commands().count(),
            sent_at_ticks: now_ticks,
        };
        self.proposals += 1;
        self.bytes += proposal.size_bytes;
        self.commands += proposal.commands;
        self.slots.push_back(State::Proposed(proposal));
    }

    /// Notes that `member` has accepted the proposals in all slots of `first..=last`; `is_quorum` tells which
    /// members are enough to have a value chosen.
    pub(super) fn accept(
        &mut self,
        member: MemberIndex,
        first: Slot,
        last: Slot,
        is_quorum: impl Fn(MemberSet) -> bool,
    ) {
        for position in self.position(first)..self.position(last.next()) {
            let state = &mut self.slots[position];
            let State::Proposed(proposal) = state else { continue };
            proposal.accepted_by.insert(member);
            if is_quorum(proposal.accepted_by) {
                self.proposals -= 1;
                self.bytes -= proposal.size_bytes;
                self.commands -= proposal.commands;
                *state = State::Accepted;
            }
        }
    }

    /// Takes out the slot behind `chosen` if a quorum has accepted its value: it is chosen then, as all slots
    /// through `chosen` are.
    pub(super) fn take_chosen(&mut self, chosen: Slot) -> Option<Slot> {
        if mutated(Mutant::ChosenAheadOfMembership) {
            return self.take_accepted_ahead();
        }
        while self.first <= chosen {
            self.pop_first()?;
        }
        let is_chosen = self.first == chosen.next() && matches!(self.slots.front(), Some(State::Accepted));
        is_chosen.then(|| self.pop_first()).flatten()
    }

    /// For a mutant: takes out the first slot that a quorum has accepted.
    fn take_accepted_ahead(&mut self) -> Option<Slot> {
        let position = self.slots.iter().position(|state| matches!(state, State::Accepted))?;
        self.slots[position] = State::Empty;
        Some(self.first.advanced_by(position as u64))
    }

    /// The first slot, which is known to be chosen and no longer in flight.
    fn pop_first(&mut self) -> Option<Slot> {
        if let State::Proposed(proposal) = self.slots.pop_front()? {
            self.proposals -= 1;
            self.bytes -= proposal.size_bytes;
            self.commands -= proposal.commands;
        }
        let slot = self.first;
        self.first = slot.next();
        Some(slot)
    }

    /// Gives unused memory back.
    pub(super) fn give_back_memory(&mut self) {
        if self.slots.is_empty() {
            self.slots = VecDeque::new();
        }
    }

    /// The proposals that no quorum is known to have accepted, in ascending order of slots.
    pub(super) fn proposals_mut(&mut self) -> impl Iterator<Item = (Slot, &mut Proposal)> {
        let slots = (self.first.0..).map(Slot);
        slots.zip(&mut self.slots).filter_map(|(slot, state)| match state {
            State::Proposed(proposal) => Some((slot, proposal)),
            State::Empty | State::Accepted => None,
        })
    }

    /// Whether a quorum has accepted all that is proposed.
    pub(super) fn is_empty(&self) -> bool {
        self.proposals == 0
    }

    /// How many bytes the values have that no quorum is known to have accepted.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many commands are in these values.
    pub(super) fn commands(&self) -> usize {
        self.commands
    }

    /// Where `slot` is among `slots`: the first or the end if it lies before or behind them.
    fn position(&self, slot: Slot) -> usize {
        let position = slot.0.saturating_sub(self.first.0);
        usize::try_from(position).map_or(self.slots.len(), |position| position.min(self.slots.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::NodeId;
    use crate::membership::Membership;
    use bytes::Bytes;

    /// Proposals of one command each in these slots.
    fn in_flight(slots: &[u64]) -> InFlight {
        let mut in_flight = InFlight::default();
        for &slot in slots {
            in_flight.put(Slot(slot), &Value::batch(&[Bytes::from_static(b"command")]), 0);
        }
        in_flight
    }

    /// Has node 1 of three accept, which is enough here if `is_enough`.
    fn accept(in_flight: &mut InFlight, first: u64, last: u64, is_enough: bool) {
        let membership = Membership::of_three();
        let member = membership.member_map().index_of(NodeId(1)).expect("node 1 is a member");
        in_flight.accept(member, Slot(first), Slot(last), |_| is_enough);
    }

    fn take_all(in_flight: &mut InFlight, mut chosen: u64) -> Vec<u64> {
        std::iter::from_fn(|| {
            let slot = in_flight.take_chosen(Slot(chosen))?.0;
            chosen = slot;
            Some(slot)
        })
        .collect()
    }

    fn slots(in_flight: &mut InFlight) -> Vec<u64> {
        in_flight.proposals_mut().map(|(slot, _)| slot.0).collect()
    }

    #[test]
    fn slots_are_chosen_in_order_however_they_are_accepted() {
        let mut in_flight = in_flight(&[4, 5, 6, 7]);
        accept(&mut in_flight, 5, 6, true);
        assert_eq!(take_all(&mut in_flight, 3), [0; 0], "slot 4 is in flight");
        assert_eq!(slots(&mut in_flight), [4, 7]);
        accept(&mut in_flight, 4, 4, true);
        assert_eq!(take_all(&mut in_flight, 3), [4, 5, 6]);
        assert_eq!(slots(&mut in_flight), [7]);
    }

    #[test]
    fn an_acceptance_is_counted_where_something_is_proposed_and_nowhere_else() {
        let mut in_flight = in_flight(&[4, 6]);
        accept(&mut in_flight, 1, u64::MAX, false);
        assert!(in_flight.proposals_mut().all(|(_, proposal)| proposal.accepted_by != MemberSet::default()));
        for (first, last) in [(0, 3), (5, 5), (7, 9), (u64::MAX, u64::MAX)] {
            accept(&mut in_flight, first, last, true);
            assert_eq!(slots(&mut in_flight), [4, 6], "slots {first}..={last} hold no proposal");
        }
        accept(&mut in_flight, 0, u64::MAX, true);
        assert!(in_flight.is_empty());
        assert_eq!(take_all(&mut in_flight, 3), [4]);
        assert_eq!(take_all(&mut in_flight, 5), [6], "slot 5 was chosen before");
    }

    #[test]
    fn what_was_accepted_is_in_flight_no_longer() {
        let mut in_flight = in_flight(&[1, 2, 3]);
        assert_eq!((in_flight.bytes(), in_flight.commands()), (3 * 11, 3));
        accept(&mut in_flight, 2, 3, true);
        assert_eq!((in_flight.bytes(), in_flight.commands(), in_flight.is_empty()), (11, 1, false));
        assert_eq!(take_all(&mut in_flight, 1), [2, 3], "slot 1 is known to be chosen from elsewhere");
        assert_eq!((in_flight.bytes(), in_flight.commands(), in_flight.is_empty()), (0, 0, true));
    }

    #[test]
    #[should_panic(expected = "one value is proposed for each ballot and slot")]
    fn no_second_value_is_proposed_in_a_slot() {
        in_flight(&[4, 5, 5]);
    }

    #[test]
    #[should_panic(expected = "one value is proposed for each ballot and slot")]
    fn not_even_if_the_first_one_is_chosen() {
        let mut in_flight = in_flight(&[4]);
        accept(&mut in_flight, 4, 4, true);
        assert_eq!(take_all(&mut in_flight, 3), [4]);
        in_flight.put(Slot(4), &Value::no_op(), 0);
    }
}
