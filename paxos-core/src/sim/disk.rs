//! Disks under simulation.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::marks::Mark;
use crate::mutant::Mutant;
use crate::random::Random;
use crate::{Entry, HardState, NodeId, Recovered, Slot, SnapshotMeta, Write};

/// The disk of one node, as the simulation sees it: it survives crashes of the node.
///
/// The simulation decides when a sync takes place; until then it keeps the writes itself.
pub trait Disk {
    /// Rare events that runs on this disk never meet. A [`Suite`](super::Suite) does not miss them. By
    /// default those that need a disk which [decays](Disk::decay).
    const NEVER_MEETS: &'static [Mark] = &[Mark::MemoryLost, Mark::MemoryRepaired];

    /// Mutants that runs on this disk can't show. A [`MutantHunt`](super::MutantHunt) does not look for them.
    /// By default those that need a disk which [decays](Disk::decay).
    const NEVER_SHOWS: &'static [Mutant] = &[Mutant::RepairingPromises, Mutant::RepairingRunsForLeader];

    /// An empty disk that belongs to `node`. It draws all its randomness from `seed`.
    fn format(node: NodeId, seed: u64) -> Self;

    /// What the node finds when it starts. Entries may be missing as far as
    /// [`incomplete_through`](Recovered::incomplete_through) says so.
    ///
    /// # Errors
    ///
    /// Says in a sentence what is damaged. The node then stays away for good, as it may have lost a promise.
    /// An error or missing entries break a rule, unless the disk has [decayed](Disk::decay).
    fn recover(&mut self) -> Result<Recovered, String>;

    /// Puts a write into stable storage. It must be there for good when this returns.
    fn store(&mut self, write: &Write);

    /// The power goes while these writes, in this order, are on their way. Any number of the first may
    /// survive.
    fn lose_power(&mut self, unsynced: &[Write], random: &mut Random);

    /// Something on the disk changes by itself: bits flip, or a write meant for one place goes to another.
    /// Returns whether anything has changed: by default nothing does.
    ///
    /// This may lose stored data, but then [`recover`](Disk::recover) must report it.
    fn decay(&mut self, random: &mut Random) -> bool {
        let _ = random;
        false
    }

    /// Puts a whole snapshot into stable storage, beside the last one. The log may drop the slots that the
    /// snapshot covers.
    fn save_snapshot(&mut self, meta: SnapshotMeta, content: &Bytes);

    /// One of the last two snapshots.
    fn snapshot(&self, slot: Slot) -> Option<(SnapshotMeta, Bytes)>;

    /// The slot of the last snapshot.
    fn newest_snapshot(&self) -> Option<Slot>;
}

/// A model of a disk: it holds whole writes. When it decays it loses some entries, and knows which.
#[derive(Debug, Default)]
pub struct ModelDisk {
    hard_state: HardState,
    entries: BTreeMap<Slot, Entry>,
    /// The last two.
    snapshots: Vec<(SnapshotMeta, Bytes)>,
    /// Slots whose entries were lost and not written again.
    lost: BTreeSet<Slot>,
}

impl Disk for ModelDisk {
    const NEVER_MEETS: &'static [Mark] = &[];
    const NEVER_SHOWS: &'static [Mutant] = &[];

    fn format(_: NodeId, _: u64) -> ModelDisk {
        ModelDisk::default()
    }

    fn recover(&mut self) -> Result<Recovered, String> {
        let mut hard_state = self.hard_state;
        let mut entries: Vec<_> = self.entries.iter().map(|(slot, entry)| (*slot, entry.clone())).collect();
        if let Some(first) = self.lost.first() {
            // The watermark falls below the first lost slot, so each slot above that has to say that it is
            // chosen.
            for (_, entry) in entries.iter_mut().filter(|(slot, _)| *slot <= hard_state.chosen) {
                *entry = Entry::Chosen { value: entry.value().clone() };
            }
            hard_state.chosen = hard_state.chosen.min(first.previous());
        }
        let incomplete_through = self.lost.last().copied().unwrap_or(Slot::ZERO);
        let snapshot = self.snapshots.last().map(|(meta, _)| meta.clone());
        Ok(Recovered { hard_state, snapshot, entries, incomplete_through })
    }

    fn store(&mut self, write: &Write) {
        self.hard_state = write.hard_state();
        for (slot, entry) in write.entries() {
            self.entries.insert(*slot, entry.clone());
            self.lost.remove(slot);
        }
    }

    fn decay(&mut self, random: &mut Random) -> bool {
        let Some((&last, _)) = self.entries.last_key_value() else { return false };
        // The entries written last are the most likely not to be chosen yet.
        let first = Slot(last.0.saturating_sub(random.below(20)).max(1));
        let count = 1 + random.below(10);
        let gone: Vec<Slot> =
            self.entries.range(first..).take(count as usize).map(|(slot, _)| *slot).collect();
        for slot in gone {
            self.entries.remove(&slot);
            self.lost.insert(slot);
        }
        true
    }

    fn lose_power(&mut self, unsynced: &[Write], random: &mut Random) {
        let survivors = random.index(unsynced.len() + 1);
        for write in &unsynced[..survivors] {
            self.store(write);
        }
    }

    fn save_snapshot(&mut self, meta: SnapshotMeta, content: &Bytes) {
        if self.snapshots.last().is_some_and(|(newest, _)| newest.slot >= meta.slot) {
            return;
        }
        let slot = meta.slot;
        self.snapshots.push((meta, content.clone()));
        if self.snapshots.len() > 2 {
            self.snapshots.remove(0);
        }
        self.entries = self.entries.split_off(&slot.next());
        self.lost = self.lost.split_off(&slot.next());
    }

    fn snapshot(&self, slot: Slot) -> Option<(SnapshotMeta, Bytes)> {
        self.snapshots.iter().find(|(meta, _)| meta.slot == slot).cloned()
    }

    fn newest_snapshot(&self) -> Option<Slot> {
        self.snapshots.last().map(|(meta, _)| meta.slot)
    }
}
