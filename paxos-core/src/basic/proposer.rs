//! Phases 1a and 2a, and learning that the value is chosen.

use std::collections::BTreeSet;

use super::{Accepted, Promise, Proposal, Reject, Unstored};
use crate::id::{Ballot, NodeId};
use crate::quorum::Quorums;

/// Higher rounds are ignored when a peer reports them: so enough rounds are left for every attempt that this
/// node will ever make, and no peer can use them up.
const MAX_HEARD_ROUND: u64 = u64::MAX / 2;

/// A proposer of one instance: what lasts from one attempt to the next.
///
/// Not to be cloned: two proposers under one name would use the same ballots.
#[derive(Debug)]
pub struct Proposer {
    node: NodeId,
    quorums: Quorums,
    /// The highest ballot that it has used, as stored.
    attempted: Ballot,
    /// The highest ballot of others that it has heard of.
    heard: Ballot,
}

impl Proposer {
    /// A proposer that never proposed anything, under a name that is new: one that ever started must
    /// [recover](Proposer::recover) its last ballot.
    ///
    /// `quorums` says how many acceptors must answer. Pass on the answers of exactly the acceptors that it
    /// was built for.
    #[must_use]
    pub fn new(node: NodeId, quorums: Quorums) -> Proposer {
        Proposer::recover(node, quorums, Ballot::ZERO)
    }

    /// The proposer after a restart, from the last record that was stored.
    #[must_use]
    pub fn recover(node: NodeId, quorums: Quorums, attempted: Ballot) -> Proposer {
        Proposer { node, quorums, attempted, heard: Ballot::ZERO }
    }

    /// Phase 1a (section 2.2): "A proposer selects a proposal number n", to send it to the acceptors. The
    /// number is above all that this proposer has used and heard of.
    ///
    /// Its record is that number. Section 2.5: a proposer remembers the highest number it has tried, or it
    /// would use it a second time after a restart.
    ///
    /// An attempt that goes on beside the new one does no harm, but it is bound to fail once enough acceptors
    /// have heard of the new one; drop it.
    ///
    /// # Panics
    ///
    /// If all rounds are used up, after 2^63 attempts.
    pub fn start<V>(&mut self, value: V) -> Unstored<'_, Ballot, Preparing<V>> {
        let ballot = self.attempted.max(self.heard).successor_for(self.node);
        assert!(ballot > self.attempted, "a ballot is never used twice");
        let preparing =
            Preparing { ballot, quorums: self.quorums, promised: BTreeSet::new(), highest: None, own: value };
        Unstored { memory: &mut self.attempted, record: ballot, message: preparing }
    }

    /// Learns that an acceptor has promised a higher ballot: the next [start](Proposer::start) will go above.
    pub fn on_reject(&mut self, reject: Reject) {
        if reject.promised.round <= MAX_HEARD_ROUND {
            self.heard = self.heard.max(reject.promised);
        }
    }
}

/// An attempt in phase 1: it asks for promises.
///
/// It is used up by its proposal, as two under one ballot would be two values under one number:
///
/// ```compile_fail,E0382
/// # use paxos_core::{NodeId, Quorums, basic::Proposer};
/// let preparing = Proposer::new(NodeId(1), Quorums::majority(3)).start("blue").stored();
/// let proposing = preparing.propose();
/// let another = preparing.propose();
/// ```
#[derive(Debug)]
pub struct Preparing<V> {
    ballot: Ballot,
    quorums: Quorums,
    /// The acceptors that have promised.
    promised: BTreeSet<NodeId>,
    /// The highest-numbered proposal that they have reported.
    highest: Option<Proposal<V>>,
    own: V,
}

impl<V> Preparing<V> {
    /// The number of this attempt: its prepare request.
    #[must_use]
    pub fn ballot(&self) -> Ballot {
        self.ballot
    }

    /// How many acceptors have promised.
    #[must_use]
    pub fn promises(&self) -> usize {
        self.promised.len()
    }

    /// The answer of one acceptor to the prepare request (phase 1b). Answers that come twice, or late to an
    /// attempt before this one, do not count.
    pub fn on_promise(&mut self, from: NodeId, promise: Promise<V>) {
        if promise.ballot != self.ballot || !self.promised.insert(from) {
            return;
        }
        let number = |proposal: &Option<Proposal<V>>| proposal.as_ref().map(|proposal| proposal.ballot);
        if number(&promise.accepted) > number(&self.highest) {
            self.highest = promise.accepted;
        }
    }

    /// Phase 2a (section 2.2): with promises of a quorum, proposes "the value of the highest-numbered
    /// proposal among the responses", or its own if they reported none. This is P2c.
    ///
    /// # Errors
    ///
    /// Itself, unchanged, as long as no quorum has promised.
    pub fn propose(self) -> Result<Proposing<V>, Preparing<V>> {
        if !self.quorums.enough_promises(self.promised.len()) {
            return Err(self);
        }
        let value = self.highest.map_or(self.own, |proposal| proposal.value);
        let proposal = Proposal { ballot: self.ballot, value };
        Ok(Proposing { proposal, quorums: self.quorums, accepted: BTreeSet::new() })
    }
}

/// An attempt in phase 2: it asks for its proposal to be accepted.
#[derive(Debug)]
pub struct Proposing<V> {
    proposal: Proposal<V>,
    quorums: Quorums,
    /// The acceptors that have accepted.
    accepted: BTreeSet<NodeId>,
}

impl<V> Proposing<V> {
    /// The proposal: its accept request. It may go to any acceptors, not only to those that promised.
    #[must_use]
    pub fn proposal(&self) -> &Proposal<V> {
        &self.proposal
    }

    /// The answer of one acceptor to the accept request (phase 2b). Answers that come twice, or late to an
    /// attempt before this one, do not count.
    pub fn on_accepted(&mut self, from: NodeId, accepted: Accepted) {
        if accepted.ballot == self.proposal.ballot {
            self.accepted.insert(from);
        }
    }

    /// The chosen value, once a quorum is known to have accepted the proposal. Final.
    ///
    /// That is how a learner learns it, too (section 2.3); the caller decides which learners to inform.
    #[must_use]
    pub fn chosen(&self) -> Option<&V> {
        self.quorums.enough_acceptances(self.accepted.len()).then_some(&self.proposal.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proposer() -> Proposer {
        Proposer::new(NodeId(2), Quorums::majority(5))
    }

    fn ballot(round: u64, node: u64) -> Ballot {
        Ballot { round, node: NodeId(node) }
    }

    fn promise(ballot: Ballot, accepted: Option<(Ballot, &'static str)>) -> Promise<&'static str> {
        Promise { ballot, accepted: accepted.map(|(ballot, value)| Proposal { ballot, value }) }
    }

    #[test]
    fn a_ballot_is_never_used_twice() {
        let mut proposer = proposer();
        assert_eq!(proposer.start("a").stored().ballot(), ballot(1, 2));
        assert_eq!(proposer.start("a").stored().ballot(), ballot(2, 2));
        let stored = *proposer.start("a").record();
        let mut restarted = Proposer::recover(NodeId(2), Quorums::majority(5), stored);
        assert_eq!(restarted.start("a").stored().ballot(), ballot(4, 2));
    }

    #[test]
    fn the_next_attempt_goes_above_the_ballot_that_stood_in_the_way() {
        let mut proposer = proposer();
        let attempted = proposer.start("a").stored().ballot();
        proposer.on_reject(Reject { ballot: attempted, promised: ballot(7, 3) });
        proposer.on_reject(Reject { ballot: attempted, promised: ballot(5, 4) });
        assert_eq!(proposer.start("a").stored().ballot(), ballot(8, 2));
    }

    #[test]
    fn no_peer_can_use_up_the_rounds() {
        let mut proposer = proposer();
        for round in [u64::MAX / 2, u64::MAX - 1, u64::MAX] {
            proposer.on_reject(Reject { ballot: ballot(1, 2), promised: ballot(round, 3) });
            let before = proposer.start("a").stored().ballot();
            assert!(proposer.start("a").stored().ballot() > before);
        }
    }

    #[test]
    fn the_highest_numbered_report_decides_the_value_whatever_the_order() {
        let reports = [Some((ballot(1, 9), "low")), None, Some((ballot(2, 1), "high"))];
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let mut proposer = Proposer::recover(NodeId(2), Quorums::majority(5), ballot(2, 2));
            let mut preparing = proposer.start("own").stored();
            for (node, report) in (1..).zip(order) {
                preparing.on_promise(NodeId(node), promise(ballot(3, 2), reports[report]));
            }
            let proposing = preparing.propose().expect("three of five have promised");
            assert_eq!(proposing.proposal(), &Proposal { ballot: ballot(3, 2), value: "high" }, "{order:?}");
        }
    }

    #[test]
    fn without_a_report_it_proposes_its_own_value() {
        let mut proposer = proposer();
        let mut preparing = proposer.start("own").stored();
        for node in 1..=3 {
            preparing.on_promise(NodeId(node), promise(ballot(1, 2), None));
        }
        assert_eq!(preparing.propose().expect("three of five have promised").proposal().value, "own");
    }

    #[test]
    fn promises_count_once_for_each_acceptor_and_only_for_this_attempt() {
        let mut proposer = proposer();
        let mut preparing = proposer.start("own").stored();
        preparing.on_promise(NodeId(1), promise(ballot(1, 2), None));
        preparing.on_promise(NodeId(1), promise(ballot(1, 2), None));
        preparing.on_promise(NodeId(2), promise(ballot(1, 2), None));
        preparing.on_promise(NodeId(3), promise(ballot(1, 1), Some((ballot(1, 1), "of another attempt"))));
        assert_eq!(preparing.promises(), 2);
        let mut preparing = preparing.propose().expect_err("two of five are no quorum");
        preparing.on_promise(NodeId(3), promise(ballot(1, 2), None));
        assert_eq!(preparing.propose().expect("three of five are one").proposal().value, "own");
    }

    #[test]
    fn acceptances_count_once_for_each_acceptor_and_only_for_this_attempt() {
        let quorums = Quorums::flexible(5, 4, 2).expect("4 + 2 > 5");
        let mut proposer = Proposer::new(NodeId(2), quorums);
        let mut preparing = proposer.start("own").stored();
        for node in 1..=4 {
            preparing = preparing.propose().expect_err("fewer than four have promised");
            preparing.on_promise(NodeId(node), promise(ballot(1, 2), None));
        }
        let mut proposing = preparing.propose().expect("four of five have promised");
        proposing.on_accepted(NodeId(1), Accepted { ballot: ballot(1, 2) });
        proposing.on_accepted(NodeId(1), Accepted { ballot: ballot(1, 2) });
        proposing.on_accepted(NodeId(5), Accepted { ballot: ballot(2, 2) });
        assert_eq!(proposing.chosen(), None);
        proposing.on_accepted(NodeId(5), Accepted { ballot: ballot(1, 2) });
        assert_eq!(proposing.chosen(), Some(&"own"));
    }
}
