//! Bytes for everything that a backend stores: the codec of a storage of your own.
//!
//! [`encode`] and [`decode`] turn what a [`Storage`](crate::Storage) must keep into bytes and back, so that a
//! backend on a database or an object store is a matter of keys alone:
//!
//! ```
//! use paxos_core::{Ballot, Entry, NodeId, Value};
//! use paxos_storage::codec;
//!
//! let entry = Entry::Accepted { ballot: Ballot { round: 3, node: NodeId(1) }, value: Value::no_op() };
//! let bytes = codec::encode(&entry);
//! assert_eq!(codec::decode::<Entry>(bytes)?, entry);
//! # Ok::<(), codec::DecodeError>(())
//! ```
//!
//! # What is guaranteed
//!
//! - Every later version of this crate decodes what an earlier one has encoded.
//! - The bytes have a checksum: what was altered or cut short is [`DecodeError::Damaged`]. What is whole, but
//!   was written by a newer version that put more into it, is told from damage.
//! - No bytes panic, and none take more memory than they have themselves.
//!
//! # The bytes
//!
//! All numbers are little-endian.
//!
//! ```text
//! offset size
//!      0    4  CRC32C of all that follows
//!      4    1  version, 1
//!      5    1  what it is: 1 identity, 2 registry, 3 hard state, 4 entry, 5 description of a snapshot
//!      6    2  zero
//!      8       identity: node (8), storage id (16), name of the cluster
//!              registry: as in META from its byte 208 on, with the known peers that there are; the origin as
//!                 at byte 3456 of META; then the founding membership, if there is one
//!              hard state: round (8) and node (8) of the promised ballot, chosen (8)
//!              entry: as a record of a frame from its byte 8 on
//!              description of a snapshot: as in META (32), then its membership
//! ```
//!
//! META and frames belong to the backend `file`, which lays out the same parts by the same code; their bytes
//! are described in its source, `file/layout`.
//!
//! Deliberately absent: keys (of the slot that an entry belongs to, it is the backend's part to keep track),
//! and the state in a snapshot, which is any bytes with a checksum of their own in its description.

pub(crate) mod entry;
pub(crate) mod membership;
pub(crate) mod registry;
pub(crate) mod snapshot;
#[cfg(test)]
mod tests;

use bytes::{Buf, BufMut, Bytes};
use paxos_core::{Ballot, Entry, FormatLevel, HardState, NodeId, Slot, SnapshotMeta};

use crate::{Identity, Registry, StorageId};

/// The version in which everything is encoded.
const VERSION: u8 = 1;
const CHECKSUM_BYTES: usize = 4;
const HEADER_BYTES: usize = 8;

/// What has an encoding. Backends use it through [`encode`] and [`decode`]; no other crate can implement it.
pub trait Stored: sealed::Sealed {}

impl Stored for Identity {}
impl Stored for Registry {}
impl Stored for HardState {}
impl Stored for Entry {}
impl Stored for SnapshotMeta {}

/// Why bytes can't be decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes are not those that were encoded.
    #[error("stored bytes are altered or cut short")]
    Damaged,
    /// The bytes are whole, and encode something else than what was asked for.
    #[error("stored bytes are of kind {found}, and those of kind {expected} were to be read")]
    OtherKind {
        /// The number of the kind that was asked for.
        expected: u8,
        /// The number of the kind that was found.
        found: u8,
    },
    /// The bytes are whole, and of a version of the encoding that this library does not know.
    #[error("stored bytes have version {0}, which this version of the program can't read")]
    UnknownVersion(u8),
    /// The bytes are whole, and hold what this library does not know.
    #[error("stored bytes hold {0}, which this version of the program can't read")]
    UnknownContent(&'static str),
    /// The bytes are whole, and hold a membership of a format level that this library does not know.
    #[error("stored bytes are of format level {0}, which this version of the program does not know")]
    UnknownLevel(FormatLevel),
}

/// The bytes of `value`, in the present version.
///
/// # Panics
///
/// If a registry has more than [`Registry::MAX_PEERS`] peers.
#[must_use]
pub fn encode<T: Stored>(value: &T) -> Bytes {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + value.body_bytes());
    bytes.put_bytes(0, CHECKSUM_BYTES);
    bytes.put_u8(VERSION);
    bytes.put_u8(T::KIND);
    bytes.put_bytes(0, 2);
    value.put_body(&mut bytes);
    let checksum = crc32c::crc32c(&bytes[CHECKSUM_BYTES..]);
    bytes[..CHECKSUM_BYTES].copy_from_slice(&checksum.to_le_bytes());
    bytes.into()
}

/// What [`encode`] has made `bytes` from. Values of entries are slices of `bytes`, without a copy.
///
/// # Errors
///
/// [`DecodeError`]; a backend returns it as the [`Error`](crate::Error) that it converts to.
pub fn decode<T: Stored>(mut bytes: Bytes) -> Result<T, DecodeError> {
    if bytes.len() < HEADER_BYTES {
        return Err(DecodeError::Damaged);
    }
    if bytes.get_u32_le() != crc32c::crc32c(&bytes) {
        return Err(DecodeError::Damaged);
    }
    let (version, kind, zero) = (bytes.get_u8(), bytes.get_u8(), bytes.get_u16_le());
    match () {
        () if version != VERSION => Err(DecodeError::UnknownVersion(version)),
        () if kind != T::KIND => Err(DecodeError::OtherKind { expected: T::KIND, found: kind }),
        () if zero != 0 => Err(DecodeError::UnknownContent("fields that are not known")),
        () => T::take_body(bytes),
    }
}

mod sealed {
    use bytes::Bytes;

    use super::DecodeError;

    /// The body of an encoding.
    pub trait Sealed: Sized {
        /// The number of what it is. It never changes.
        const KIND: u8;

        /// About how many bytes the body has, so that encoding takes memory once.
        fn body_bytes(&self) -> usize;

        fn put_body(&self, to: &mut Vec<u8>);

        fn take_body(body: Bytes) -> Result<Self, DecodeError>;
    }
}

/// Decodes a body that has a fixed part of `fixed_bytes` and nothing behind what `take` takes.
fn take_all<T>(
    mut body: Bytes,
    fixed_bytes: usize,
    take: impl FnOnce(&mut Bytes) -> Result<T, DecodeError>,
) -> Result<T, DecodeError> {
    if body.len() < fixed_bytes {
        return Err(DecodeError::UnknownContent("less than it should"));
    }
    let taken = take(&mut body)?;
    if body.is_empty() { Ok(taken) } else { Err(DecodeError::UnknownContent("more than it should")) }
}

impl sealed::Sealed for Identity {
    const KIND: u8 = 1;

    fn body_bytes(&self) -> usize {
        24 + self.cluster().len()
    }

    fn put_body(&self, to: &mut Vec<u8>) {
        to.put_u64_le(self.node().0);
        to.put_u128_le(self.storage().0);
        to.put_slice(self.cluster().as_bytes());
    }

    fn take_body(body: Bytes) -> Result<Identity, DecodeError> {
        take_all(body, 24, |rest| {
            let (node, storage) = (NodeId(rest.get_u64_le()), StorageId(rest.get_u128_le()));
            let name = std::mem::take(rest).to_vec();
            let cluster = String::from_utf8(name).map_err(|_| DecodeError::UnknownContent("another name"))?;
            Ok(Identity::existing(cluster, node, storage))
        })
    }
}

impl sealed::Sealed for HardState {
    const KIND: u8 = 3;

    fn body_bytes(&self) -> usize {
        HARD_STATE_BYTES
    }

    fn put_body(&self, to: &mut Vec<u8>) {
        put_hard_state(to, *self);
    }

    fn take_body(body: Bytes) -> Result<HardState, DecodeError> {
        take_all(body, HARD_STATE_BYTES, |rest| Ok(take_hard_state(rest)))
    }
}

const HARD_STATE_BYTES: usize = 24;

/// Writes a hard state in [`HARD_STATE_BYTES`].
pub(crate) fn put_hard_state(to: &mut impl BufMut, hard_state: HardState) {
    to.put_u64_le(hard_state.promised.round);
    to.put_u64_le(hard_state.promised.node.0);
    to.put_u64_le(hard_state.chosen.0);
}

/// Reads what [`put_hard_state`] has written.
pub(crate) fn take_hard_state(from: &mut impl Buf) -> HardState {
    let promised = Ballot { round: from.get_u64_le(), node: NodeId(from.get_u64_le()) };
    HardState { promised, chosen: Slot(from.get_u64_le()) }
}
