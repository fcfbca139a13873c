//! How many members are enough. Every count of a quorum in this crate is made here.
//!
//! *Paxos Made Simple* uses majorities, of which any two intersect. The proof needs less: each phase 1 quorum
//! must intersect each phase 2 quorum (Howard, Malkhi and Spiegelman, *Flexible Paxos*, section 3), so
//! [`Quorums`] lets their sizes differ.

use crate::mutant::{Mutant, mutated};

/// How many members make a quorum of each phase.
///
/// Built only if any quorum of phase 1 intersects any of phase 2: that one acceptor in both is what keeps a
/// chosen value from being forgotten.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quorums {
    prepare: usize,
    accept: usize,
}

impl Quorums {
    /// More than half of `members`, in both phases.
    #[must_use]
    pub fn majority(members: usize) -> Quorums {
        Quorums { prepare: members / 2 + 1, accept: members / 2 + 1 }
    }

    /// `prepare` promises for phase 1 and `accept` acceptances for phase 2, out of `members`.
    ///
    /// Returns `None` unless `prepare + accept > members`, and both lie in `1..=members`.
    #[must_use]
    pub fn flexible(members: usize, prepare: usize, accept: usize) -> Option<Quorums> {
        let quorums = Quorums { prepare, accept };
        quorums.fit(members).then_some(quorums)
    }

    /// How many promises phase 1 needs.
    #[must_use]
    pub fn prepare(self) -> usize {
        self.prepare
    }

    /// How many acceptances make a value chosen.
    #[must_use]
    pub fn accept(self) -> usize {
        self.accept
    }

    /// Whether these are possible quorums of so many members, of which any two of different phases intersect.
    pub(crate) fn fit(self, members: usize) -> bool {
        let possible = 1..=members;
        possible.contains(&self.prepare)
            && possible.contains(&self.accept)
            && self.prepare + self.accept > members
    }

    /// Whether so many promises complete phase 1.
    pub(crate) fn enough_promises(self, promises: usize) -> bool {
        promises + usize::from(mutated(Mutant::PrepareQuorumOffByOne)) >= self.prepare
    }

    /// Whether so many acceptances under one ballot make a value chosen.
    pub(crate) fn enough_acceptances(self, acceptances: usize) -> bool {
        acceptances + usize::from(mutated(Mutant::AcceptQuorumOffByOne)) >= self.accept
    }

    /// Whether a leader that hears from so many members can have a value chosen.
    pub(crate) fn enough_for_a_leader(self, members: usize) -> bool {
        members >= self.accept
    }

    /// The greatest number that a phase 2 quorum has reached; `reached` has that of each voter.
    pub(crate) fn reached_by_quorum<T: Ord + Copy>(self, reached: &(impl Iterator<Item = T> + Clone)) -> T {
        let needed = self.accept - usize::from(mutated(Mutant::ReadQuorumOffByOne));
        // Voters are few: comparing each with each takes less than sorting a copy.
        let has_quorum = |number: &T| reached.clone().filter(|other| other >= number).count() >= needed;
        reached.clone().filter(has_quorum).max().expect("a quorum has no more members than there are voters")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_two_quorums_of_different_phases_intersect() {
        for members in 1..=9 {
            let majority = Quorums::majority(members);
            assert!(majority.prepare() + majority.accept() > members);
            for prepare in 0..=members + 1 {
                for accept in 0..=members + 1 {
                    if let Some(quorums) = Quorums::flexible(members, prepare, accept) {
                        assert!(quorums.prepare() + quorums.accept() > members);
                    }
                }
            }
        }
        assert_eq!(Quorums::flexible(4, 2, 2), None, "two halves need not meet");
        assert!(Quorums::flexible(5, 4, 2).is_some());
    }

    #[test]
    fn each_phase_needs_as_many_members_as_its_quorum_has() {
        let quorums = Quorums::flexible(5, 4, 2).expect("4 + 2 > 5");
        assert_eq!([3, 4, 5].map(|promises| quorums.enough_promises(promises)), [false, true, true]);
        assert_eq!([1, 2, 3].map(|accepted| quorums.enough_acceptances(accepted)), [false, true, true]);
        assert_eq!([1, 2, 3].map(|members| quorums.enough_for_a_leader(members)), [false, true, true]);
    }

    #[test]
    fn a_quorum_has_reached_what_all_of_its_members_have() {
        let reached_by = |quorums: Quorums| quorums.reached_by_quorum(&[7, 9, 3, 8].into_iter());
        assert_eq!(reached_by(Quorums::majority(4)), 7);
        assert_eq!(Quorums::flexible(4, 3, 2).map(reached_by), Some(8));
    }
}
