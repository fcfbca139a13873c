//! Fields that several messages share: their schemas, and what is checked when they are decoded.

use bytes::Bytes;

use super::error::WireError;
use crate::clock::Time;
use crate::durable::{self, SnapshotMeta};
use crate::id::{self, NodeId, Slot};
use crate::membership::Membership;
use crate::value::{Value, ValueKind};

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Ballot {
    #[prost(uint64, tag = "1")]
    round: u64,
    #[prost(uint64, tag = "2")]
    node: u64,
}

impl From<id::Ballot> for Ballot {
    fn from(ballot: id::Ballot) -> Ballot {
        Ballot { round: ballot.round, node: ballot.node.0 }
    }
}

impl From<Ballot> for id::Ballot {
    fn from(ballot: Ballot) -> id::Ballot {
        id::Ballot { round: ballot.round, node: NodeId(ballot.node) }
    }
}

/// One slot of a promise's report.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Entry {
    #[prost(uint64, tag = "1")]
    slot: u64,
    #[prost(bytes = "bytes", optional, tag = "2")]
    value: Option<Bytes>,
    #[prost(oneof = "Standing", tags = "3, 4")]
    standing: Option<Standing>,
    #[prost(uint32, tag = "5")]
    kind: u32,
    #[prost(uint64, tag = "6")]
    time: u64,
}

/// Whether the value of an entry is accepted or chosen. It has no default: an acceptance must never be read
/// as a choice.
#[derive(Clone, Copy, PartialEq, prost::Oneof)]
enum Standing {
    #[prost(message, tag = "3")]
    Accepted(Ballot),
    #[prost(message, tag = "4")]
    Chosen(Empty),
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Empty {}

impl From<&(Slot, durable::Entry)> for Entry {
    fn from((slot, entry): &(Slot, durable::Entry)) -> Entry {
        let standing = match entry {
            durable::Entry::Accepted { ballot, .. } => Standing::Accepted((*ballot).into()),
            durable::Entry::Chosen { .. } => Standing::Chosen(Empty {}),
        };
        let value = entry.value();
        Entry {
            slot: slot.0,
            value: Some(value.as_bytes().clone()),
            standing: Some(standing),
            kind: value.kind().number().into(),
            time: value.time().0,
        }
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Snapshot {
    #[prost(uint64, tag = "1")]
    slot: u64,
    #[prost(uint64, tag = "2")]
    size_bytes: u64,
    #[prost(fixed32, tag = "3")]
    checksum: u32,
    #[prost(bytes = "bytes", optional, tag = "4")]
    membership: Option<Bytes>,
}

impl From<&SnapshotMeta> for Snapshot {
    fn from(meta: &SnapshotMeta) -> Snapshot {
        let SnapshotMeta { slot, size_bytes, checksum, membership } = meta;
        Snapshot {
            slot: slot.0,
            size_bytes: *size_bytes,
            checksum: *checksum,
            membership: Some(membership.encode()),
        }
    }
}

pub(crate) fn snapshot(snapshot: Snapshot) -> Result<SnapshotMeta, WireError> {
    let Snapshot { slot, size_bytes, checksum, membership } = snapshot;
    let membership = Membership::decode(&required(membership, "membership")?)?;
    Ok(SnapshotMeta { slot: Slot(slot), size_bytes, checksum, membership })
}

pub(crate) fn entry(entry: Entry) -> Result<(Slot, durable::Entry), WireError> {
    let value = value(entry.kind, entry.value, entry.time)?;
    let decoded = match required(entry.standing, "accepted or chosen")? {
        Standing::Accepted(ballot) => durable::Entry::Accepted { ballot: ballot.into(), value },
        Standing::Chosen(Empty {}) => durable::Entry::Chosen { value },
    };
    Ok((slot(entry.slot, "slot")?, decoded))
}

pub(crate) fn ballot(ballot: Option<Ballot>) -> Result<id::Ballot, WireError> {
    required(ballot, "ballot").map(id::Ballot::from)
}

pub(crate) fn promised(promised: Option<Ballot>) -> Result<id::Ballot, WireError> {
    required(promised, "promised").map(id::Ballot::from)
}

pub(crate) fn value(kind: u32, value: Option<Bytes>, time: u64) -> Result<Value, WireError> {
    Ok(Value::parse_at(self::kind(kind)?, required(value, "value")?, Time(time))?)
}

/// A kind of values that this version knows.
pub(crate) fn kind(number: u32) -> Result<ValueKind, WireError> {
    u8::try_from(number).ok().and_then(ValueKind::from_number).ok_or(WireError::UnknownKind { number })
}

/// A slot that must be there: as Protocol Buffers don't send a 0, that is a missing one.
pub(crate) fn slot(slot: u64, field: &'static str) -> Result<Slot, WireError> {
    required((slot != 0).then_some(Slot(slot)), field)
}

pub(crate) fn required<T>(found: Option<T>, field: &'static str) -> Result<T, WireError> {
    found.ok_or(WireError::MissingField { field })
}
