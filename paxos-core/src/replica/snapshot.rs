//! Snapshots of this node's own state, and serving them to peers that were away for too long.
//!
//! The log behind a durable snapshot is dropped. But what a peer fetches here stays until it has arrived: the
//! snapshot, and the log from its slot on, or from the first slot that the peer still misses. Each message by
//! which a peer asks for a piece renews that for a while. It ends early if the log grows too long: then the
//! peer has to begin anew. And a node that is behind itself and installs a newer snapshot keeps the one
//! before that, but no log: it has never known all of it.

use std::collections::BTreeMap;

use super::transfer::Transfer;
use super::{Output, ProposerState, Replica};
use crate::durable::SnapshotMeta;
use crate::id::{NodeId, Slot};
use crate::message::FetchSnapshot;
use crate::mutant::{Mutant, mutated};

/// What a peer fetches is kept for this long after it has asked for a piece. By then it has either asked
/// again, or does not need it any more.
const KEPT_TICKS: u64 = 500;
/// Nothing is kept for peers while the log has more than this part of
/// [`log_bytes`](crate::ProtocolSettings::log_bytes): new commands would soon be refused.
const KEPT_PART_OF_LOG: usize = 2;

/// The snapshots in this node's storage, what peers need of them, and the transfer of one to this node.
#[derive(Debug)]
pub(super) struct Snapshots {
    newest: Option<SnapshotMeta>,
    previous: Option<SnapshotMeta>,
    /// What is kept for peers that catch up here. At most one for each peer, for [`KEPT_TICKS`].
    kept: BTreeMap<NodeId, Kept>,
    /// Whether the log is still to be trimmed behind the newest snapshot.
    is_trim_due: bool,
    outpaced: Option<(NodeId, u64)>,
    pub(super) transfer: Option<Transfer>,
}

/// What a peer needs.
#[derive(Clone, Copy, Debug)]
struct Kept {
    /// The snapshot that it fetches.
    snapshot: Option<Slot>,
    /// It needs the log behind this slot.
    behind: Slot,
    asked_at_ticks: u64,
}

impl Snapshots {
    pub(super) fn new(newest: Option<SnapshotMeta>) -> Snapshots {
        Snapshots {
            newest,
            previous: None,
            kept: BTreeMap::new(),
            is_trim_due: false,
            outpaced: None,
            transfer: None,
        }
    }

    pub(super) fn add(&mut self, meta: SnapshotMeta) {
        if self.newest.as_ref().is_none_or(|newest| newest.slot < meta.slot) {
            self.previous = self.newest.replace(meta);
        }
    }

    fn find(&self, slot: Slot) -> Option<SnapshotMeta> {
        [&self.newest, &self.previous].into_iter().flatten().find(|meta| meta.slot == slot).cloned()
    }

    /// Whether a peer fetches the older of the two snapshots.
    fn is_previous_fetched(&self) -> bool {
        let previous = self.previous.as_ref().map(|meta| meta.slot);
        previous.is_some() && self.kept.values().any(|kept| kept.snapshot == previous)
    }

    /// The last slot that may be dropped from the log.
    fn trims_through(&self, chosen: Slot) -> Slot {
        let newest = self.newest.as_ref().map_or(Slot::ZERO, |meta| meta.slot);
        if mutated(Mutant::TrimsBeyondSnapshot) {
            return chosen;
        }
        let kept = self.kept.values().map(|kept| kept.behind).min();
        kept.filter(|_| !mutated(Mutant::FetchedLogDropped)).map_or(newest, |kept| kept.min(newest))
    }

    /// Keeps nothing any more, and notes for whom it would have been.
    fn give_up_kept(&mut self) {
        let newest = self.newest.as_ref().map_or(Slot::ZERO, |meta| meta.slot);
        let is_previous_fetched = self.is_previous_fetched();
        let slowest = self.kept.iter().min_by_key(|(_, kept)| kept.behind);
        if let Some((&peer, kept)) = slowest
            && (kept.behind < newest || is_previous_fetched)
        {
            let times = self.outpaced.map_or(0, |(_, times)| times);
            self.outpaced = Some((peer, times + 1));
        }
        self.kept.clear();
    }
}

impl Replica {
    /// The log up to a durable snapshot is no longer needed, but for peers that lag a little, or catch up.
    pub(super) fn on_snapshot_saved(&mut self, meta: SnapshotMeta) {
        assert!(meta.slot <= self.applied, "a snapshot holds only what was applied");
        self.changes.forget_before(meta.slot);
        self.snapshots.add(meta);
        self.snapshots.is_trim_due = true;
        self.trim_log();
        self.give_back_memory();
    }

    /// Gives back the memory that only a busy replica needs, where it is unused at this moment. Snapshots are
    /// rare, so a replica that stays busy loses nothing by it.
    fn give_back_memory(&mut self) {
        self.queue.give_back_memory();
        self.writes.give_back_memory();
        if let ProposerState::Leading(leading) = &mut self.proposer {
            leading.in_flight_mut().give_back_memory();
        }
    }

    /// Serves the piece asked for; if its snapshot is gone, the first piece of the newest one.
    pub(super) fn on_fetch_snapshot(&mut self, from: NodeId, fetch: FetchSnapshot) {
        let FetchSnapshot { slot, offset } = fetch;
        let asked_for =
            self.snapshots.find(slot).filter(|meta| offset < meta.size_bytes).map(|meta| (meta, offset));
        if let Some((meta, offset)) = asked_for.or(self.snapshots.newest.clone().map(|meta| (meta, 0))) {
            self.keep_for(from, Some(meta.slot), meta.slot);
            let max_bytes = self.config.settings().chunk_bytes;
            self.outputs.push(Output::LoadSnapshot { to: from, meta, offset, max_bytes });
        }
    }

    /// Keeps a snapshot, and the log behind a slot, for a peer that has just asked for a part.
    pub(super) fn keep_for(&mut self, peer: NodeId, snapshot: Option<Slot>, behind: Slot) {
        let kept = Kept { snapshot, behind, asked_at_ticks: self.now_ticks };
        self.snapshots.kept.insert(peer, kept);
    }

    pub(super) fn tick_snapshots(&mut self) {
        let now_ticks = self.now_ticks;
        self.snapshots.kept.retain(|_, kept| now_ticks < kept.asked_at_ticks + KEPT_TICKS);
        if self.log.bytes() > self.config.settings().log_bytes / KEPT_PART_OF_LOG {
            self.snapshots.give_up_kept();
        }
        if self.snapshots.is_trim_due {
            self.trim_log();
        }
    }

    /// Drops what may be dropped, as much as fits into one turn.
    fn trim_log(&mut self) {
        let through = self.snapshots.trims_through(self.log.chosen());
        let retained_bytes = self.config.settings().retained_bytes;
        self.log.trim(through, retained_bytes);
        let newest = self.snapshots.newest.as_ref().map_or(Slot::ZERO, |meta| meta.slot);
        self.snapshots.is_trim_due = self.log.bytes() > retained_bytes && self.log.trimmed() < newest;
    }

    /// Whether the driver may take another snapshot of this node's state: not while a peer fetches the older
    /// of the two that its storage keeps, as that would be dropped. The log does not grow without end
    /// meanwhile: once it has half of [`log_bytes`](crate::ProtocolSettings::log_bytes), the peer has to wait
    /// for another. Ask again with each tick while a snapshot is due: once the log is full, only the next
    /// snapshot lets commands in again, and until then nothing is applied that could remind the driver of it.
    #[must_use]
    pub fn may_take_snapshot(&self) -> bool {
        !self.snapshots.is_previous_fetched() || mutated(Mutant::FetchedSnapshotDropped)
    }

    /// How often what a peer was fetching was dropped all the same, as the log had grown too long meanwhile,
    /// and the last such peer: it fetches more slowly than commands come.
    #[must_use]
    pub fn outpaced(&self) -> Option<(NodeId, u64)> {
        self.snapshots.outpaced
    }
}
