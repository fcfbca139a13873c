//! How much the log grows between two snapshots of a node.
//!
//! All members apply the same values. If their intervals began together, all would write their snapshots at
//! the same time, and each quorum would wait for a busy disk. So the members take turns: while one that comes
//! later in the order of ids is half-way through its interval, an earlier one begins it. That is aimed at,
//! not guaranteed: a restart or the snapshot of a peer moves a member within its interval.

use paxos_core::{Membership, NodeId};

/// The log may grow by one part of that many of the last snapshot until the next one: it is in memory until
/// then, so state and log take a third more than the state. Snapshots cost twice the writing that the log
/// does.
const LOG_PARTS_OF_SNAPSHOT: u64 = 2;

/// How much the log may grow until the next snapshot.
#[derive(Debug)]
pub(crate) struct SnapshotInterval {
    turn: Turn,
    min_bytes: u64,
    max_bytes: u64,
    /// How much it may grow as a rule.
    whole_bytes: u64,
    /// How much it may grow this time.
    present_bytes: u64,
}

/// A member's place among those that take turns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Turn {
    /// How many come first.
    before: u64,
    members: u64,
}

impl Turn {
    pub(crate) fn of(node: NodeId, membership: &Membership) -> Turn {
        let count = |is_counted: &dyn Fn(NodeId) -> bool| {
            membership.members().iter().filter(|member| is_counted(**member)).count() as u64
        };
        Turn { before: count(&|member| member < node), members: count(&|_| true).max(1) }
    }
}

impl SnapshotInterval {
    /// An interval of at least and at most this much, behind a snapshot of this size.
    pub(crate) fn new(turn: Turn, min_bytes: u64, max_bytes: u64, last_snapshot_bytes: u64) -> Self {
        let mut interval = SnapshotInterval { turn, min_bytes, max_bytes, whole_bytes: 0, present_bytes: 0 };
        interval.begin(last_snapshot_bytes);
        interval
    }

    /// A new interval begins, behind a snapshot of this size.
    pub(crate) fn begin(&mut self, last_snapshot_bytes: u64) {
        let grown_with_state = (last_snapshot_bytes / LOG_PARTS_OF_SNAPSHOT).min(self.max_bytes);
        let whole_bytes = self.min_bytes.max(grown_with_state);
        // The first interval is the shorter the later a member's turn is; that puts it ahead of the others.
        // When intervals become longer, so does the part by which it is ahead.
        let ahead = |whole_bytes: u64| whole_bytes / self.turn.members * self.turn.before;
        let more_ahead = ahead(whole_bytes).saturating_sub(ahead(self.whole_bytes));
        let less_ahead = ahead(self.whole_bytes).saturating_sub(ahead(whole_bytes));
        self.present_bytes = (whole_bytes + less_ahead - more_ahead).min(self.max_bytes.max(self.min_bytes));
        self.whole_bytes = whole_bytes;
    }

    pub(crate) fn is_over(&self, grown_bytes: u64) -> bool {
        grown_bytes >= self.present_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN_BYTES: u64 = 3_000;
    const MAX_BYTES: u64 = 3_000_000;

    fn intervals() -> Vec<SnapshotInterval> {
        let membership = Membership::new(&[NodeId(4), NodeId(7), NodeId(9)]).expect("three members");
        let of = |node: &NodeId| SnapshotInterval::new(Turn::of(*node, &membership), MIN_BYTES, MAX_BYTES, 0);
        membership.members().iter().map(of).collect()
    }

    /// When each member begins its snapshots, in bytes of the log, if they have these sizes.
    fn begun(snapshot_bytes: &[u64]) -> Vec<Vec<u64>> {
        let until = |mut interval: SnapshotInterval| {
            let mut at = 0;
            let next = |size: &u64| {
                at += interval.present_bytes;
                assert!(
                    interval.is_over(interval.present_bytes) && !interval.is_over(interval.present_bytes - 1)
                );
                interval.begin(*size);
                at
            };
            snapshot_bytes.iter().map(next).collect()
        };
        intervals().into_iter().map(until).collect()
    }

    #[test]
    fn members_take_turns_and_still_do_when_the_state_has_grown_and_shrunk() {
        let equal = begun(&[0; 5]);
        assert_eq!(equal[0], [3_000, 6_000, 9_000, 12_000, 15_000]);
        assert_eq!(equal[1], [2_000, 5_000, 8_000, 11_000, 14_000]);
        assert_eq!(equal[2], [1_000, 4_000, 7_000, 10_000, 13_000]);
        for sizes in [[60_000; 5], [60_000, 600_000, 60_000_000, 60_000_000, 60_000], [60_000, 0, 0, 0, 0]] {
            let begun = begun(&sizes);
            let last = |member: usize| begun[member][4];
            let whole = begun[0][4] - begun[0][3];
            assert_eq!([last(0) - last(1), last(0) - last(2)], [whole / 3, whole / 3 * 2], "{begun:?}");
        }
    }

    #[test]
    fn a_member_alone_has_whole_intervals() {
        let membership = Membership::new(&[NodeId(4)]).expect("one member");
        let turn = Turn::of(NodeId(4), &membership);
        let interval = SnapshotInterval::new(turn, MIN_BYTES, MAX_BYTES, 10_000);
        assert_eq!((interval.present_bytes, interval.whole_bytes), (5_000, 5_000));
        let most = SnapshotInterval::new(turn, MIN_BYTES, MAX_BYTES, u64::MAX);
        assert_eq!(most.present_bytes, MAX_BYTES);
    }
}
