//! Fetching a snapshot from a peer, for a node that was away for too long.
//!
//! The receiver drives: it asks for the first piece, which tells how long the snapshot and its pieces are,
//! then for a window of pieces, and again for those that do not come. The sender keeps no state but what it
//! must not drop. Pieces go to the driver's storage in order, several at a time.

use bytes::Bytes;

use super::pieces::{Pieces, window_pieces};
use super::{Output, ProposerState, Replica};
use crate::durable::SnapshotMeta;
use crate::id::{NodeId, Slot};
use crate::message::{FetchSnapshot, SnapshotChunk, Trimmed};
use crate::mutant::{Mutant, mutated};

/// If nothing comes this often in a row, the transfer is given up, to start anew with another peer.
const MAX_SILENCES: u32 = 5;
/// How many pieces the driver's storage may have to write at once.
const MAX_STORING_PIECES: usize = 4;

/// A snapshot on its way here from a peer.
#[derive(Debug)]
pub(super) struct Transfer {
    from: NodeId,
    /// The snapshot, once its first piece has come.
    meta: Option<SnapshotMeta>,
    /// The length of its pieces: that of the first.
    piece_bytes: u64,
    pieces: Pieces<Bytes>,
    /// Whether the driver verifies the whole snapshot.
    is_installing: bool,
}

impl Replica {
    /// A peer no longer has the slots that this replica needs, neither for phase 1 nor to catch up.
    pub(super) fn on_trimmed(&mut self, from: NodeId, trimmed: Trimmed) {
        let needed = trimmed.below > self.log.chosen().next();
        if !needed || matches!(self.proposer, ProposerState::Leading(_)) {
            return;
        }
        self.abandon_candidacy();
        if self.snapshots.transfer.is_none() {
            self.stop_fetching();
            let pieces = Pieces::ask_from(0, self.now_ticks);
            let transfer = Transfer { from, meta: None, piece_bytes: 0, pieces, is_installing: false };
            self.snapshots.transfer = Some(transfer);
            self.send(from, FetchSnapshot { slot: Slot::ZERO, offset: 0 });
        }
    }

    /// Takes in a piece that was asked for. If the sender does not have the snapshot any more, this is the
    /// first piece of a newer one.
    pub(super) fn on_snapshot_chunk(&mut self, from: NodeId, chunk: SnapshotChunk) {
        let SnapshotChunk { meta, offset, mut data } = chunk;
        let (chosen, now_ticks) = (self.log.chosen(), self.now_ticks);
        let Some(transfer) = &mut self.snapshots.transfer else { return };
        if transfer.from != from || transfer.is_installing {
            return;
        }
        if meta.slot <= chosen {
            self.snapshots.transfer = None; // Caught up by other means.
            return;
        }
        let fits = meta.size_bytes.checked_sub(offset).is_some_and(|rest| data.len() as u64 <= rest);
        if !fits || (data.is_empty() && offset < meta.size_bytes) {
            return;
        }
        if transfer.meta.as_ref() != Some(&*meta) {
            let is_newer = transfer.meta.as_ref().is_none_or(|known| known.slot < meta.slot);
            if offset != 0 || !is_newer {
                return;
            }
            transfer.begin(*meta, data.len() as u64);
        }
        let Some(most_end) = transfer.pieces.wanted(offset) else { return };
        let most_bytes = most_end.saturating_sub(offset);
        data.truncate(usize::try_from(most_bytes).unwrap_or(usize::MAX));
        let end = offset + data.len() as u64;
        transfer.pieces.take_in(offset, end, data, now_ticks);
        self.advance_transfer();
    }

    /// A piece is written: has the whole snapshot verified if it was the last one.
    pub(super) fn on_snapshot_stored(&mut self, slot: Slot, offset: u64) {
        let Some(transfer) = &mut self.snapshots.transfer else { return };
        let Some(meta) = transfer.meta.clone().filter(|meta| meta.slot == slot) else { return };
        // The storage may still tell of pieces of an earlier attempt.
        if transfer.is_installing || offset > transfer.pieces.handed() {
            return;
        }
        transfer.pieces.on_stored();
        if offset >= meta.size_bytes {
            transfer.is_installing = true;
            self.outputs.push(Output::InstallSnapshot { meta });
        } else {
            self.advance_transfer();
        }
    }

    /// Hands pieces to the driver, and asks for as many as may be under way.
    fn advance_transfer(&mut self) {
        let Some(transfer) = &mut self.snapshots.transfer else { return };
        let (slot, end) = transfer.meta.as_ref().map_or((Slot::ZERO, 0), |meta| (meta.slot, meta.size_bytes));
        while transfer.pieces.storing() < MAX_STORING_PIECES
            && let Some((offset, data)) = transfer.pieces.pop()
        {
            self.outputs.push(Output::StoreSnapshot { slot, offset, data });
        }
        let (to, length) = (transfer.from, transfer.piece_bytes);
        let window = window_pieces(self.config.settings(), length);
        while let Some(transfer) = &mut self.snapshots.transfer
            && let Some((offset, _)) = transfer.pieces.next_to_ask(end, length, window, self.now_ticks)
        {
            self.send(to, FetchSnapshot { slot, offset });
        }
    }

    /// The state of the snapshot replaces everything before it. A leader does not need it: it has proposed
    /// again all that it did not know to be chosen. The log behind it is fetched from the same peer, which
    /// keeps it for that.
    pub(super) fn on_snapshot_installed(&mut self, meta: SnapshotMeta) {
        let transfer = self.snapshots.transfer.take();
        self.snapshots.add(meta.clone());
        if meta.slot > self.log.chosen() && !matches!(self.proposer, ProposerState::Leading(_)) {
            self.apply_chosen();
            self.log.install_snapshot(meta.slot);
            self.applied = last_slot_in(meta.slot);
            self.writes.put_hard_state();
            self.outputs.push(Output::Restore { meta: meta.clone() });
            self.adopt(meta);
            self.enter_epochs();
            if let Some(Transfer { from, .. }) = transfer
                && self.known_chosen() > self.log.chosen()
            {
                self.fetch(from);
            }
        }
    }

    pub(super) fn on_snapshot_rejected(&mut self, slot: Slot) {
        let rejected = |transfer: &Transfer| transfer.meta.as_ref().is_some_and(|meta| meta.slot == slot);
        if self.snapshots.transfer.as_ref().is_some_and(rejected) {
            self.snapshots.transfer = None;
        }
    }

    /// Asks again for what does not come; `true` while a transfer is under way.
    pub(super) fn tick_transfer(&mut self) -> bool {
        let patience_ticks = 2 * u64::from(self.config.settings().resend_ticks);
        let Some(transfer) = &mut self.snapshots.transfer else { return false };
        if !is_silent(&transfer.pieces, self.now_ticks, patience_ticks) {
            return true;
        }
        if transfer.pieces.lose_all() > MAX_SILENCES {
            self.snapshots.transfer = None;
            return false;
        }
        self.advance_transfer();
        true
    }

    pub(super) fn is_fetching_snapshot(&self) -> bool {
        self.snapshots.transfer.is_some()
    }

    /// Gives up the transfer under way: a new leader does not need it.
    pub(super) fn stop_transfer(&mut self) {
        self.snapshots.transfer = None;
    }
}

impl Transfer {
    /// Begins with a snapshot of which the first piece has come.
    fn begin(&mut self, meta: SnapshotMeta, first_bytes: u64) {
        self.meta = Some(meta);
        self.piece_bytes = first_bytes;
        self.pieces.restart(0, first_bytes);
    }
}

/// The last slot that a snapshot holds.
fn last_slot_in(snapshot: Slot) -> Slot {
    if mutated(Mutant::SnapshotSlotOffByOne) { snapshot.next() } else { snapshot }
}

/// Whether pieces of a snapshot have not come for too long.
fn is_silent(pieces: &Pieces<Bytes>, now_ticks: u64, patience_ticks: u64) -> bool {
    pieces.is_silent(now_ticks, patience_ticks) && !mutated(Mutant::SnapshotPieceNeverResent)
}
