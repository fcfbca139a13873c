//! Phases 1b and 2b.

use super::{Accepted, Promise, Proposal, Reject, Unstored};
use crate::id::Ballot;

/// What an acceptor must never forget: its record in stable storage.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AcceptorState<V> {
    /// No proposal below this ballot will be accepted any more.
    pub promised: Ballot,
    /// The highest-numbered proposal that was accepted.
    pub accepted: Option<Proposal<V>>,
}

/// The acceptor of one instance.
///
/// Not to be cloned: two acceptors under one name could promise one thing and accept another.
#[derive(Debug)]
pub struct Acceptor<V> {
    state: AcceptorState<V>,
}

impl<V> Default for Acceptor<V> {
    fn default() -> Self {
        Acceptor::new()
    }
}

impl<V> Acceptor<V> {
    /// An acceptor that has promised nothing, under a name that is new: one that ever answered must
    /// [recover](Acceptor::recover) its record.
    #[must_use]
    pub fn new() -> Acceptor<V> {
        Acceptor { state: AcceptorState { promised: Ballot::ZERO, accepted: None } }
    }

    /// The acceptor after a restart, from the last record that was stored.
    #[must_use]
    pub fn recover(state: AcceptorState<V>) -> Acceptor<V> {
        // Promising more than was promised is always safe, so a record with too low a promise does no harm.
        let accepted = state.accepted.as_ref().map_or(Ballot::ZERO, |proposal| proposal.ballot);
        Acceptor { state: AcceptorState { promised: state.promised.max(accepted), ..state } }
    }

    /// What it remembers, as it was last stored.
    #[must_use]
    pub fn state(&self) -> &AcceptorState<V> {
        &self.state
    }
}

impl<V: Clone> Acceptor<V> {
    /// Phase 1b (section 2.2): answers a prepare request "with a promise not to accept any more proposals
    /// numbered less than n", and with the highest-numbered proposal accepted so far.
    ///
    /// The prepare of the promised ballot itself is answered again: the answer may have been lost, and
    /// repeating it promises nothing new.
    ///
    /// # Errors
    ///
    /// [`Reject`] if a higher ballot is promised.
    pub fn on_prepare(
        &mut self,
        ballot: Ballot,
    ) -> Result<Unstored<'_, AcceptorState<V>, Promise<V>>, Reject> {
        self.reject_below_promise(ballot)?;
        let accepted = self.state.accepted.clone();
        let record = AcceptorState { promised: ballot, accepted: accepted.clone() };
        Ok(Unstored { memory: &mut self.state, record, message: Promise { ballot, accepted } })
    }

    /// Phase 2b (section 2.2): accepts the proposal "unless it has already responded to a prepare request
    /// having a number greater than n".
    ///
    /// An acceptance also counts as the promise of its ballot. The paper does not ask for that; it is safe,
    /// as promises only ever keep an acceptor from accepting, and it makes the last accepted proposal the
    /// highest-numbered one, which is the one to remember.
    ///
    /// # Errors
    ///
    /// [`Reject`] if a higher ballot is promised.
    pub fn on_accept(
        &mut self,
        proposal: Proposal<V>,
    ) -> Result<Unstored<'_, AcceptorState<V>, Accepted>, Reject> {
        let ballot = proposal.ballot;
        self.reject_below_promise(ballot)?;
        let record = AcceptorState { promised: ballot, accepted: Some(proposal) };
        Ok(Unstored { memory: &mut self.state, record, message: Accepted { ballot } })
    }

    /// The promise reported here needs no storing: it was stored before.
    fn reject_below_promise(&self, ballot: Ballot) -> Result<(), Reject> {
        let promised = self.state.promised;
        if ballot < promised { Err(Reject { ballot, promised }) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::NodeId;

    fn ballot(round: u64) -> Ballot {
        Ballot { round, node: NodeId(1) }
    }

    fn proposal(round: u64, value: &'static str) -> Proposal<&'static str> {
        Proposal { ballot: ballot(round), value }
    }

    /// Promised 5, after accepting 3.
    fn acceptor() -> Acceptor<&'static str> {
        let accepted = Some(proposal(3, "old"));
        Acceptor::recover(AcceptorState { promised: ballot(5), accepted })
    }

    #[test]
    fn a_lower_prepare_is_rejected() {
        let rejected = acceptor().on_prepare(ballot(4)).map(Unstored::stored);
        assert_eq!(rejected, Err(Reject { ballot: ballot(4), promised: ballot(5) }));
    }

    #[test]
    fn an_equal_or_higher_prepare_is_promised_and_told_what_was_accepted() {
        for round in [5, 6] {
            let mut acceptor = acceptor();
            let promise = acceptor.on_prepare(ballot(round)).map(Unstored::stored);
            let accepted = Some(proposal(3, "old"));
            assert_eq!(promise, Ok(Promise { ballot: ballot(round), accepted }));
            assert_eq!(acceptor.state(), &AcceptorState { promised: ballot(round), accepted });
        }
    }

    #[test]
    fn of_two_proposers_in_one_round_the_higher_node_is_the_later() {
        let mut acceptor = acceptor();
        let higher = Ballot { round: 5, node: NodeId(2) };
        assert!(acceptor.on_prepare(higher).map(Unstored::stored).is_ok());
        let rejected = acceptor.on_accept(proposal(5, "new")).map(Unstored::stored);
        assert_eq!(rejected, Err(Reject { ballot: ballot(5), promised: higher }));
    }

    #[test]
    fn a_lower_accept_is_rejected_even_above_the_accepted_proposal() {
        let mut acceptor = acceptor();
        let rejected = acceptor.on_accept(proposal(4, "new")).map(Unstored::stored);
        assert_eq!(rejected, Err(Reject { ballot: ballot(4), promised: ballot(5) }));
        assert_eq!(acceptor.state().accepted, Some(proposal(3, "old")));
    }

    #[test]
    fn an_accept_at_or_above_the_promise_is_taken_and_raises_it() {
        for round in [5, 6] {
            let mut acceptor = acceptor();
            let accepted = acceptor.on_accept(proposal(round, "new")).map(Unstored::stored);
            assert_eq!(accepted, Ok(Accepted { ballot: ballot(round) }));
            let accepted = Some(proposal(round, "new"));
            assert_eq!(acceptor.state(), &AcceptorState { promised: ballot(round), accepted });
            assert!(acceptor.on_accept(proposal(round - 1, "late")).is_err(), "nothing below comes after");
            assert!(acceptor.on_accept(proposal(round, "new")).is_ok(), "the same is answered again");
        }
    }

    #[test]
    fn what_is_not_stored_did_not_happen() {
        let mut acceptor = acceptor();
        let before = *acceptor.state();
        let unstored = acceptor.on_accept(proposal(7, "new")).expect("7 is above 5");
        assert_eq!(unstored.record().accepted, Some(proposal(7, "new")));
        drop(unstored);
        drop(acceptor.on_prepare(ballot(8)).expect("8 is above 5"));
        assert_eq!(acceptor.state(), &before);
    }

    #[test]
    fn a_record_with_too_low_a_promise_is_mended() {
        let acceptor =
            Acceptor::recover(AcceptorState { promised: ballot(2), accepted: Some(proposal(3, "old")) });
        assert_eq!(acceptor.state().promised, ballot(3));
    }
}
