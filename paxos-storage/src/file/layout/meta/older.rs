//! The parts of META that older versions laid out differently.
//!
//! Version 2 knew the ids of the members only, and no memberships of snapshots:
//!
//! ```text
//! offset size
//!    144   24  newest snapshot: slot, size in bytes, CRC32C of all of it, four zeros
//!    168   24  the snapshot before
//!    192    2  count of known peers, 0 to 80
//!    194    6  zero
//!    200   16  latest start of the node: number, nonce
//!    216   16  id of the founding; zero if there was none or it is not known
//!    232    8  epoch of the members
//!    240    1  1 if the node is a member of a cluster, else 0
//!    241    1  1 if a newer copy of this directory is known, else 0
//!    242    2  count of members, 0 to 64
//!    244    4  zero
//!    248  512  members, in ascending order
//!    760   40  for each known peer: node, storage id, number and nonce of its latest start; in ascending order of nodes
//! ```
//!
//! Version 1, the oldest, lacks the node's start and its cluster, too: up to 128 known peers, each with node
//! and storage id, follow from byte 200 on.
//!
//! META is written anew in the present version when it changes for the first time, one copy after the other
//! as in any change. A segment is added to META before it gets a frame, so there are no frames of the present
//! version as long as META has an older one.

use bytes::Buf;
use paxos_core::{Epoch, MAX_MEMBERS, Membership, NodeId, Slot};

use super::description::KEPT_SNAPSHOTS;
use crate::codec::registry::take_start;
use crate::codec::snapshot::SnapshotRecord;
use crate::{Founding, FoundingId, KnownPeer, Registry, Start, StorageId};

/// The version without the node's start and its cluster.
pub(super) const VERSION_WITHOUT_FOUNDING: u16 = 1;
/// The version that knows the ids of the founding members, and nothing else of them.
pub(super) const VERSION_OF_MEMBER_IDS: u16 = 2;

/// The length of a snapshot's description.
const SNAPSHOT_BYTES: usize = 24;

/// Reads the snapshots of versions 1 and 2.
pub(super) fn decode_snapshots(rest: &mut &[u8], count: usize) -> Vec<SnapshotRecord> {
    let mut snapshots = Vec::new();
    for _ in 0..count {
        let slot = Slot(rest.get_u64_le());
        let size_bytes = rest.get_u64_le();
        let checksum = rest.get_u32_le();
        rest.advance(4);
        snapshots.push(SnapshotRecord { slot, size_bytes, checksum, membership: None });
    }
    rest.advance((KEPT_SNAPSHOTS - count) * SNAPSHOT_BYTES);
    snapshots
}

/// Reads the registry of version 2.
pub(super) fn decode_registry(mut rest: &[u8]) -> Option<Registry> {
    let peer_count = usize::from(rest.get_u16_le());
    rest.advance(6);
    let start = take_start(&mut rest);
    let id = Some(rest.get_u128_le()).filter(|id| *id != 0).map(FoundingId);
    let epoch = Epoch(rest.get_u64_le());
    let (is_founded, is_superseded) = (rest.get_u8() == 1, rest.get_u8() == 1);
    let member_count = usize::from(rest.get_u16_le());
    rest.advance(4);
    if peer_count > Registry::MAX_PEERS || member_count > MAX_MEMBERS {
        return None;
    }
    let mut members = rest.get(..MAX_MEMBERS * size_of::<u64>())?;
    rest.advance(members.len());
    let members: Vec<NodeId> = (0..member_count).map(|_| NodeId(members.get_u64_le())).collect();
    let founding = if is_founded {
        let membership = Membership::new(&members).ok()?.in_epoch(epoch);
        Some(Founding { id, membership })
    } else {
        None
    };
    let peer = |_| {
        let (node, storage) = (NodeId(rest.get_u64_le()), StorageId(rest.get_u128_le()));
        (node, KnownPeer { storage, start: take_start(&mut rest) })
    };
    let peers = (0..peer_count).map(peer).collect();
    Some(Registry { start, is_superseded, founding, origin: None, peers })
}

/// Reads the registry of version 1, which holds peers only.
pub(super) fn decode_peers_alone(mut rest: &[u8]) -> Option<Registry> {
    let peer_count = usize::from(rest.get_u16_le());
    rest.advance(6);
    // Version 1 allowed more peers, but no cluster has had as many.
    if peer_count > Registry::MAX_PEERS {
        return None;
    }
    let peer = |_| {
        let (node, storage) = (NodeId(rest.get_u64_le()), StorageId(rest.get_u128_le()));
        (node, KnownPeer { storage, start: Start::default() })
    };
    Some(Registry { peers: (0..peer_count).map(peer).collect(), ..Registry::default() })
}
