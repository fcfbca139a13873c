//! Snapshots: trimming the log behind them, and transferring one to a node that was away for too long.
//!
//! The receiver drives a transfer: it asks for one piece after the other and asks again for a piece that does
//! not come, so that the sender keeps no state. The driver's storage holds the pieces.

use super::{Output, ProposerState, Replica};
use crate::durable::SnapshotMeta;
use crate::id::{NodeId, Slot};
use crate::message::{FetchSnapshot, SnapshotChunk, Trimmed};
use crate::mutant::{Mutant, mutated};

/// After this many lost pieces in a row the transfer is given up, to start anew with another peer.
const MAX_LOST_PIECES: u32 = 5;

/// The snapshots in this node's storage, and the transfer of one to this node.
#[derive(Debug)]
pub(super) struct Snapshots {
    newest: Option<SnapshotMeta>,
    previous: Option<SnapshotMeta>,
    transfer: Option<Transfer>,
}

/// A snapshot on its way here from a peer.
#[derive(Debug)]
struct Transfer {
    from: NodeId,
    meta: Option<SnapshotMeta>,
    offset: u64,
    state: TransferState,
}

/// What a transfer waits for.
#[derive(Debug)]
enum TransferState {
    /// A piece has been asked for.
    Asked { at_ticks: u64, lost: u32 },
    /// The driver writes a piece.
    Storing,
    /// The driver verifies the whole snapshot.
    Installing,
}

impl Snapshots {
    pub(super) fn new(newest: Option<SnapshotMeta>) -> Snapshots {
        Snapshots { newest, previous: None, transfer: None }
    }

    fn add(&mut self, meta: SnapshotMeta) {
        if self.newest.as_ref().is_none_or(|newest| newest.slot < meta.slot) {
            self.previous = self.newest.replace(meta);
        }
    }

    fn find(&self, slot: Slot) -> Option<SnapshotMeta> {
        [&self.newest, &self.previous].into_iter().flatten().find(|meta| meta.slot == slot).cloned()
    }
}

impl Replica {
    /// The log up to a durable snapshot is no longer needed, but for peers that lag a little.
    pub(super) fn on_snapshot_saved(&mut self, meta: SnapshotMeta) {
        assert!(meta.slot <= self.applied, "a snapshot holds only what was applied");
        self.changes.forget_before(meta.slot);
        self.log.trim(self.trims_through(meta.slot), self.config.settings().retained_bytes);
        self.snapshots.add(meta);
    }

    /// A peer no longer has the slots that this replica needs, neither for phase 1 nor to catch up.
    pub(super) fn on_trimmed(&mut self, from: NodeId, trimmed: Trimmed) {
        let needed = trimmed.below > self.log.chosen().next();
        if !needed || matches!(self.proposer, ProposerState::Leading(_)) {
            return;
        }
        self.abandon_candidacy();
        if self.snapshots.transfer.is_none() {
            let state = TransferState::Asked { at_ticks: self.now_ticks, lost: 0 };
            self.snapshots.transfer = Some(Transfer { from, meta: None, offset: 0, state });
            self.send(from, FetchSnapshot { slot: Slot::ZERO, offset: 0 });
        }
    }

    /// Serves the piece asked for; if its snapshot is gone, the first piece of the newest one.
    pub(super) fn on_fetch_snapshot(&mut self, from: NodeId, fetch: FetchSnapshot) {
        let FetchSnapshot { slot, offset } = fetch;
        let asked_for =
            self.snapshots.find(slot).filter(|meta| offset < meta.size_bytes).map(|meta| (meta, offset));
        if let Some((meta, offset)) = asked_for.or(self.snapshots.newest.clone().map(|meta| (meta, 0))) {
            let max_bytes = self.config.settings().chunk_bytes;
            self.outputs.push(Output::LoadSnapshot { to: from, meta, offset, max_bytes });
        }
    }

    /// Hands the piece that was asked for to the driver.
    pub(super) fn on_snapshot_chunk(&mut self, from: NodeId, chunk: SnapshotChunk) {
        let SnapshotChunk { meta, offset, data } = chunk;
        let chosen = self.log.chosen();
        let Some(transfer) = &mut self.snapshots.transfer else { return };
        if transfer.from != from || !matches!(transfer.state, TransferState::Asked { .. }) {
            return;
        }
        if meta.slot <= chosen {
            self.snapshots.transfer = None; // Caught up by other means.
            return;
        }
        let is_known = transfer.meta.as_ref() == Some(&*meta);
        if !is_known && offset == 0 {
            transfer.meta = Some((*meta).clone());
            transfer.offset = 0;
        }
        let fits = meta.size_bytes.checked_sub(offset).is_some_and(|rest| data.len() as u64 <= rest);
        let ends = offset.saturating_add(data.len() as u64) == meta.size_bytes;
        let is_expected = (is_known || offset == 0) && transfer.offset == offset;
        if is_expected && fits && (ends || !data.is_empty()) {
            transfer.state = TransferState::Storing;
            self.outputs.push(Output::StoreSnapshot { slot: meta.slot, offset, data });
        }
    }

    /// Asks for the next piece, or has the whole snapshot verified.
    pub(super) fn on_snapshot_stored(&mut self, slot: Slot, offset: u64) {
        let now_ticks = self.now_ticks;
        let Some(transfer) = &mut self.snapshots.transfer else { return };
        let Some(meta) = transfer.meta.clone().filter(|meta| meta.slot == slot) else { return };
        if !matches!(transfer.state, TransferState::Storing) {
            return;
        }
        transfer.offset = offset;
        if offset >= meta.size_bytes {
            transfer.state = TransferState::Installing;
            self.outputs.push(Output::InstallSnapshot { meta });
        } else {
            transfer.state = TransferState::Asked { at_ticks: now_ticks, lost: 0 };
            let to = transfer.from;
            self.send(to, FetchSnapshot { slot, offset });
        }
    }

    /// The state of the snapshot replaces everything before it. A leader does not need it: it has proposed
    /// again all that it did not know to be chosen.
    pub(super) fn on_snapshot_installed(&mut self, meta: SnapshotMeta) {
        self.snapshots.transfer = None;
        self.snapshots.add(meta.clone());
        if meta.slot > self.log.chosen() && !matches!(self.proposer, ProposerState::Leading(_)) {
            self.apply_chosen();
            self.log.install_snapshot(meta.slot);
            self.applied = last_slot_in(meta.slot);
            self.writes.put_hard_state();
            self.outputs.push(Output::Restore { meta: meta.clone() });
            self.adopt(meta);
            self.enter_epochs();
        }
    }

    pub(super) fn on_snapshot_rejected(&mut self, slot: Slot) {
        let rejected = |transfer: &Transfer| transfer.meta.as_ref().is_some_and(|meta| meta.slot == slot);
        if self.snapshots.transfer.as_ref().is_some_and(rejected) {
            self.snapshots.transfer = None;
        }
    }

    /// Asks again for a piece that does not come; `true` while a transfer is under way.
    pub(super) fn tick_transfer(&mut self) -> bool {
        let patience = 2 * u64::from(self.config.settings().resend_ticks);
        let now_ticks = self.now_ticks;
        let Some(transfer) = &mut self.snapshots.transfer else { return false };
        let TransferState::Asked { at_ticks, lost } = &mut transfer.state else { return true };
        if !is_overdue(*at_ticks, now_ticks, patience) {
            return true;
        }
        if *lost >= MAX_LOST_PIECES {
            self.snapshots.transfer = None;
            return false;
        }
        *at_ticks = now_ticks;
        *lost += 1;
        let slot = transfer.meta.as_ref().map_or(Slot::ZERO, |meta| meta.slot);
        let (to, offset) = (transfer.from, transfer.offset);
        self.send(to, FetchSnapshot { slot, offset });
        true
    }

    /// The last slot that may be dropped from the log once a snapshot is durable.
    fn trims_through(&self, snapshot: Slot) -> Slot {
        if mutated(Mutant::TrimsBeyondSnapshot) { self.log.chosen() } else { snapshot }
    }

    pub(super) fn is_fetching_snapshot(&self) -> bool {
        self.snapshots.transfer.is_some()
    }

    /// Gives up the transfer under way: a new leader does not need it.
    pub(super) fn stop_transfer(&mut self) {
        self.snapshots.transfer = None;
    }
}

/// The last slot that a snapshot holds.
fn last_slot_in(snapshot: Slot) -> Slot {
    if mutated(Mutant::SnapshotSlotOffByOne) { snapshot.next() } else { snapshot }
}

/// Whether a piece of a snapshot has not come for too long.
fn is_overdue(asked_at_ticks: u64, now_ticks: u64, patience_ticks: u64) -> bool {
    now_ticks >= asked_at_ticks + patience_ticks && !mutated(Mutant::SnapshotPieceNeverResent)
}
