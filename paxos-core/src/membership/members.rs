//! Members by index: sets of them, and one value for each. An index exists only inside a replica, and only in
//! one epoch.

use crate::id::NodeId;
use crate::membership::MAX_MEMBERS;
use crate::mutant::{Mutant, mutated};

/// The members of a configuration in ascending order. Each has an index that exists only inside this replica.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Members {
    ids: Vec<NodeId>,
    voters: MemberSet,
}

/// The position of a member in [`Members`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct MemberIndex(usize);

impl Members {
    /// Members in ascending order, each with whether it votes. The caller has checked that there are no
    /// doubles, and no more than [`MAX_MEMBERS`].
    pub(crate) fn new(members: impl IntoIterator<Item = (NodeId, bool)>) -> Members {
        let (mut ids, mut voters) = (Vec::new(), MemberSet::default());
        for (index, (id, votes)) in members.into_iter().enumerate() {
            ids.push(id);
            if votes {
                voters.insert(MemberIndex(index));
            }
        }
        assert!(ids.is_sorted() && ids.len() <= MAX_MEMBERS, "members are sorted, and {MAX_MEMBERS} at most");
        Members { ids, voters }
    }

    pub(crate) fn is_voter(&self, index: MemberIndex) -> bool {
        self.voters.contains(index)
    }

    /// How many of `set` vote. Everything that decides a quorum is counted here.
    pub(crate) fn votes(&self, set: MemberSet) -> usize {
        if mutated(Mutant::LearnerCounted) { set.len() } else { set.and(self.voters).len() }
    }

    /// The indices of all voters.
    pub(crate) fn voters(&self) -> impl Iterator<Item = MemberIndex> + Clone + use<> {
        let voters = self.voters;
        self.indices().filter(move |&index| voters.contains(index) || mutated(Mutant::LearnerCounted))
    }

    pub(crate) fn index_of(&self, node: NodeId) -> Option<MemberIndex> {
        if mutated(Mutant::NodeIdsAsIndices) {
            return usize::try_from(node.0.checked_sub(1)?).ok().map(MemberIndex);
        }
        // Members are few: that is faster than a binary search.
        self.ids.iter().position(|&id| id == node).map(MemberIndex)
    }

    pub(crate) fn id(&self, index: MemberIndex) -> NodeId {
        self.ids[index.0]
    }

    pub(crate) fn ids(&self) -> &[NodeId] {
        &self.ids
    }

    pub(crate) fn indices(&self) -> impl Iterator<Item = MemberIndex> + Clone + use<> {
        (0..self.ids.len()).map(MemberIndex)
    }

    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }
}

/// One `T` for each member.
#[derive(Clone, Debug)]
pub(crate) struct PerMember<T>(Vec<T>);

impl<T: Clone> PerMember<T> {
    pub(crate) fn new(members: &Members, initial: T) -> Self {
        PerMember(vec![initial; members.len()])
    }
}

impl<T> PerMember<T> {
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
    /// Adds a member. One that is in the set already is not counted again.
    pub(crate) fn insert(&mut self, index: MemberIndex) {
        if self.contains(index) && mutated(Mutant::AcceptedCountsTwice) {
            self.0 |= self.0 + 1; // as if another member had answered
        }
        self.0 |= 1 << index.0;
    }

    /// Adds a member, if there is one.
    pub(crate) fn extend(&mut self, index: Option<MemberIndex>) {
        if let Some(index) = index {
            self.insert(index);
        }
    }

    pub(crate) fn contains(self, index: MemberIndex) -> bool {
        self.0 & (1 << index.0) != 0
    }

    pub(crate) fn and(self, other: MemberSet) -> MemberSet {
        MemberSet(self.0 & other.0)
    }

    fn len(self) -> usize {
        self.0.count_ones() as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_names_and_not_indices() {
        let members =
            Members::new([(3, true), (70, false), (1000, true)].map(|(id, votes)| (NodeId(id), votes)));
        assert_eq!(members.index_of(NodeId(1000)), Some(MemberIndex(2)));
        assert_eq!(members.index_of(NodeId(2)), None);
        let mut set = MemberSet::default();
        set.insert(MemberIndex(2));
        set.insert(MemberIndex(2));
        assert_eq!((set.len(), set.contains(MemberIndex(2)), set.contains(MemberIndex(0))), (1, true, false));
        set.insert(MemberIndex(1));
        assert_eq!((set.len(), members.votes(set)), (2, 1), "member 70 learns, and has no vote");
        assert_eq!(members.voters().collect::<Vec<_>>(), [MemberIndex(0), MemberIndex(2)]);
    }
}
