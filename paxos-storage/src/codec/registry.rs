//! What a node remembers of itself and its peers: META and the encoding of registries are made of it.
//!
//! ```text
//! offset size
//!      0    2  count of known peers, 0 to 80
//!      2    1  1 if the node is a member of a cluster, else 0
//!      3    1  1 if a newer copy of this storage is known, else 0
//!      4    4  zero
//!      8   16  latest start of the node: number, nonce
//!     24   16  id of the founding; zero if there was none or it is not known
//!     40    8  length (4) and CRC32C (4) of the founding membership, zero if there was none
//!     48   40  for each known peer: node, storage id, number and nonce of its latest start; ascending
//!
//! and, elsewhere, the origin
//!      0    1  origin: 0 the cluster itself, 1 a backup, 2 a rescue
//!      1   16  id of what was restored, or of the founding that was rescued
//! ```

use bytes::{Buf, BufMut, Bytes};
use paxos_core::{Membership, NodeId};

use super::membership::MembershipSum;
use super::sealed::Sealed;
use super::{DecodeError, take_all};
use crate::{Founding, FoundingId, KnownPeer, Origin, Registry, RestoreId, Start, StorageId};

/// The part before the peers.
const FIXED_BYTES: usize = 48;
const SUM_AT: usize = 40;
const PEER_BYTES: usize = 40;
const ORIGIN_BYTES: usize = 17;
const ORIGIN_NONE: u8 = 0;
const ORIGIN_BACKUP: u8 = 1;
const ORIGIN_RESCUE: u8 = 2;

/// Writes a registry, all but its origin. `founding` holds the encoded founding membership, and is empty if
/// there is none.
pub(crate) fn put_registry(to: &mut impl BufMut, registry: &Registry, encoded_founding: &[u8]) {
    // The origin has a place of its own: see `put_origin`.
    let Registry { start, is_superseded, founding, origin: _, peers } = registry;
    to.put_u16_le(u16::try_from(peers.len()).expect("Registry::assert_bounded has checked it"));
    to.put_u8(u8::from(founding.is_some()));
    to.put_u8(u8::from(*is_superseded));
    to.put_bytes(0, 4);
    put_start(to, *start);
    to.put_u128_le(founding.as_ref().and_then(|founding| founding.id).map_or(0, |id| id.0));
    MembershipSum::put(founding.as_ref().map(|_| MembershipSum::of(encoded_founding)), to);
    for (node, peer) in peers {
        to.put_u64_le(node.0);
        to.put_u128_le(peer.storage.0);
        put_start(to, peer.start);
    }
}

/// Reads what [`put_registry`] has written, with its founding membership. `None` if the parts contradict each
/// other.
///
/// # Panics
///
/// If `from` is shorter than the registry with the peers that it counts.
pub(crate) fn take_registry(from: &mut impl Buf, membership: Option<Membership>) -> Option<Registry> {
    let peer_count = usize::from(from.get_u16_le());
    let (is_founded, is_superseded) = (from.get_u8() == 1, from.get_u8() == 1);
    from.advance(4);
    let start = take_start(from);
    let id = Some(from.get_u128_le()).filter(|id| *id != 0).map(FoundingId);
    from.advance(MembershipSum::BYTES);
    if peer_count > Registry::MAX_PEERS || is_founded != membership.is_some() {
        return None;
    }
    let founding = membership.map(|membership| Founding { id, membership });
    let peer = |_| {
        let (node, storage) = (NodeId(from.get_u64_le()), StorageId(from.get_u128_le()));
        (node, KnownPeer { storage, start: take_start(from) })
    };
    let peers = (0..peer_count).map(peer).collect();
    Some(Registry { start, is_superseded, founding, origin: None, peers })
}

fn put_start(to: &mut impl BufMut, start: Start) {
    to.put_u64_le(start.number);
    to.put_u64_le(start.nonce);
}

pub(crate) fn take_start(from: &mut impl Buf) -> Start {
    Start { number: from.get_u64_le(), nonce: from.get_u64_le() }
}

/// Writes an origin.
pub(crate) fn put_origin(to: &mut impl BufMut, origin: Option<Origin>) {
    let (kind, id) = match origin {
        None => (ORIGIN_NONE, 0),
        Some(Origin::Backup(id)) => (ORIGIN_BACKUP, id.0),
        Some(Origin::Rescue { of }) => (ORIGIN_RESCUE, of.0),
    };
    to.put_u8(kind);
    to.put_u128_le(id);
}

/// `Err` for a kind that no version has written.
pub(crate) fn take_origin(from: &mut impl Buf) -> Result<Option<Origin>, ()> {
    let (kind, id) = (from.get_u8(), from.get_u128_le());
    match kind {
        ORIGIN_NONE => Ok(None),
        ORIGIN_BACKUP => Ok(Some(Origin::Backup(RestoreId(id)))),
        ORIGIN_RESCUE => Ok(Some(Origin::Rescue { of: FoundingId(id) })),
        _ => Err(()),
    }
}

impl Sealed for Registry {
    const KIND: u8 = 2;

    fn body_bytes(&self) -> usize {
        FIXED_BYTES + self.peers.len() * PEER_BYTES + ORIGIN_BYTES
    }

    fn put_body(&self, to: &mut Vec<u8>) {
        self.assert_bounded();
        let founding = self.founding.as_ref().map(|founding| founding.membership.encode());
        let founding = founding.unwrap_or_default();
        put_registry(to, self, &founding);
        put_origin(to, self.origin);
        to.put_slice(&founding);
    }

    fn take_body(body: Bytes) -> Result<Registry, DecodeError> {
        let contradiction = DecodeError::UnknownContent("a registry that contradicts itself");
        take_all(body, FIXED_BYTES + ORIGIN_BYTES, |rest| {
            let sum = MembershipSum::take(&mut &rest[SUM_AT..]).map_err(|()| contradiction)?;
            let founding_bytes = sum.map_or(0, MembershipSum::size_bytes);
            let peer_count = usize::from((&rest[..]).get_u16_le());
            if rest.len() != FIXED_BYTES + peer_count * PEER_BYTES + ORIGIN_BYTES + founding_bytes {
                return Err(contradiction);
            }
            let founding = rest.split_off(rest.len() - founding_bytes);
            let membership = sum.map(|sum| sum.read(&founding)).transpose()?;
            let registry = take_registry(rest, membership).ok_or(contradiction)?;
            Ok(Registry { origin: take_origin(rest).map_err(|()| contradiction)?, ..registry })
        })
    }
}
