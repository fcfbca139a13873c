//! The description of a snapshot: META and the encoding of descriptions are made of it.
//!
//! ```text
//! offset size
//!      0    8  slot
//!      8    8  size in bytes
//!     16    4  CRC32C of all of it
//!     20    8  length (4) and CRC32C (4) of its membership, zero if it has none
//!     28    4  zero
//! ```

use bytes::{Buf, BufMut, Bytes};
use paxos_core::{Slot, SnapshotMeta};

use super::membership::MembershipSum;
use super::sealed::Sealed;
use super::{DecodeError, take_all};

/// A finished snapshot, with the sum of its membership.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SnapshotRecord {
    pub(crate) slot: Slot,
    /// The length of the state.
    pub(crate) size_bytes: u64,
    /// CRC32C of the state.
    pub(crate) checksum: u32,
    /// The membership, which is stored elsewhere. `None` if the snapshot was written in an older version of
    /// the backend `file`.
    pub(crate) membership: Option<MembershipSum>,
}

impl SnapshotRecord {
    pub(crate) const BYTES: usize = 32;

    /// The record of a snapshot whose membership has this encoding.
    pub(crate) fn of(meta: &SnapshotMeta, encoded_membership: &[u8]) -> SnapshotRecord {
        let SnapshotMeta { slot, size_bytes, checksum, membership: _ } = *meta;
        SnapshotRecord { slot, size_bytes, checksum, membership: Some(MembershipSum::of(encoded_membership)) }
    }

    pub(crate) fn put(self, to: &mut impl BufMut) {
        to.put_u64_le(self.slot.0);
        to.put_u64_le(self.size_bytes);
        to.put_u32_le(self.checksum);
        MembershipSum::put(self.membership, to);
        to.put_bytes(0, 4);
    }

    /// Reads what [`put`](SnapshotRecord::put) has written; `None` for a length that no membership has.
    pub(crate) fn take(from: &mut impl Buf) -> Option<SnapshotRecord> {
        let slot = Slot(from.get_u64_le());
        let size_bytes = from.get_u64_le();
        let checksum = from.get_u32_le();
        let membership = MembershipSum::take(from).ok()?;
        from.advance(4);
        Some(SnapshotRecord { slot, size_bytes, checksum, membership })
    }
}

impl Sealed for SnapshotMeta {
    const KIND: u8 = 5;

    fn body_bytes(&self) -> usize {
        SnapshotRecord::BYTES
    }

    fn put_body(&self, to: &mut Vec<u8>) {
        let membership = self.membership.encode();
        SnapshotRecord::of(self, &membership).put(to);
        to.put_slice(&membership);
    }

    fn take_body(body: Bytes) -> Result<SnapshotMeta, DecodeError> {
        let contradiction = DecodeError::UnknownContent("a description that contradicts itself");
        take_all(body, SnapshotRecord::BYTES, |rest| {
            let record = SnapshotRecord::take(rest).ok_or(contradiction)?;
            let encoded = std::mem::take(rest);
            let membership = record.membership.ok_or(contradiction)?.read(&encoded)?;
            let SnapshotRecord { slot, size_bytes, checksum, .. } = record;
            Ok(SnapshotMeta { slot, size_bytes, checksum, membership })
        })
    }
}
