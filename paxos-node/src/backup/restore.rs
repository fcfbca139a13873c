//! Makes the storage of a founder of a new cluster from a backup.

use std::io::{self, Read, Write};
use std::path::Path;

use paxos_core::{Membership, NodeId, Slot, SnapshotMeta};
use paxos_storage::file::{self, FileSettings, FileStorage};
use paxos_storage::{Identity, Origin, Registry, RestoreId, Storage};
use ring::digest::{Context, SHA256};

use super::reader::load;
use super::{BackupError, Sha256, Verified};

/// The snapshot is written in pieces of this size.
const PIECE_BYTES: usize = 1 << 20;

/// A founder of the new cluster.
#[derive(Clone, Debug)]
pub struct NewNode<'a> {
    /// Its id.
    pub id: NodeId,
    /// The name of the new cluster; `None` for that of the backup.
    pub cluster: Option<&'a str>,
    /// By how much revisions are raised: the same for all founders.
    pub raise_revisions_by: u64,
}

/// What has become of a backup.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Restored {
    /// The backup.
    pub backup: Verified,
    /// The name of the new cluster.
    pub cluster: String,
    /// The revision from which the new cluster goes on.
    pub revision: u64,
    /// What all founders must have in common.
    pub id: RestoreId,
}

/// Makes `directory`, which must be empty or missing, the storage of a founder of a new cluster that begins
/// with the state of a backup. Nothing is written before the whole backup was checked.
///
/// The cluster is new: no node of the old one takes it for its own, and sessions of the old one are not known
/// in it. Founders that were not restored from the same backup, under the same name and with revisions raised
/// alike, refuse each other. Revisions, slots and the time of the log go on from those in the backup.
///
/// # Errors
///
/// [`BackupError`]. After an error of the storage, a node can't be started on it.
pub fn restore(source: impl Read, node: &NewNode<'_>, directory: &Path) -> Result<Restored, BackupError> {
    let (backup, mut replicated) = load(source)?;
    let cluster = node.cluster.unwrap_or(&backup.description.cluster).to_owned();
    if !replicated.state.raise_revision(node.raise_revisions_by) {
        let (revision, by) = (backup.revision, node.raise_revisions_by);
        return Err(BackupError::TooManyRevisions { revision, by });
    }
    replicated.forget_sessions();
    let id = restore_id(backup.sha256, &cluster, node.raise_revisions_by);
    file::format(directory, &Identity::new(&cluster, node.id))?;
    let mut storage = FileStorage::open(directory, FileSettings::default())?;
    // First, so that a storage on which this does not come to its end is known by it.
    storage.remember(&Registry { origin: Some(Origin::Backup(id)), ..Registry::default() })?;
    storage.recover()?;
    let slot = Slot(backup.description.slot);
    let mut pieces = Pieces { storage: &mut storage, slot, offset: 0, checksum: 0, buffer: Vec::new() };
    let snapshot = replicated.snapshot().map_err(|error| BackupError::Io(io::Error::other(error)))?;
    snapshot(&mut pieces)?;
    pieces.flush()?;
    let (size_bytes, checksum) = (pieces.offset, pieces.checksum);
    // Of the founding epoch, so that the founders count, who are named when the nodes are started.
    let membership = Membership::new(&[node.id]).map_err(|error| BackupError::Io(io::Error::other(error)))?;
    storage.finish_snapshot(SnapshotMeta { slot, size_bytes, checksum, membership })?;
    storage.prove_last_write()?;
    let revision = replicated.state.revision();
    Ok(Restored { backup, cluster, revision, id })
}

fn restore_id(backup: Sha256, cluster: &str, raised_by: u64) -> RestoreId {
    let mut digest = Context::new(&SHA256);
    digest.update(&backup.0);
    digest.update(&raised_by.to_le_bytes());
    digest.update(cluster.as_bytes());
    let digest = digest.finish();
    let (first, _) = digest.as_ref().split_first_chunk().expect("SHA-256 has more than 16 bytes");
    RestoreId(u128::from_be_bytes(*first))
}

/// Cuts a stream into pieces of a snapshot.
struct Pieces<'a> {
    storage: &'a mut FileStorage,
    slot: Slot,
    offset: u64,
    checksum: u32,
    buffer: Vec<u8>,
}

impl Pieces<'_> {
    fn hand_over(&mut self) -> io::Result<()> {
        self.storage.write_snapshot(self.slot, self.offset, &self.buffer).map_err(io::Error::other)?;
        if let Some(work) = self.storage.deferred_work() {
            work().map_err(io::Error::other)?;
        }
        self.offset += self.buffer.len() as u64;
        self.checksum = crc32c::crc32c_append(self.checksum, &self.buffer);
        self.buffer.clear();
        Ok(())
    }
}

impl Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE_BYTES {
            self.hand_over()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() { Ok(()) } else { self.hand_over() }
    }
}
