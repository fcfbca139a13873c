//! The simulator of paxos-core with the real log: whole clusters whose disks tear, lose, damage and misplace
//! sectors.
//!
//! `PAXOS_SEEDS=1..=5000 cargo test --release -p paxos-storage simulated_clusters` runs more of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use paxos_core::sim::{Mark, Marks, Random, Registers, Simulation};
use paxos_core::{NodeId, Write};

use super::model::{end_of_frames, names_of};
use crate::file::append::log::Sizes;
use crate::file::append::spares::MAX_SPARES;
use crate::file::disk::Disk;
use crate::file::disk::buffer::BLOCK_BYTES;
use crate::file::disk::simulated::{Fault, Kept, SECTOR_BYTES, SimulatedDisk};
use crate::file::format::format_on;
use crate::file::layout::segment::{self, MIN_SEGMENT_BYTES};
use crate::file::storage::FileStorage;
use crate::sim::{Medium, StorageDisk};
use crate::{Error, Identity, Storage, StorageId};

/// The power fails within this many operations: a write of several frames, or a new segment.
const OPERATIONS_OF_A_WRITE: u64 = 12;

/// Whether a segment was kept to be used again.
static HAS_SPARED: AtomicBool = AtomicBool::new(false);

/// A simulated disk with the real log on it.
struct Sectors(SimulatedDisk);

impl Sectors {
    /// The blocks that may be damaged: all of all files, except the last two frames of the log. Damage to
    /// those looks like a torn tail, which is why a log at rest ends in a mark.
    fn blocks(&self) -> Vec<(String, usize)> {
        let mut names = self.0.list().expect("a simulated disk can be listed");
        names.sort_by_key(|name| segment::number_of(name).unwrap_or(0));
        let last = names.last().cloned();
        let mut blocks = Vec::new();
        for name in names {
            // Behind the last frame there is what is left of an earlier use of the segment.
            let used = if Some(&name) == last.as_ref() {
                end_of_frames(&self.0, &name)
            } else {
                self.0.content(&name).iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
            };
            blocks.extend((0..used).step_by(BLOCK_BYTES).map(|at| (name.clone(), at)));
        }
        blocks.truncate(blocks.len().saturating_sub(4));
        blocks
    }
}

impl Medium for Sectors {
    type Storage = FileStorage;

    const DECAYS: bool = true;

    fn format(node: NodeId, seed: u64) -> Sectors {
        let disk = SimulatedDisk::new();
        let identity = Identity::existing(String::from("simulated"), node, StorageId(u128::from(seed)));
        format_on(&disk, &identity, MIN_SEGMENT_BYTES).expect("nothing fails");
        Sectors(disk)
    }

    fn open(&mut self) -> Result<FileStorage, Error> {
        if !names_of(&self.0, segment::number_of_spare).is_empty() {
            HAS_SPARED.store(true, Ordering::Relaxed);
        }
        let sizes = Sizes { segment_bytes: MIN_SEGMENT_BYTES, payload_bytes: 3000, spares: MAX_SPARES };
        FileStorage::open_on(Arc::new(self.0.clone()), sizes)
    }

    fn lose_power(&mut self, mut storage: FileStorage, unsynced: &[Write], random: &mut Random) {
        let at = usize::try_from(random.below(OPERATIONS_OF_A_WRITE)).expect("a small number");
        self.0.set_fault(Some(Fault::Crash { at }));
        for write in unsynced {
            if storage.persist(write.clone()).is_err() {
                break;
            }
        }
        drop(storage);
        let kept = [
            Kept::Nothing,
            Kept::Everything,
            Kept::Prefix(random.below(1000)),
            Kept::Random(random.below(1000)),
        ];
        self.0 = self.0.after_crash(kept[random.index(kept.len())]);
    }

    fn decay(&mut self, storage: Option<&mut FileStorage>, random: &mut Random) -> bool {
        if let Some(storage) = storage {
            storage.prove_last_write().expect("a simulated disk fails only when it is told to");
        }
        let blocks = self.blocks();
        if blocks.is_empty() {
            return false;
        }
        let (name, at) = &blocks[random.index(blocks.len())];
        let (from_name, from) = &blocks[random.index(blocks.len())];
        let sector = at + random.index(BLOCK_BYTES / SECTOR_BYTES) * SECTOR_BYTES;
        let misplaced = self.0.content(from_name)[*from..].to_vec();
        let change: &dyn Fn(&mut Vec<u8>) = match random.below(4) {
            0 => &|bytes| bytes.iter_mut().skip(sector).take(1).for_each(|byte| *byte ^= 4),
            1 => &|bytes| bytes.iter_mut().skip(sector).take(SECTOR_BYTES).for_each(|byte| *byte = 0),
            2 => &|bytes| {
                let target = bytes.iter_mut().skip(*at).take(BLOCK_BYTES);
                target.zip(&misplaced).for_each(|(byte, other)| *byte = *other);
            },
            _ => {
                self.0.spoil(name, sector);
                return true;
            }
        };
        self.0.alter(name, change);
        true
    }
}

fn seeds() -> std::ops::RangeInclusive<u64> {
    let given = std::env::var("PAXOS_SEEDS").ok();
    let bounds = given.as_deref().and_then(|given| given.split_once("..="));
    let parsed = bounds.and_then(|(first, last)| Some(first.parse().ok()?..=last.parse().ok()?));
    parsed.unwrap_or(1..=60)
}

#[test]
fn simulated_clusters_keep_every_rule_on_the_real_log() {
    let mut marks = Marks::default();
    for seed in seeds() {
        let report = Simulation::<Registers, StorageDisk<Sectors>>::of_seed(seed).run();
        assert_eq!(
            report.violation, None,
            "PAXOS_SEEDS={seed}..={seed} cargo test -p paxos-storage simulated_clusters"
        );
        marks.add(&report.marks);
    }
    for mark in
        [Mark::CrashWithUnsyncedWrites, Mark::MemoryLost, Mark::MemoryRepaired, Mark::SnapshotInstalled]
    {
        assert!(
            marks.count(mark) > 0 || std::env::var_os("PAXOS_SEEDS").is_some(),
            "no seed has met {mark:?}"
        );
    }
    assert!(
        HAS_SPARED.load(Ordering::Relaxed) || std::env::var_os("PAXOS_SEEDS").is_some(),
        "no seed has used a segment again"
    );
}
