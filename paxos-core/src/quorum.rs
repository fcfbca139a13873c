//! Who counts, and how many are enough.
//!
//! Everything that the protocol says about quorums is in this module. *Paxos Made Simple* uses majorities, of
//! which any two intersect. The proof needs less: each phase 1 quorum must intersect each phase 2 quorum
//! (Howard, Malkhi and Spiegelman, *Flexible Paxos*, section 3), so [`Quorums`] lets their sizes differ.

use crate::id::NodeId;
use crate::mutant::{Mutant, mutated};

/// The most members a configuration may have.
pub const MAX_MEMBERS: usize = 64;

/// The members of a configuration, each with an index that exists only inside of this replica.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Members(Vec<NodeId>);

/// The position of a member in [`Members`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct MemberIndex(usize);

impl Members {
    /// `ids` without doubles, which the caller has checked to be no more than [`MAX_MEMBERS`].
    pub(crate) fn new(mut ids: Vec<NodeId>) -> Members {
        ids.sort_unstable();
        assert!(ids.len() <= MAX_MEMBERS, "a configuration has at most {MAX_MEMBERS} members");
        Members(ids)
    }

    pub(crate) fn index_of(&self, node: NodeId) -> Option<MemberIndex> {
        if mutated(Mutant::NodeIdsAsIndices) {
            return usize::try_from(node.0.checked_sub(1)?).ok().map(MemberIndex);
        }
        self.0.binary_search(&node).ok().map(MemberIndex)
    }

    pub(crate) fn id(&self, index: MemberIndex) -> NodeId {
        self.0[index.0]
    }

    pub(crate) fn ids(&self) -> &[NodeId] {
        &self.0
    }

    pub(crate) fn indices(&self) -> impl Iterator<Item = MemberIndex> + use<> {
        (0..self.0.len()).map(MemberIndex)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// One `T` for each member.
#[derive(Clone, Debug)]
pub(crate) struct PerMember<T>(Vec<T>);

impl<T: Clone> PerMember<T> {
    pub(crate) fn new(members: &Members, initial: T) -> Self {
        PerMember(vec![initial; members.len()])
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, T> {
        self.0.iter()
    }
}

impl<T> std::ops::Index<MemberIndex> for PerMember<T> {
    type Output = T;

    fn index(&self, index: MemberIndex) -> &T {
        &self.0[index.0]
    }
}

impl<T> std::ops::IndexMut<MemberIndex> for PerMember<T> {
    fn index_mut(&mut self, index: MemberIndex) -> &mut T {
        &mut self.0[index.0]
    }
}

/// A set of members.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct MemberSet(u64);

impl MemberSet {
    pub(crate) fn insert(&mut self, index: MemberIndex) {
        self.0 |= 1 << index.0;
    }

    pub(crate) fn contains(self, index: MemberIndex) -> bool {
        self.0 & (1 << index.0) != 0
    }

    pub(crate) fn len(self) -> usize {
        self.0.count_ones() as usize
    }
}

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
        let possible = 1..=members;
        let intersect = prepare + accept > members;
        (possible.contains(&prepare) && possible.contains(&accept) && intersect)
            .then_some(Quorums { prepare, accept })
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
    fn ids_are_names_and_not_indices() {
        let members = Members::new(vec![NodeId(70), NodeId(3), NodeId(1000)]);
        assert_eq!(members.index_of(NodeId(1000)), Some(MemberIndex(2)));
        assert_eq!(members.index_of(NodeId(2)), None);
        let mut set = MemberSet::default();
        set.insert(MemberIndex(2));
        set.insert(MemberIndex(2));
        assert_eq!((set.len(), set.contains(MemberIndex(2)), set.contains(MemberIndex(0))), (1, true, false));
    }
}
