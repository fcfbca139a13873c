//! What a learner asks for that has missed chosen values, and the answers: values from the log, or pieces of
//! a snapshot.

use std::fmt;

use bytes::Bytes;

use super::Traffic;
use crate::durable::SnapshotMeta;
use crate::id::Slot;
use crate::value::Value;

/// Answers a prepare or a fetch: the sender has the slots before `below` only in a snapshot, which must be
/// fetched first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trimmed {
    /// The first slot that is still in the sender's log.
    pub below: Slot,
}

/// "The membership of this message's epoch is in force, and everything through `chosen` is chosen."
///
/// Tells a node that it is behind: its own epoch is over, and votes in it count no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NewEpoch {
    /// Every slot up to here is chosen.
    pub chosen: Slot,
}

/// Asks for chosen values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fetch {
    /// The first slot wanted.
    pub first: Slot,
    /// The last slot wanted; `None` for as many as fit into a message.
    pub last: Option<Slot>,
    /// How many slots before `first` the sender does not know either, as it has asked for them in other
    /// messages. The receiver must not drop them yet.
    pub ahead_slots: u64,
}

impl Fetch {
    /// Asks for as many values from `first` on as fit into a message.
    #[must_use]
    pub fn all_from(first: Slot) -> Fetch {
        Fetch { first, last: None, ahead_slots: 0 }
    }

    /// The first slot that the sender does not know.
    #[must_use]
    pub fn first_missing(&self) -> Slot {
        Slot(self.first.0.saturating_sub(self.ahead_slots).max(Slot::FIRST.0))
    }
}

/// Chosen values of the slots from `first` on, without gaps.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chosen {
    /// The slot of the first value.
    pub first: Slot,
    /// The values.
    pub values: Vec<Value>,
    /// Every slot up to here is chosen.
    pub chosen: Slot,
}

/// Asks for a piece of a snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FetchSnapshot {
    /// The slot of the snapshot; [`Slot::ZERO`] for the newest.
    pub slot: Slot,
    /// Where the piece begins, in bytes.
    pub offset: u64,
}

/// A piece of a snapshot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SnapshotChunk {
    /// The snapshot. In memory of its own, so that it does not make every other message longer.
    pub meta: Box<SnapshotMeta>,
    /// Where the piece begins, in bytes.
    pub offset: u64,
    /// The piece.
    pub data: Bytes,
}

impl Trimmed {
    /// It may answer a prepare, and an election waits for it.
    pub(super) const TRAFFIC: Traffic = Traffic::Control;
}

impl NewEpoch {
    pub(super) const TRAFFIC: Traffic = Traffic::Control;
}

impl Fetch {
    pub(super) const TRAFFIC: Traffic = Traffic::Bulk;
}

impl Chosen {
    pub(super) const TRAFFIC: Traffic = Traffic::Bulk;
}

impl FetchSnapshot {
    pub(super) const TRAFFIC: Traffic = Traffic::Bulk;
}

impl SnapshotChunk {
    pub(super) const TRAFFIC: Traffic = Traffic::Bulk;
}

impl fmt::Display for Trimmed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Trimmed, slots below {}", self.below)
    }
}

impl fmt::Display for NewEpoch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "NewEpoch, chosen {}", self.chosen)
    }
}

impl fmt::Display for Fetch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.last {
            None => write!(formatter, "Fetch slots {}..", self.first)?,
            Some(last) => write!(formatter, "Fetch slots {}..={last}", self.first)?,
        }
        match self.ahead_slots {
            0 => Ok(()),
            _ => write!(formatter, ", missing from {}", self.first_missing()),
        }
    }
}

impl fmt::Display for Chosen {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Chosen slots {}..:", self.first)?;
        for value in &self.values {
            write!(formatter, " {value}")?;
        }
        write!(formatter, ", chosen {}", self.chosen)
    }
}

impl fmt::Display for FetchSnapshot {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.slot {
            Slot::ZERO => formatter.write_str("FetchSnapshot newest")?,
            slot => write!(formatter, "FetchSnapshot {slot}")?,
        }
        write!(formatter, ", bytes {}..", self.offset)
    }
}

impl fmt::Display for SnapshotChunk {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SnapshotChunk { meta, offset, data } = self;
        let end = offset.saturating_add(data.len() as u64);
        write!(formatter, "SnapshotChunk {}, bytes {offset}..{end} of {}", meta.slot, meta.size_bytes)
    }
}

#[cfg(feature = "wire")]
pub(crate) mod schema {
    use bytes::Bytes;

    use bytes::{BufMut, BytesMut};

    use crate::clock::Time;
    use crate::id::Slot;
    use crate::value::{Value, ValueKind};
    use crate::wire::error::WireError;
    use crate::wire::fields::{Snapshot, kind, required, slot, snapshot};
    use crate::wire::strict::{SNAPSHOT, Shape, list, one, one_message, shape};

    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub(crate) struct Trimmed {
        #[prost(uint64, tag = "1")]
        below: u64,
    }

    pub(crate) static TRIMMED: Shape = shape(&[one("below")]);

    impl From<&super::Trimmed> for Trimmed {
        fn from(trimmed: &super::Trimmed) -> Trimmed {
            Trimmed { below: trimmed.below.0 }
        }
    }

    impl TryFrom<Trimmed> for super::Trimmed {
        type Error = WireError;

        fn try_from(trimmed: Trimmed) -> Result<super::Trimmed, WireError> {
            Ok(super::Trimmed { below: slot(trimmed.below, "below")? })
        }
    }

    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub(crate) struct NewEpoch {
        #[prost(uint64, tag = "1")]
        chosen: u64,
    }

    pub(crate) static NEW_EPOCH: Shape = shape(&[one("chosen")]);

    impl From<&super::NewEpoch> for NewEpoch {
        fn from(new_epoch: &super::NewEpoch) -> NewEpoch {
            NewEpoch { chosen: new_epoch.chosen.0 }
        }
    }

    impl TryFrom<NewEpoch> for super::NewEpoch {
        type Error = WireError;

        fn try_from(new_epoch: NewEpoch) -> Result<super::NewEpoch, WireError> {
            Ok(super::NewEpoch { chosen: Slot(new_epoch.chosen) })
        }
    }

    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub(crate) struct Fetch {
        #[prost(uint64, tag = "1")]
        first: u64,
        /// 0 if there is no last slot: slots begin with 1.
        #[prost(uint64, tag = "2")]
        last: u64,
        #[prost(uint64, tag = "3")]
        ahead_slots: u64,
    }

    pub(crate) static FETCH: Shape = shape(&[one("first"), one("last"), one("ahead_slots")]);

    impl From<&super::Fetch> for Fetch {
        fn from(fetch: &super::Fetch) -> Fetch {
            let last = fetch.last.map_or(0, |last| last.0);
            Fetch { first: fetch.first.0, last, ahead_slots: fetch.ahead_slots }
        }
    }

    impl TryFrom<Fetch> for super::Fetch {
        type Error = WireError;

        fn try_from(fetch: Fetch) -> Result<super::Fetch, WireError> {
            let last = (fetch.last != 0).then_some(Slot(fetch.last));
            Ok(super::Fetch { first: slot(fetch.first, "first")?, last, ahead_slots: fetch.ahead_slots })
        }
    }

    #[expect(clippy::struct_field_names, reason = "the watermark is called chosen in every message")]
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Chosen {
        #[prost(uint64, tag = "1")]
        first: u64,
        #[prost(bytes = "bytes", repeated, tag = "2")]
        values: Vec<Bytes>,
        #[prost(uint64, tag = "3")]
        chosen: u64,
        /// One for each value; none at all if all values are commands.
        #[prost(bytes = "bytes", tag = "4")]
        kinds: Bytes,
        /// Eight little-endian bytes for each value; none at all if no value has a time.
        #[prost(bytes = "bytes", tag = "5")]
        times: Bytes,
    }

    pub(crate) static CHOSEN: Shape =
        shape(&[one("first"), list("values", None), one("chosen"), one("kinds"), one("times")]);

    impl From<&super::Chosen> for Chosen {
        fn from(chosen: &super::Chosen) -> Chosen {
            Chosen {
                first: chosen.first.0,
                values: chosen.values.iter().map(|value| value.as_bytes().clone()).collect(),
                chosen: chosen.chosen.0,
                kinds: kinds(&chosen.values),
                times: times(&chosen.values),
            }
        }
    }

    impl TryFrom<Chosen> for super::Chosen {
        type Error = WireError;

        fn try_from(chosen: Chosen) -> Result<super::Chosen, WireError> {
            Ok(super::Chosen {
                first: slot(chosen.first, "first")?,
                values: values(chosen.values, &chosen.kinds, &chosen.times)?,
                chosen: Slot(chosen.chosen),
            })
        }
    }

    fn kinds(values: &[Value]) -> Bytes {
        if values.iter().all(|value| value.kind() == ValueKind::Commands) {
            return Bytes::new();
        }
        values.iter().map(|value| value.kind().number()).collect()
    }

    fn times(values: &[Value]) -> Bytes {
        if values.iter().all(|value| value.time() == Time::NONE) {
            return Bytes::new();
        }
        let mut times = BytesMut::with_capacity(values.len() * size_of::<u64>());
        for value in values {
            times.put_u64_le(value.time().0);
        }
        times.freeze()
    }

    fn values(values: Vec<Bytes>, kinds: &[u8], times: &[u8]) -> Result<Vec<Value>, WireError> {
        if !kinds.is_empty() && kinds.len() != values.len() {
            return Err(WireError::MissingField { field: "kinds" });
        }
        let (times, rest) = times.as_chunks::<{ size_of::<u64>() }>();
        if !rest.is_empty() || (!times.is_empty() && times.len() != values.len()) {
            return Err(WireError::MissingField { field: "times" });
        }
        let kinds = kinds.iter().copied().chain(std::iter::repeat(0));
        let times = times.iter().map(|time| Time(u64::from_le_bytes(*time)));
        let times = times.chain(std::iter::repeat(Time::NONE));
        let value = |((bytes, number), time): ((Bytes, u8), Time)| {
            Ok(Value::parse_at(kind(number.into())?, bytes, time)?)
        };
        values.into_iter().zip(kinds).zip(times).map(value).collect()
    }

    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub(crate) struct FetchSnapshot {
        #[prost(uint64, tag = "1")]
        slot: u64,
        #[prost(uint64, tag = "2")]
        offset: u64,
    }

    pub(crate) static FETCH_SNAPSHOT: Shape = shape(&[one("slot"), one("offset")]);

    impl From<&super::FetchSnapshot> for FetchSnapshot {
        fn from(fetch: &super::FetchSnapshot) -> FetchSnapshot {
            FetchSnapshot { slot: fetch.slot.0, offset: fetch.offset }
        }
    }

    impl TryFrom<FetchSnapshot> for super::FetchSnapshot {
        type Error = WireError;

        fn try_from(fetch: FetchSnapshot) -> Result<super::FetchSnapshot, WireError> {
            Ok(super::FetchSnapshot { slot: Slot(fetch.slot), offset: fetch.offset })
        }
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct SnapshotChunk {
        #[prost(message, optional, tag = "1")]
        snapshot: Option<Snapshot>,
        #[prost(uint64, tag = "2")]
        offset: u64,
        #[prost(bytes = "bytes", tag = "3")]
        data: Bytes,
    }

    pub(crate) static SNAPSHOT_CHUNK: Shape =
        shape(&[one_message("snapshot", &SNAPSHOT), one("offset"), one("data")]);

    impl From<&super::SnapshotChunk> for Box<SnapshotChunk> {
        fn from(chunk: &super::SnapshotChunk) -> Box<SnapshotChunk> {
            let snapshot = Some((&*chunk.meta).into());
            Box::new(SnapshotChunk { snapshot, offset: chunk.offset, data: chunk.data.clone() })
        }
    }

    impl TryFrom<Box<SnapshotChunk>> for super::SnapshotChunk {
        type Error = WireError;

        fn try_from(chunk: Box<SnapshotChunk>) -> Result<super::SnapshotChunk, WireError> {
            let meta = Box::new(snapshot(required(chunk.snapshot, "snapshot")?)?);
            Ok(super::SnapshotChunk { meta, offset: chunk.offset, data: chunk.data })
        }
    }
}
