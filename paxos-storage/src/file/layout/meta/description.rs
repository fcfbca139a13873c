//! The contents of META, and their bytes: one block for each of the two copies.
//!
//! ```text
//! offset size
//!      0    8  magic "paxosmet"
//!      8    2  version: 3 while all is of the first format level, else 4
//!     10    1  length of the cluster's name
//!     11    1  count of snapshots, 0 to 2
//!     12    2  format level, in version 4 and in every later one; zero in version 3
//!     14    2  zero
//!     16    8  generation: the higher one of two whole copies counts
//!     24    8  node
//!     32   16  storage id
//!     48    8  number of the first segment
//!     56    8  number of the last segment that frames may go to
//!     64    8  sequence number of the first frame of the first segment
//!     72    4  chain of that frame
//!     76    4  zero
//!     80   64  cluster's name, padded with zeros
//!    144   32  newest snapshot:
//!                 slot (8), size in bytes (8), CRC32C of all of it (4),
//!                 length (4) and CRC32C (4) of its membership, zero if it has none; four zeros
//!    176   32  the snapshot before
//!    208    2  count of known peers, 0 to 80
//!    210    1  1 if the node is a member of a cluster, else 0
//!    211    1  1 if a newer copy of this directory is known, else 0
//!    212    4  zero
//!    216   16  latest start of the node: number, nonce
//!    232   16  id of the founding; zero if there was none or it is not known
//!    248    8  length (4) and CRC32C (4) of the founding membership, zero if there was none
//!    256   40  for each known peer: node, storage id, number and nonce of its latest start; in ascending order of nodes
//!   3456    1  origin: 0 the cluster itself, 1 a backup, 2 a rescue
//!   3457   16  id of what was restored, or of the founding that was rescued
//!   3473    8  group, 0: the `GroupId` that the log is of
//!              zero
//!   4092    4  CRC32C of bytes 0 to 4091
//!   4096       the second copy
//!   8192       founding membership of the first copy, if there was one
//!  61440       founding membership of the second copy
//! ```
//!
//! The membership of a snapshot follows its state in the file of the snapshot.
//!
//! The format level is the highest one of the memberships that META names. So a program that does not know
//! version 4, or the level, refuses the directory before it reads anything else. What the log holds behind
//! the newest snapshot is told by its records.
//!
//! A directory of another group than 0 is refused. A program that writes one takes another version for it, as
//! older programs do not look there.
//!
//! Versions 1 and 2 are still read; see [`older`](super::older).

use bytes::{Buf, BufMut};
use paxos_core::{FormatLevel, GroupId, Membership, NodeId};

use super::older::{self, VERSION_OF_MEMBER_IDS, VERSION_WITHOUT_FOUNDING};
use crate::codec::membership::{MAX_MEMBERSHIP_BYTES, MembershipSum};
use crate::codec::registry::{put_origin, put_registry, take_origin, take_registry};
use crate::codec::snapshot::SnapshotRecord;
use crate::file::disk::buffer::{BLOCK_BYTES, round_up};
use crate::file::layout::frame::Link;
use crate::{Identity, Registry, StorageId};

const MAGIC: &[u8; 8] = b"paxosmet";
/// The version in which META is written, unless all is of the first format level. Segments and frames have
/// their own.
const VERSION: u16 = 4;
/// The version that knows the first level only.
const VERSION_WITHOUT_LEVEL: u16 = 3;
/// Where the format level stands.
const LEVEL_AT: usize = 12;
const CHECKSUM_AT: usize = BLOCK_BYTES - 4;

/// The longest name of a cluster, in bytes.
pub(crate) const MAX_CLUSTER_NAME_BYTES: usize = 64;
/// How many finished snapshots are kept.
pub(crate) const KEPT_SNAPSHOTS: usize = 2;
/// A META that names more segments than this is damaged.
const MAX_SEGMENTS: u64 = 1 << 20;
const FOUNDING_SUM_AT: usize = 248;
const ORIGIN_AT: usize = 3456;
const GROUP_AT: usize = 3473;
/// The room for the founding membership of one copy.
pub(super) const FOUNDING_BYTES: usize = round_up(MAX_MEMBERSHIP_BYTES);

/// The contents of META.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Description {
    pub(crate) identity: Identity,
    pub(crate) first_segment: u64,
    pub(crate) last_segment: u64,
    pub(crate) first_frame: Link,
    /// Newest first.
    pub(crate) snapshots: Vec<SnapshotRecord>,
    /// See [`Storage::remember`](crate::Storage::remember).
    pub(crate) registry: Registry,
    /// The highest format level of a membership of the above. It never goes back.
    pub(crate) format_level: FormatLevel,
}

/// A copy with right checksums.
#[derive(Debug)]
pub(super) struct MetaCopy {
    pub(super) generation: u64,
    /// `None` if the description contradicts itself.
    pub(super) description: Result<Option<Description>, Unknown>,
}

/// Why a copy that is whole can't be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unknown {
    /// It has a version that is not known.
    Version(u16),
    /// It is of a format level that is not known.
    Level(FormatLevel),
    /// It is of another group than the only one that is known.
    Group(GroupId),
}

/// The bytes of the founding membership; none if there was no founding.
pub(super) fn encode_founding(description: &Description) -> bytes::Bytes {
    let founding = description.registry.founding.as_ref();
    founding.map(|founding| founding.membership.encode()).unwrap_or_default()
}

/// Encodes a copy into `block`. `founding` is what [`encode_founding`] has returned.
pub(super) fn encode(block: &mut [u8], generation: u64, description: &Description, founding: &[u8]) {
    let identity = &description.identity;
    let name = identity.cluster().as_bytes();
    let snapshots = &description.snapshots;
    assert!(snapshots.len() <= KEPT_SNAPSHOTS, "no more snapshots are described than kept");
    assert!(name.len() <= MAX_CLUSTER_NAME_BYTES, "format has checked the length of the name");
    let mut rest = &mut block[..CHECKSUM_AT];
    rest.put_slice(MAGIC);
    let level = description.format_level;
    let is_told = level > FormatLevel::FIRST;
    rest.put_u16_le(if is_told { VERSION } else { VERSION_WITHOUT_LEVEL });
    rest.put_u8(u8::try_from(name.len()).expect("at most 64"));
    rest.put_u8(u8::try_from(snapshots.len()).expect("at most two"));
    rest.put_u16_le(if is_told { level.0 } else { 0 });
    rest.put_bytes(0, 2);
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
    for record in snapshots {
        record.put(&mut rest);
    }
    rest.put_bytes(0, (KEPT_SNAPSHOTS - snapshots.len()) * SnapshotRecord::BYTES);
    put_registry(&mut rest, &description.registry, founding);
    put_origin(&mut &mut block[ORIGIN_AT..CHECKSUM_AT], description.registry.origin);
    block[GROUP_AT..GROUP_AT + 8].copy_from_slice(&GroupId::ONLY.0.to_le_bytes());
    let checksum = crc32c::crc32c(&block[..CHECKSUM_AT]);
    block[CHECKSUM_AT..BLOCK_BYTES].copy_from_slice(&checksum.to_le_bytes());
}

/// Reads a copy from its block and from the bytes in the room for its founding membership. `None` if one of
/// them has a wrong checksum.
pub(super) fn decode(block: &[u8], founding: &[u8]) -> Option<MetaCopy> {
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
    let format_level = match version {
        VERSION.. => FormatLevel((&bytes[LEVEL_AT..]).get_u16_le()),
        _ => FormatLevel::FIRST,
    };
    if !format_level.is_known() {
        return Some(MetaCopy { generation, description: Err(Unknown::Level(format_level)) });
    }
    let group = match version {
        VERSION_WITHOUT_LEVEL | VERSION => GroupId((&bytes[GROUP_AT..]).get_u64_le()),
        _ => GroupId::ONLY,
    };
    if group != GroupId::ONLY {
        return Some(MetaCopy { generation, description: Err(Unknown::Group(group)) });
    }
    let founding = match version {
        VERSION_WITHOUT_LEVEL | VERSION => match MembershipSum::take(&mut &bytes[FOUNDING_SUM_AT..]) {
            Ok(None) => None,
            Ok(Some(sum)) => Some(sum.decode(founding)?),
            Err(()) => return None,
        },
        _ => None,
    };
    let description = match version {
        VERSION_WITHOUT_FOUNDING | VERSION_OF_MEMBER_IDS => {
            Ok(decode_rest(rest, version, name_bytes, snapshot_count, founding))
        }
        VERSION_WITHOUT_LEVEL | VERSION => {
            let description = decode_rest(rest, version, name_bytes, snapshot_count, founding);
            let description =
                description.and_then(|description| with_origin(description, &bytes[ORIGIN_AT..]));
            Ok(description.map(|description| Description { format_level, ..description }))
        }
        other => Err(Unknown::Version(other)),
    };
    Some(MetaCopy { generation, description })
}

fn decode_rest(
    mut rest: &[u8],
    version: u16,
    name_bytes: usize,
    snapshot_count: usize,
    founding: Option<Membership>,
) -> Option<Description> {
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
    let snapshot_count = snapshot_count.min(KEPT_SNAPSHOTS);
    let snapshots = match version {
        VERSION_WITHOUT_FOUNDING | VERSION_OF_MEMBER_IDS => {
            older::decode_snapshots(&mut rest, snapshot_count)
        }
        _ => decode_snapshots(&mut rest, snapshot_count)?,
    };
    let registry = match version {
        VERSION_WITHOUT_FOUNDING => older::decode_peers_alone(rest)?,
        VERSION_OF_MEMBER_IDS => older::decode_registry(rest)?,
        _ => take_registry(&mut rest, founding)?,
    };
    let first_frame = Link { sequence, chain };
    if last_segment.checked_sub(first_segment).is_none_or(|more| more >= MAX_SEGMENTS) {
        return None;
    }
    let format_level = FormatLevel::FIRST;
    Some(Description {
        identity,
        first_segment,
        last_segment,
        first_frame,
        snapshots,
        registry,
        format_level,
    })
}

fn with_origin(mut description: Description, mut origin: &[u8]) -> Option<Description> {
    description.registry.origin = take_origin(&mut origin).ok()?;
    Some(description)
}

fn decode_snapshots(rest: &mut &[u8], count: usize) -> Option<Vec<SnapshotRecord>> {
    let mut snapshots = Vec::new();
    for _ in 0..count {
        snapshots.push(SnapshotRecord::take(rest)?);
    }
    rest.advance((KEPT_SNAPSHOTS - count) * SnapshotRecord::BYTES);
    Some(snapshots)
}

/// A description with everything in it.
#[cfg(test)]
pub(super) fn example() -> Description {
    use crate::{Founding, FoundingId, Origin, Start};
    let membership = Membership::new(&[1, 2, 3].map(NodeId)).expect("these members fit");
    let sum = MembershipSum::of(&membership.encode());
    let snapshot = |slot, membership| SnapshotRecord {
        slot: paxos_core::Slot(slot),
        size_bytes: 10 * slot,
        checksum: 7,
        membership,
    };
    Description {
        identity: Identity::existing(String::from("a cluster"), NodeId(3), StorageId(4)),
        first_segment: 5,
        last_segment: 6,
        first_frame: Link { sequence: 77, chain: 88 },
        snapshots: vec![snapshot(200, Some(sum)), snapshot(100, None)],
        registry: Registry {
            start: Start { number: 2, nonce: 3 },
            is_superseded: true,
            founding: Some(Founding { id: Some(FoundingId(6)), membership }),
            origin: Some(Origin::Rescue { of: FoundingId(7) }),
            peers: [(1, 11), (2, 22)].map(known_peer).into(),
        },
        format_level: FormatLevel::NEWEST,
    }
}

#[cfg(test)]
fn known_peer((node, storage): (u64, u128)) -> (NodeId, crate::KnownPeer) {
    let start = crate::Start { number: 10 * node, nonce: 100 * node };
    (NodeId(node), crate::KnownPeer { storage: StorageId(storage), start })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Founding;
    use crate::codec::membership::longest_membership;

    #[test]
    fn every_flipped_bit_of_a_copy_is_seen() {
        let mut block = vec![0; BLOCK_BYTES];
        let mut founding = encode_founding(&example()).to_vec();
        encode(&mut block, 9, &example(), &founding);
        let copy = decode(&block, &founding).expect("the copy is whole");
        assert_eq!((copy.generation, copy.description), (9, Ok(Some(example()))));
        for bit in 0..BLOCK_BYTES * 8 {
            block[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&block, &founding).is_none(), "bit {bit}");
            block[bit / 8] ^= 1 << (bit % 8);
        }
        for bit in 0..founding.len() * 8 {
            founding[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&block, &founding).is_none(), "bit {bit} of the founding membership");
            founding[bit / 8] ^= 1 << (bit % 8);
        }
        assert!(decode(&block, &[]).is_none(), "the founding membership is missing");
    }

    #[test]
    fn a_directory_of_another_group_is_told_from_damage() {
        let (mut block, founding) = (vec![0; BLOCK_BYTES], encode_founding(&example()));
        for (at, group) in [(GROUP_AT, 1), (GROUP_AT + 7, 1 << 56)] {
            encode(&mut block, 9, &example(), &founding);
            block[at] = 1;
            let sum = crc32c::crc32c(&block[..CHECKSUM_AT]);
            block[CHECKSUM_AT..].copy_from_slice(&sum.to_le_bytes());
            let read = decode(&block, &founding).expect("the copy is whole").description;
            assert_eq!(read, Err(Unknown::Group(GroupId(group))));
        }
    }

    /// The block of a description with other bytes at its beginning, and a right checksum.
    fn forged(version: u16, level: u16) -> Result<Option<Description>, Unknown> {
        let (mut block, founding) = (vec![0; BLOCK_BYTES], encode_founding(&example()));
        encode(&mut block, 9, &example(), &founding);
        block[8..10].copy_from_slice(&version.to_le_bytes());
        block[LEVEL_AT..LEVEL_AT + 2].copy_from_slice(&level.to_le_bytes());
        let sum = crc32c::crc32c(&block[..CHECKSUM_AT]);
        block[CHECKSUM_AT..].copy_from_slice(&sum.to_le_bytes());
        decode(&block, &founding).expect("the copy is whole").description
    }

    #[test]
    fn an_unknown_version_or_level_is_told_from_damage() {
        let newest = FormatLevel::NEWEST.0;
        assert_eq!(forged(VERSION, newest), Ok(Some(example())));
        for version in [VERSION, VERSION + 1] {
            for level in [0, newest + 1, u16::MAX] {
                assert_eq!(forged(version, level), Err(Unknown::Level(FormatLevel(level))));
            }
        }
        assert_eq!(forged(VERSION + 1, newest), Err(Unknown::Version(VERSION + 1)));
        let first = Description { format_level: FormatLevel::FIRST, ..example() };
        assert_eq!(forged(VERSION_WITHOUT_LEVEL, 0), Ok(Some(first)), "it knows of no level");
    }

    #[test]
    fn there_is_room_for_everything_at_its_largest() {
        let mut largest = example();
        largest.identity =
            Identity::existing("n".repeat(MAX_CLUSTER_NAME_BYTES), NodeId(u64::MAX), StorageId(u128::MAX));
        let peers = u64::try_from(Registry::MAX_PEERS).expect("a small number");
        largest.registry.peers = (1..=peers).map(|node| known_peer((node, u128::MAX))).collect();
        largest.registry.founding = Some(Founding { id: None, membership: longest_membership() });
        let (mut block, founding) = (vec![0; BLOCK_BYTES], encode_founding(&largest));
        assert!(founding.len() <= FOUNDING_BYTES);
        encode(&mut block, 1, &largest, &founding);
        let copy = decode(&block, &founding).expect("the copy is whole");
        assert_eq!(copy.description, Ok(Some(largest)));
    }
}
