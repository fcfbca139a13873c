//! The built-in backends under the simulator, each on a medium as a user would write it; and backends with a
//! mistake, which it must find.
//!
//! `PAXOS_SEEDS=1..=5000 cargo test --release -p paxos-storage --lib sim::` runs more seeds.

use std::ops::RangeInclusive;

use paxos_core::sim::{Marks, Registers, Rule, Simulation};
use paxos_core::{Durable, HardState};

use super::*;
use crate::{Identity, Registry};

fn seeds(few: RangeInclusive<u64>) -> RangeInclusive<u64> {
    let given = std::env::var("PAXOS_SEEDS").ok();
    let bounds = given.as_deref().and_then(|given| given.split_once("..="));
    let parsed = bounds.and_then(|(first, last)| Some(first.parse().ok()?..=last.parse().ok()?));
    parsed.unwrap_or(few)
}

/// Runs clusters on these media; no rule may be broken, and crashes and snapshots must be met.
fn run<M: Medium>(few: RangeInclusive<u64>) {
    let mut marks = Marks::default();
    for seed in seeds(few) {
        let report = Simulation::<Registers, StorageDisk<M>>::of_seed(seed).run();
        assert_eq!(
            report.violation, None,
            "PAXOS_SEEDS={seed}..={seed} cargo test -p paxos-storage --lib sim::"
        );
        marks.add(&report.marks);
    }
    for mark in [Mark::CrashWithUnsyncedWrites, Mark::SnapshotInstalled] {
        let is_met = marks.count(mark) > 0 || std::env::var_os("PAXOS_SEEDS").is_some();
        assert!(is_met, "no seed has met {mark:?}");
    }
}

#[cfg(feature = "memory")]
mod memory {
    use super::*;
    use crate::memory::MemoryStorage;

    struct Memory(MemoryStorage);

    impl Medium for Memory {
        type Storage = MemoryStorage;

        fn format(node: NodeId, _: u64) -> Memory {
            Memory(MemoryStorage::new(Identity::new("simulated", node)))
        }

        fn open(&mut self) -> Result<MemoryStorage, Error> {
            Ok(self.0.clone())
        }
    }

    #[test]
    fn clusters_keep_every_rule_on_storage_in_memory() {
        run::<Memory>(1..=60);
    }

    /// What is wrong with a [`Wrong`] storage.
    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Mistake {
        /// A write without entries is not stored, although it may hold a promise.
        PromiseAloneIsDropped,
        /// The promise is not found again.
        PromiseForgotten,
        /// Everything up to the slot asked for is forgotten, and a little more.
        CompactsTooMuch,
        /// Pieces of a snapshot beyond the first are left out when it is read.
        SnapshotCutShort,
    }

    struct Wrong<const MISTAKE: usize>(MemoryStorage);

    const MISTAKES: [Mistake; 4] = [
        Mistake::PromiseAloneIsDropped,
        Mistake::PromiseForgotten,
        Mistake::CompactsTooMuch,
        Mistake::SnapshotCutShort,
    ];

    impl<const MISTAKE: usize> Wrong<MISTAKE> {
        fn makes(mistake: Mistake) -> bool {
            MISTAKES[MISTAKE] == mistake
        }
    }

    impl<const MISTAKE: usize> Medium for Wrong<MISTAKE> {
        type Storage = Wrong<MISTAKE>;

        fn format(node: NodeId, seed: u64) -> Self {
            Wrong(Memory::format(node, seed).0)
        }

        fn open(&mut self) -> Result<Self, Error> {
            Ok(Wrong(self.0.clone()))
        }
    }

    impl<const MISTAKE: usize> Storage for Wrong<MISTAKE> {
        fn identity(&self) -> &Identity {
            self.0.identity()
        }

        fn registry(&self) -> Registry {
            self.0.registry()
        }

        fn remember(&mut self, registry: &Registry) -> Result<(), Error> {
            self.0.remember(registry)
        }

        fn recover(&mut self) -> Result<Recovered, Error> {
            let mut recovered = self.0.recover()?;
            if Self::makes(Mistake::PromiseForgotten) {
                let chosen = recovered.hard_state.chosen;
                recovered.hard_state = HardState { chosen, ..HardState::default() };
            }
            if Self::makes(Mistake::CompactsTooMuch) && recovered.snapshot.is_some() {
                recovered.entries = recovered.entries.split_off(1.min(recovered.entries.len()));
            }
            Ok(recovered)
        }

        fn persist(&mut self, write: Write) -> Result<Durable, Error> {
            if Self::makes(Mistake::PromiseAloneIsDropped) && write.entries().is_empty() {
                return Ok(write.into_durable());
            }
            self.0.persist(write)
        }

        fn write_snapshot(&mut self, slot: Slot, offset: u64, piece: &[u8]) -> Result<(), Error> {
            self.0.write_snapshot(slot, offset, piece)
        }

        fn finish_snapshot(&mut self, meta: SnapshotMeta) -> Result<(), Error> {
            self.0.finish_snapshot(meta)
        }

        fn read_snapshot(&mut self, slot: Slot, offset: u64, max: usize) -> Result<Option<Bytes>, Error> {
            let max = if Self::makes(Mistake::SnapshotCutShort) { 10 } else { max };
            let read = self.0.read_snapshot(slot, offset, max)?;
            let is_cut = Self::makes(Mistake::SnapshotCutShort) && offset > 0;
            Ok(read.map(|piece| if is_cut { Bytes::new() } else { piece }))
        }

        fn newest_snapshot(&self) -> Option<SnapshotMeta> {
            self.0.newest_snapshot()
        }

        fn compact(&mut self, through: Slot) -> Result<(), Error> {
            self.0.compact(through)
        }

        fn prove_last_write(&mut self) -> Result<(), Error> {
            self.0.prove_last_write()
        }
    }

    /// The rule that is broken first on storages with this mistake.
    fn broken<const MISTAKE: usize>() -> Option<Rule> {
        let run = |seed| Simulation::<Registers, StorageDisk<Wrong<MISTAKE>>>::of_seed(seed).run();
        (1..=40).find_map(|seed| run(seed).violation).map(|violation| violation.rule)
    }

    #[test]
    fn a_storage_with_a_mistake_breaks_a_rule() {
        let broken = [broken::<0>(), broken::<1>(), broken::<2>(), broken::<3>()];
        let rules = [Rule::NothingTakenBack, Rule::NothingTakenBack, Rule::NothingTakenBack, Rule::Assertion];
        assert_eq!(broken, rules.map(Some));
    }
}

#[cfg(feature = "file")]
mod file {
    use std::path::Path;

    use tempfile::TempDir;

    use super::*;
    use crate::StorageId;
    use crate::file::{FileSettings, FileStorage, format};

    /// So small that a run fills many.
    const SEGMENT_BYTES: u64 = 64 << 10;

    struct Directory(TempDir);

    impl Medium for Directory {
        type Storage = FileStorage;

        fn format(node: NodeId, seed: u64) -> Directory {
            // A run syncs thousands of times, each of which takes milliseconds on a disk. What a power cut
            // does to files is tested on simulated sectors; here they only have to be real.
            let in_memory = Path::new("/dev/shm");
            let directory =
                if in_memory.is_dir() { tempfile::tempdir_in(in_memory) } else { tempfile::tempdir() };
            let directory = directory.expect("a directory can be made");
            let storage = StorageId(u128::from(seed));
            let identity = Identity::existing(String::from("simulated"), node, storage);
            format(directory.path(), &identity).expect("an empty directory can be formatted");
            Directory(directory)
        }

        fn open(&mut self) -> Result<FileStorage, Error> {
            let settings = FileSettings::default().with(|settings| settings.segment_bytes = SEGMENT_BYTES);
            FileStorage::open(self.0.path(), settings)
        }
    }

    #[test]
    fn clusters_keep_every_rule_on_real_files() {
        run::<Directory>(1..=8);
    }
}
