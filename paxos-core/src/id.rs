//! The names of things: groups, nodes, slots, ballots and configuration epochs.
//!
//! Each is a type of its own, so that the compiler refuses a slot where a round was meant. All of them are
//! totally ordered; the protocol depends on that order and on equality alone.

use std::fmt;

/// One log with the replicas that agree on it, where a cluster has several.
///
/// There is one so far, [`GroupId::ONLY`]. Messages and logs have a place for the number, and what is of
/// another group is refused, so that programs that know several can tell theirs apart. A number is never used
/// again for another group.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct GroupId(pub u64);

impl GroupId {
    /// The group of a cluster that has one. Where a number is left out, this is meant.
    pub const ONLY: GroupId = GroupId(0);
}

impl fmt::Display for GroupId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// A member of the cluster: a proposer, acceptor and learner in one.
///
/// Ids are names, never indices: they need not be dense. `0` is no node; only [`Ballot::ZERO`] holds it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct NodeId(pub u64);

impl fmt::Display for NodeId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// The number of one instance of the consensus algorithm (*Paxos Made Simple*, section 3): the position of a
/// value in the replicated log.
///
/// The first slot is 1. [`Slot::ZERO`] holds no value; as a watermark it means "nothing yet".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Slot(pub u64);

impl Slot {
    /// Before the first slot.
    pub const ZERO: Slot = Slot(0);
    /// The first slot that holds a value.
    pub const FIRST: Slot = Slot(1);

    /// The slot after this one.
    ///
    /// Saturates at the last slot: at a billion slots a second that is reached after five centuries.
    #[must_use]
    pub fn next(self) -> Slot {
        Slot(self.0.saturating_add(1))
    }

    /// The slot before this one; [`Slot::ZERO`] stays where it is.
    #[must_use]
    pub fn previous(self) -> Slot {
        Slot(self.0.saturating_sub(1))
    }

    /// This slot moved up by `count`, saturating.
    #[must_use]
    pub fn advanced_by(self, count: u64) -> Slot {
        Slot(self.0.saturating_add(count))
    }

    /// How many slots lie in `self..=last`; zero if `last` is before `self`.
    #[must_use]
    pub fn count_through(self, last: Slot) -> u64 {
        last.0.saturating_add(1).saturating_sub(self.0)
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// A ballot: what *Paxos Made Simple* calls a proposal number.
///
/// "Different proposals have different numbers" (section 2.2): two nodes never share a ballot because the
/// node is part of it, and a node never uses one twice because it persists its promise to it before the first
/// prepare leaves. Ballots compare by round first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Ballot {
    /// Counts the attempts to lead, of all nodes together.
    pub round: u64,
    /// The node whose proposals carry this ballot.
    pub node: NodeId,
}

impl Ballot {
    /// Below every ballot that a proposer uses: the promise of an acceptor that has promised nothing.
    pub const ZERO: Ballot = Ballot { round: 0, node: NodeId(0) };

    /// The lowest ballot of `node` that is above this one.
    #[must_use]
    pub fn successor_for(self, node: NodeId) -> Ballot {
        Ballot { round: self.round.saturating_add(1), node }
    }
}

impl fmt::Display for Ballot {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.round, self.node)
    }
}

/// The number of a cluster configuration. Every message carries it. Votes of another epoch are ignored: their
/// sender counts quorums among other members.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The epoch after this one.
    #[must_use]
    pub fn next(self) -> Epoch {
        Epoch(self.0.saturating_add(1))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shown_as_the_numbers_that_they_are() {
        let ballot = Ballot { round: 7, node: NodeId(3) };
        assert_eq!(format!("{} {} {ballot} {}", NodeId(1), Slot(2), Epoch(4)), "1 2 7.3 4");
        assert_eq!(GroupId::ONLY.to_string(), "0");
    }

    #[test]
    fn slots_are_counted_with_both_ends_and_stop_at_theirs() {
        assert_eq!((Slot(3).previous(), Slot::ZERO.previous()), (Slot(2), Slot::ZERO));
        assert_eq!((Slot(3).next(), Slot(u64::MAX).next()), (Slot(4), Slot(u64::MAX)));
        assert_eq!(Slot(3).advanced_by(4), Slot(7));
        assert_eq!([2, 3, 5].map(|last| Slot(3).count_through(Slot(last))), [0, 1, 3]);
    }

    #[test]
    fn a_successor_is_above_every_ballot_of_the_round_before() {
        let highest = Ballot { round: 1, node: NodeId(u64::MAX) };
        assert!(highest.successor_for(NodeId(1)) > highest);
    }
}
