//! META: the file that describes the directory.
//!
//! It has two copies of the description, each a block, written and synced one after the other with every change.
//! So whatever happens to one of them, a crash in the middle of a change or rot, the other is whole and tells
//! the state before or after that change; never an older one.
//!
//! ```text
//! offset size
//!      0    8  magic "paxosmet"
//!      8    2  version, 1
//!     10    1  length of the cluster's name
//!     11    1  count of snapshots, 0 to 2
//!     12    4  zero
//!     16    8  generation: the higher one of two whole copies counts
//!     24    8  node
//!     32   16  storage id
//!     48    8  number of the first segment
//!     56    8  number of the last segment that frames may go to
//!     64    8  sequence number of the first frame of the first segment
//!     72    4  chain of that frame
//!     76    4  zero
//!     80   64  cluster's name, padded with zeros
//!    144   24  newest snapshot: slot, size in bytes, CRC32C of all of it, four zeros
//!    168   24  the snapshot before
//!    192    2  count of known peers, 0 to 128
//!    194    6  zero
//!    200   24  for each known peer: node, storage id; in ascending order of nodes
//!              zero
//!   4092    4  CRC32C of bytes 0 to 4091
//!   4096       the second copy
//! ```

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Buf, BufMut};
use paxos_core::{NodeId, Slot, SnapshotMeta};

use super::buffer::{AlignedBuffer, BLOCK_BYTES};
use super::disk::{Access, Disk, DiskFile, is_bad_medium};
use super::frame::{Link, VERSION};
use super::scan::Span;
use crate::{Identity, MAX_PEERS, StorageId};

pub(super) const NAME: &str = "META";
pub(super) const NEW_NAME: &str = "META.new";
const MAGIC: &[u8; 8] = b"paxosmet";
const CHECKSUM_AT: usize = BLOCK_BYTES - 4;
const COPIES: usize = 2;

/// The longest name of a cluster.
pub(super) const MAX_CLUSTER_NAME_BYTES: usize = 64;
/// More segments than that are a mistake, not a log.
const MAX_SEGMENTS: u64 = 1 << 20;
/// How long the description of a snapshot is.
const SNAPSHOT_BYTES: usize = 24;
/// How many finished snapshots are kept.
pub(super) const KEPT_SNAPSHOTS: usize = 2;

/// What META says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Description {
    pub(super) identity: Identity,
    pub(super) first_segment: u64,
    pub(super) last_segment: u64,
    pub(super) first_frame: Link,
    /// Newest first.
    pub(super) snapshots: Vec<SnapshotMeta>,
    /// The storages of this node's peers.
    pub(super) peers: BTreeMap<NodeId, StorageId>,
}

impl Description {
    /// Where the log is.
    pub(super) fn span(&self, distrusted_through: Slot) -> Span {
        Span {
            fingerprint: self.identity.fingerprint(),
            first_segment: self.first_segment,
            last_segment: self.last_segment,
            first_frame: self.first_frame,
            distrusted_through,
        }
    }
}

/// The open file, shared by the log's writer and the thread that makes segments.
#[derive(Clone, Debug)]
pub(super) struct Meta {
    /// Never changes.
    identity: Arc<Identity>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    file: Box<dyn DiskFile>,
    buffer: AlignedBuffer,
    generation: u64,
    description: Description,
    /// A change has failed, so nobody knows what is on the disk.
    has_failed: bool,
}

/// Why META was not read.
#[derive(Debug)]
pub(super) enum ReadError {
    Io(io::Error),
    UnknownVersion(u16),
    Damaged,
}

impl Meta {
    /// Makes the file of a new directory, empty and under a temporary name.
    pub(super) fn begin(disk: &dyn Disk) -> io::Result<Box<dyn DiskFile>> {
        disk.create(NEW_NAME, Access::Direct)
    }

    /// Writes that file; it has its name, and all is stable, when this returns.
    pub(super) fn finish(
        disk: &dyn Disk,
        file: Box<dyn DiskFile>,
        description: Description,
    ) -> io::Result<()> {
        State::new(file, 0, description).write()?;
        disk.rename(NEW_NAME, NAME)?;
        disk.sync_directory()
    }

    /// Reads the file, and makes both copies whole and the same.
    pub(super) fn open(disk: &dyn Disk) -> Result<Meta, ReadError> {
        let (meta, outdated) = Meta::read(disk)?;
        let mut state = meta.lock();
        state.lay_out();
        for copy in outdated {
            // The other one is not touched: it is all there is until this one is stable.
            tracing::warn!(copy, "a copy in META was not up to date and is written anew");
            state.write_copy(copy).map_err(ReadError::Io)?;
        }
        drop(state);
        Ok(meta)
    }

    /// Reads the file, and tells which copies are bad or older than the other.
    pub(super) fn read(disk: &dyn Disk) -> Result<(Meta, Vec<usize>), ReadError> {
        let file = disk.open(NAME, Access::Direct).map_err(ReadError::Io)?;
        file.sync().map_err(ReadError::Io)?;
        let mut buffer = AlignedBuffer::default();
        let mut copies = Vec::new();
        for copy in 0..COPIES {
            let block = buffer.resize_zeroed(BLOCK_BYTES);
            match file.read_at(block, (copy * BLOCK_BYTES) as u64) {
                Err(error) if is_bad_medium(&error) => copies.push(None),
                read => copies.push(read.map(|()| decode(block)).map_err(ReadError::Io)?),
            }
        }
        let newest = copies.iter().flatten().max_by_key(|copy| copy.generation).ok_or(ReadError::Damaged)?;
        let generation = newest.generation;
        let description = match &newest.description {
            Ok(description) => description.clone().ok_or(ReadError::Damaged)?,
            Err(version) => return Err(ReadError::UnknownVersion(*version)),
        };
        let is_newest = |copy: &Option<Copy>| copy.as_ref().is_some_and(|copy| copy.generation == generation);
        let outdated = (0..COPIES).filter(|copy| !is_newest(&copies[*copy])).collect();
        let identity = Arc::new(description.identity.clone());
        let state = Arc::new(State::new(file, generation, description).into());
        Ok((Meta { identity, state }, outdated))
    }

    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// As it is now.
    pub(super) fn description(&self) -> Description {
        self.lock().description.clone()
    }

    /// Replaces the description; it is stable when this returns. After an error it may be either one, and no later
    /// change succeeds.
    pub(super) fn change(&self, change: impl FnOnce(&mut Description)) -> io::Result<()> {
        let mut state = self.lock();
        if state.has_failed {
            return Err(io::Error::other("an earlier change has failed"));
        }
        change(&mut state.description);
        let result = state.write();
        state.has_failed = result.is_err();
        result
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn new(file: Box<dyn DiskFile>, generation: u64, description: Description) -> State {
        State { file, buffer: AlignedBuffer::default(), generation, description, has_failed: false }
    }

    fn write(&mut self) -> io::Result<()> {
        self.generation += 1;
        self.lay_out();
        (0..COPIES).try_for_each(|copy| self.write_copy(copy))
    }

    /// Makes the bytes of a copy; [`write_copy`](State::write_copy) writes them.
    fn lay_out(&mut self) {
        encode(self.buffer.resize_zeroed(BLOCK_BYTES), self.generation, &self.description);
    }

    fn write_copy(&mut self, copy: usize) -> io::Result<()> {
        self.file.write_at(self.buffer.as_slice(), (copy * BLOCK_BYTES) as u64)?;
        self.file.sync()
    }
}

/// A whole copy.
#[derive(Debug)]
struct Copy {
    generation: u64,
    /// Or the version that it has instead of ours. `None` if it contradicts itself.
    description: Result<Option<Description>, u16>,
}

fn encode(block: &mut [u8], generation: u64, description: &Description) {
    let identity = &description.identity;
    let name = identity.cluster().as_bytes();
    let snapshots = &description.snapshots;
    assert!(snapshots.len() <= KEPT_SNAPSHOTS, "no more snapshots are described than kept");
    assert!(name.len() <= MAX_CLUSTER_NAME_BYTES, "format has checked the length of the name");
    let mut rest = &mut block[..CHECKSUM_AT];
    rest.put_slice(MAGIC);
    rest.put_u16_le(VERSION);
    rest.put_u8(u8::try_from(name.len()).expect("at most 64"));
    rest.put_u8(u8::try_from(snapshots.len()).expect("at most two"));
    rest.put_bytes(0, 4);
    rest.put_u64_le(generation);
    rest.put_u64_le(identity.node().0);
    rest.put_u128_le(identity.storage().0);
    rest.put_u64_le(description.first_segment);
    rest.put_u64_le(description.last_segment);
    rest.put_u64_le(description.first_frame.sequence);
    rest.put_u32_le(description.first_frame.chain);
    rest.put_bytes(0, 4);
    rest.put_slice(name);
    rest.put_bytes(0, MAX_CLUSTER_NAME_BYTES - name.len());
    for meta in snapshots {
        rest.put_u64_le(meta.slot.0);
        rest.put_u64_le(meta.size_bytes);
        rest.put_u32_le(meta.checksum);
        rest.put_bytes(0, 4);
    }
    rest.put_bytes(0, (KEPT_SNAPSHOTS - snapshots.len()) * SNAPSHOT_BYTES);
    rest.put_u16_le(u16::try_from(description.peers.len()).expect("at most 128"));
    rest.put_bytes(0, 6);
    for (node, storage) in &description.peers {
        rest.put_u64_le(node.0);
        rest.put_u128_le(storage.0);
    }
    let checksum = crc32c::crc32c(&block[..CHECKSUM_AT]);
    block[CHECKSUM_AT..BLOCK_BYTES].copy_from_slice(&checksum.to_le_bytes());
}

fn decode(block: &[u8]) -> Option<Copy> {
    let bytes = block.get(..BLOCK_BYTES)?;
    let checksum = (&bytes[CHECKSUM_AT..]).get_u32_le();
    if !bytes.starts_with(MAGIC) || crc32c::crc32c(&bytes[..CHECKSUM_AT]) != checksum {
        return None;
    }
    let mut rest = &bytes[MAGIC.len()..];
    let version = rest.get_u16_le();
    let name_bytes = usize::from(rest.get_u8());
    let snapshot_count = usize::from(rest.get_u8());
    rest.advance(4);
    let generation = rest.get_u64_le();
    let description =
        if version == VERSION { Ok(decode_rest(rest, name_bytes, snapshot_count)) } else { Err(version) };
    Some(Copy { generation, description })
}

fn decode_rest(mut rest: &[u8], name_bytes: usize, snapshot_count: usize) -> Option<Description> {
    let node = NodeId(rest.get_u64_le());
    let storage = StorageId(rest.get_u128_le());
    let first_segment = rest.get_u64_le();
    let last_segment = rest.get_u64_le();
    let sequence = rest.get_u64_le();
    let chain = rest.get_u32_le();
    rest.advance(4);
    let name = rest.get(..MAX_CLUSTER_NAME_BYTES)?.get(..name_bytes)?;
    let identity = Identity::existing(String::from_utf8(name.to_vec()).ok()?, node, storage);
    rest.advance(MAX_CLUSTER_NAME_BYTES);
    let mut snapshots = Vec::new();
    for _ in 0..snapshot_count.min(KEPT_SNAPSHOTS) {
        let slot = Slot(rest.get_u64_le());
        let size_bytes = rest.get_u64_le();
        let checksum = rest.get_u32_le();
        rest.advance(4);
        snapshots.push(SnapshotMeta { slot, size_bytes, checksum });
    }
    rest.advance((KEPT_SNAPSHOTS - snapshots.len()) * SNAPSHOT_BYTES);
    let peer_count = usize::from(rest.get_u16_le()).min(MAX_PEERS);
    rest.advance(6);
    let mut peers = BTreeMap::new();
    for _ in 0..peer_count {
        peers.insert(NodeId(rest.get_u64_le()), StorageId(rest.get_u128_le()));
    }
    let first_frame = Link { sequence, chain };
    if last_segment.checked_sub(first_segment).is_none_or(|more| more >= MAX_SEGMENTS) {
        return None;
    }
    Some(Description { identity, first_segment, last_segment, first_frame, snapshots, peers })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::disk::SystemDisk;

    fn description() -> Description {
        let snapshot = |slot| SnapshotMeta { slot: Slot(slot), size_bytes: 10 * slot, checksum: 7 };
        Description {
            identity: Identity::existing(String::from("a cluster"), NodeId(3), StorageId(4)),
            first_segment: 5,
            last_segment: 6,
            first_frame: Link { sequence: 77, chain: 88 },
            snapshots: vec![snapshot(200), snapshot(100)],
            peers: BTreeMap::from([(NodeId(1), StorageId(11)), (NodeId(2), StorageId(22))]),
        }
    }

    #[test]
    fn every_flipped_bit_of_a_copy_is_seen() {
        let mut block = vec![0; BLOCK_BYTES];
        encode(&mut block, 9, &description());
        let copy = decode(&block).expect("the copy is whole");
        assert_eq!((copy.generation, copy.description), (9, Ok(Some(description()))));
        for bit in 0..BLOCK_BYTES * 8 {
            block[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&block).is_none(), "bit {bit}");
            block[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn one_bad_copy_is_made_whole_and_two_are_refused() -> io::Result<()> {
        let directory = tempfile::tempdir()?;
        let disk = SystemDisk::new(directory.path().to_owned());
        let path = directory.path().join(NAME);
        Meta::finish(&disk, Meta::begin(&disk)?, description())?;
        let whole = std::fs::read(&path)?;
        assert_eq!(whole.len(), COPIES * BLOCK_BYTES);
        for copy in 0..COPIES {
            let mut bad = whole.clone();
            bad[copy * BLOCK_BYTES..(copy + 1) * BLOCK_BYTES].fill(0xff);
            std::fs::write(&path, &bad)?;
            let meta = Meta::open(&disk).expect("the other copy is whole");
            assert_eq!(meta.description(), description());
            let healed = std::fs::read(&path)?;
            assert_eq!(healed[..BLOCK_BYTES], healed[BLOCK_BYTES..]);
        }
        std::fs::write(&path, vec![0; whole.len()])?;
        assert!(matches!(Meta::open(&disk), Err(ReadError::Damaged)));
        Ok(())
    }
}
