//! The other way round: a simulated disk as a storage.

use std::fmt;
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use paxos_core::sim::Disk;
use paxos_core::{Durable, Recovered, Slot, SnapshotMeta, Write};

use crate::lock::lock;
use crate::storage::refuse_long_values;
use crate::{Error, ErrorKind, Identity, Registry, Storage, UnfinishedSnapshots};

/// A storage that is a [`Disk`] of the simulator, for experiments with whole nodes on a disk that was written
/// for it. Clones share the disk, so one of them is what is left when another was dropped, as after a crash.
///
/// The registry and the identity, which a [`Disk`] does not have, are in memory beside it.
pub struct DiskStorage<D> {
    identity: Identity,
    kept: Arc<Mutex<Kept<D>>>,
}

struct Kept<D> {
    disk: D,
    registry: Registry,
    unfinished: UnfinishedSnapshots<BytesMut>,
}

impl<D: Disk> DiskStorage<D> {
    /// An empty disk of the node in `identity`, which draws from `seed`.
    #[must_use]
    pub fn new(identity: Identity, seed: u64) -> DiskStorage<D> {
        let kept = Kept {
            disk: D::format(identity.node(), seed),
            registry: Registry::default(),
            unfinished: UnfinishedSnapshots::default(),
        };
        DiskStorage { identity, kept: Arc::new(Mutex::new(kept)) }
    }
}

impl<D> Clone for DiskStorage<D> {
    fn clone(&self) -> Self {
        DiskStorage { identity: self.identity.clone(), kept: Arc::clone(&self.kept) }
    }
}

impl<D> fmt::Debug for DiskStorage<D> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("DiskStorage").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl<D: Disk + Send> Storage for DiskStorage<D> {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn registry(&self) -> Registry {
        lock(&self.kept).registry.clone()
    }

    fn remember(&mut self, registry: &Registry) -> Result<(), Error> {
        registry.assert_bounded();
        lock(&self.kept).registry.clone_from(registry);
        Ok(())
    }

    fn recover(&mut self) -> Result<Recovered, Error> {
        let mut kept = lock(&self.kept);
        kept.unfinished = UnfinishedSnapshots::default();
        kept.disk.recover().map_err(|problem| Error::foreign(ErrorKind::Damaged, problem))
    }

    fn persist(&mut self, write: Write) -> Result<Durable, Error> {
        refuse_long_values(&write)?;
        lock(&self.kept).disk.store(&write);
        Ok(write.into_durable())
    }

    fn write_snapshot(&mut self, slot: Slot, offset: u64, piece: &[u8]) -> Result<(), Error> {
        let mut kept = lock(&self.kept);
        if offset == 0 {
            drop(kept.unfinished.begin(slot, BytesMut::new()));
        }
        kept.unfinished.write(slot, offset, piece, |bytes| {
            bytes.extend_from_slice(piece);
            Ok(())
        })
    }

    fn finish_snapshot(&mut self, meta: SnapshotMeta) -> Result<(), Error> {
        let mut kept = lock(&self.kept);
        let content = kept.unfinished.finish(&meta)?.unwrap_or_default().freeze();
        kept.disk.save_snapshot(meta, &content);
        Ok(())
    }

    fn read_snapshot(&mut self, slot: Slot, offset: u64, max_bytes: usize) -> Result<Option<Bytes>, Error> {
        Ok(lock(&self.kept).disk.snapshot(slot).map(|(_, content)| {
            let start = usize::try_from(offset).map_or(content.len(), |offset| offset.min(content.len()));
            content.slice(start..start.saturating_add(max_bytes).min(content.len()))
        }))
    }

    fn newest_snapshot(&self) -> Option<SnapshotMeta> {
        let kept = lock(&self.kept);
        kept.disk.snapshot(kept.disk.newest_snapshot()?).map(|(meta, _)| meta)
    }

    /// Does nothing: a [`Disk`] forgets by itself what a snapshot covers.
    fn compact(&mut self, _: Slot) -> Result<(), Error> {
        Ok(())
    }

    fn prove_last_write(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use paxos_core::NodeId;
    use paxos_core::sim::ModelDisk;

    use super::*;
    use crate::conformance::{self, Backend};

    struct Model(DiskStorage<ModelDisk>);

    fn empty() -> DiskStorage<ModelDisk> {
        DiskStorage::new(Identity::new("conformance", NodeId(1)), 1)
    }

    impl Backend for Model {
        fn make(&mut self) -> Box<dyn Storage> {
            self.0 = empty();
            Box::new(self.0.clone())
        }

        fn open_again(&mut self) -> Box<dyn Storage> {
            Box::new(self.0.clone())
        }
    }

    #[test]
    fn the_model_of_a_disk_conforms_as_a_storage() {
        conformance::check(&mut Model(empty()));
    }
}
