//! Snapshots: equal on all nodes, and with the membership of their slot.

use super::Observer;
use crate::SnapshotMeta;
use crate::sim::rule::Rule;

impl Observer {
    /// A snapshot has been taken. `is_equal` says whether equal states have equal snapshots.
    pub(in crate::sim) fn on_snapshot(&mut self, node: usize, meta: &SnapshotMeta, is_equal: bool) {
        let SnapshotMeta { slot, checksum, .. } = *meta;
        self.check_snapshot(node, meta);
        if !is_equal {
            return;
        }
        let first = *self.snapshots.entry(slot).or_insert(checksum);
        self.check(first == checksum, Rule::SnapshotIsState, || {
            format!("the snapshot of slot {slot} by node #{node} differs from that of another")
        });
    }

    /// A snapshot is on a disk, whose slots before it may be gone.
    pub(in crate::sim) fn on_snapshot_stored(&mut self, node: usize, meta: &SnapshotMeta) {
        self.check_snapshot(node, meta);
        let record = &mut self.nodes[node];
        record.snapshot = record.snapshot.max(meta.slot);
        record.chosen = record.chosen.max(meta.slot);
        record.knew = record.knew.max(meta.slot);
    }

    fn check_snapshot(&mut self, node: usize, meta: &SnapshotMeta) {
        let in_force = &self.epochs.behind(meta.slot).membership;
        let (is_right, slot) = (meta.membership == *in_force, meta.slot);
        self.check(is_right || slot > self.chosen_through, Rule::MembershipOfSlot, || {
            format!(
                "node #{node} has a snapshot of slot {slot} with another membership than is in force there"
            )
        });
    }
}
