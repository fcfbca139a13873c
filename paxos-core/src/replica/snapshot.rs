//! Snapshots: trimming the log behind them, and bringing one to a node that was away for too long.
//!
//! The receiver drives a transfer: it asks for one piece after the other and asks again for what does not come,
//! so that the sender keeps no state. The pieces themselves lie with the driver's storage.

use bytes::Bytes;

use super::{Output, Replica, State};
use crate::durable::SnapshotMeta;
use crate::id::{NodeId, Slot};
use crate::message::Body;
use crate::mutant::{Mutant, mutated};
use crate::quorum::MemberIndex;

/// So many pieces in a row may be lost before the transfer starts anew with another peer.
const MAX_LOST_PIECES: u32 = 5;

/// The snapshots in this node's storage, and the one that is on its way here.
#[derive(Debug)]
pub(super) struct Snapshots {
    newest: Option<SnapshotMeta>,
    previous: Option<SnapshotMeta>,
    transfer: Option<Transfer>,
}

#[derive(Debug)]
struct Transfer {
    from: NodeId,
    meta: Option<SnapshotMeta>,
    offset: u64,
    step: Step,
}

#[derive(Debug)]
enum Step {
    /// A piece has been asked for.
    Asked { at_ticks: u64, lost: u32 },
    /// The driver writes a piece.
    Storing,
    /// The driver verifies the whole.
    Installing,
}

impl Snapshots {
    pub(super) fn new(newest: Option<SnapshotMeta>) -> Snapshots {
        Snapshots { newest, previous: None, transfer: None }
    }

    fn add(&mut self, meta: SnapshotMeta) {
        if self.newest.is_none_or(|newest| newest.slot < meta.slot) {
            self.previous = self.newest.replace(meta);
        }
    }

    fn find(&self, slot: Slot) -> Option<SnapshotMeta> {
        [self.newest, self.previous].into_iter().flatten().find(|meta| meta.slot == slot)
    }
}

impl Replica {
    /// The log up to a durable snapshot is no longer needed, but for peers that lag a little.
    pub(super) fn on_snapshot_saved(&mut self, meta: SnapshotMeta) {
        assert!(meta.slot <= self.applied, "a snapshot holds only what was applied");
        self.snapshots.add(meta);
        let through = if mutated(Mutant::TrimsBeyondSnapshot) { self.log.chosen() } else { meta.slot };
        self.log.trim(through, self.config.options().retained_bytes);
    }

    /// A peer no longer has the slots that this replica needs, neither for phase 1 nor to catch up.
    pub(super) fn on_trimmed(&mut self, from: MemberIndex, below: Slot, outputs: &mut Vec<Output>) {
        let needed = below > self.log.chosen().next();
        if !needed || matches!(self.state, State::Leading(_)) {
            return;
        }
        self.abandon_candidacy(outputs);
        if self.snapshots.transfer.is_none() {
            let from = self.config.member_map().id(from);
            let step = Step::Asked { at_ticks: self.now_ticks, lost: 0 };
            self.snapshots.transfer = Some(Transfer { from, meta: None, offset: 0, step });
            self.send(from, Body::FetchSnapshot { slot: Slot::ZERO, offset: 0 }, outputs);
        }
    }

    /// Serves a piece; of the newest snapshot from its beginning, if the one asked for is gone.
    pub(super) fn on_fetch_snapshot(
        &mut self,
        from: NodeId,
        slot: Slot,
        offset: u64,
        outputs: &mut Vec<Output>,
    ) {
        let asked_for =
            self.snapshots.find(slot).filter(|meta| offset < meta.size_bytes).map(|meta| (meta, offset));
        if let Some((meta, offset)) = asked_for.or(self.snapshots.newest.map(|meta| (meta, 0))) {
            let max_bytes = self.config.options().chunk_bytes;
            outputs.push(Output::LoadSnapshot { to: from, meta, offset, max_bytes });
        }
    }

    pub(super) fn on_snapshot_chunk(
        &mut self,
        from: NodeId,
        meta: SnapshotMeta,
        offset: u64,
        data: Bytes,
        outputs: &mut Vec<Output>,
    ) {
        let chosen = self.log.chosen();
        let Some(transfer) = &mut self.snapshots.transfer else { return };
        if transfer.from != from || !matches!(transfer.step, Step::Asked { .. }) {
            return;
        }
        if meta.slot <= chosen {
            self.snapshots.transfer = None; // Caught up by other means.
            return;
        }
        if transfer.meta != Some(meta) && offset == 0 {
            transfer.meta = Some(meta);
            transfer.offset = 0;
        }
        let fits = meta.size_bytes.checked_sub(offset).is_some_and(|rest| data.len() as u64 <= rest);
        let ends = offset.saturating_add(data.len() as u64) == meta.size_bytes;
        if transfer.meta == Some(meta) && transfer.offset == offset && fits && (ends || !data.is_empty()) {
            transfer.step = Step::Storing;
            outputs.push(Output::StoreSnapshot { slot: meta.slot, offset, data });
        }
    }

    pub(super) fn on_snapshot_stored(&mut self, slot: Slot, offset: u64, outputs: &mut Vec<Output>) {
        let now_ticks = self.now_ticks;
        let Some(transfer) = &mut self.snapshots.transfer else { return };
        let Some(meta) = transfer.meta.filter(|meta| meta.slot == slot) else { return };
        if !matches!(transfer.step, Step::Storing) {
            return;
        }
        transfer.offset = offset;
        if offset >= meta.size_bytes {
            transfer.step = Step::Installing;
            outputs.push(Output::InstallSnapshot { meta });
        } else {
            transfer.step = Step::Asked { at_ticks: now_ticks, lost: 0 };
            let to = transfer.from;
            self.send(to, Body::FetchSnapshot { slot, offset }, outputs);
        }
    }

    /// The state of the snapshot replaces everything before it. A leader goes on without: it has proposed again
    /// all that it did not know to be chosen.
    pub(super) fn on_snapshot_installed(&mut self, meta: SnapshotMeta, outputs: &mut Vec<Output>) {
        self.snapshots.transfer = None;
        self.snapshots.add(meta);
        if meta.slot > self.log.chosen() && !matches!(self.state, State::Leading(_)) {
            self.apply_chosen(outputs);
            self.log.install_snapshot(meta.slot);
            self.applied = if mutated(Mutant::SnapshotSlotOffByOne) { meta.slot.next() } else { meta.slot };
            self.writes.put_hard_state();
            outputs.push(Output::Restore { meta });
        }
    }

    pub(super) fn on_snapshot_rejected(&mut self, slot: Slot) {
        let rejected = |transfer: &Transfer| transfer.meta.is_some_and(|meta| meta.slot == slot);
        if self.snapshots.transfer.as_ref().is_some_and(rejected) {
            self.snapshots.transfer = None;
        }
    }

    /// Asks again for a piece that does not come; `true` while a transfer is under way.
    pub(super) fn tick_transfer(&mut self, outputs: &mut Vec<Output>) -> bool {
        let patience = 2 * u64::from(self.config.options().resend_ticks);
        let now_ticks = self.now_ticks;
        let Some(transfer) = &mut self.snapshots.transfer else { return false };
        let Step::Asked { at_ticks, lost } = &mut transfer.step else { return true };
        if now_ticks < *at_ticks + patience || mutated(Mutant::SnapshotPieceNeverResent) {
            return true;
        }
        if *lost >= MAX_LOST_PIECES {
            self.snapshots.transfer = None;
            return false;
        }
        *at_ticks = now_ticks;
        *lost += 1;
        let slot = transfer.meta.map_or(Slot::ZERO, |meta| meta.slot);
        let (to, offset) = (transfer.from, transfer.offset);
        self.send(to, Body::FetchSnapshot { slot, offset }, outputs);
        true
    }

    /// Drops what is on its way here: the new leader does not need it.
    pub(super) fn stop_transfer(&mut self) {
        self.snapshots.transfer = None;
    }
}
