//! The messages as prost lays them out: the table of the module's front page, in code.

use bytes::Bytes;
use prost::{Message, Oneof};

#[derive(Clone, PartialEq, Message)]
pub(super) struct Frame {
    #[prost(uint64, tag = "1")]
    pub(super) epoch: u64,
    #[prost(oneof = "Body", tags = "2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18")]
    pub(super) body: Option<Body>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Body {
    #[prost(message, tag = "2")]
    Probe(AtBallot),
    #[prost(message, tag = "3")]
    Consent(TwoBallots),
    #[prost(message, tag = "4")]
    Prepare(AtBallot),
    #[prost(message, tag = "5")]
    Promise(Promise),
    #[prost(message, tag = "6")]
    Trimmed(AtSlot),
    #[prost(message, tag = "7")]
    Accept(Accept),
    #[prost(message, tag = "8")]
    Accepted(Accepted),
    #[prost(message, tag = "9")]
    Reject(TwoBallots),
    #[prost(message, tag = "10")]
    Heartbeat(Heartbeat),
    #[prost(message, tag = "11")]
    HeartbeatAck(AtBallot),
    #[prost(message, tag = "12")]
    Forward(Forward),
    #[prost(message, tag = "13")]
    ReadRequest(ReadRequest),
    #[prost(message, tag = "14")]
    ReadGrant(ReadGrant),
    #[prost(message, tag = "15")]
    Fetch(AtSlot),
    #[prost(message, tag = "16")]
    Chosen(Chosen),
    #[prost(message, tag = "17")]
    FetchSnapshot(AtSlot),
    #[prost(message, tag = "18")]
    SnapshotChunk(SnapshotChunk),
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Ballot {
    #[prost(uint64, tag = "1")]
    pub(super) round: u64,
    #[prost(uint64, tag = "2")]
    pub(super) node: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Entry {
    #[prost(uint64, tag = "1")]
    pub(super) slot: u64,
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub(super) value: Option<Bytes>,
    #[prost(oneof = "Standing", tags = "3, 4")]
    pub(super) standing: Option<Standing>,
}

/// How the value of an entry stands. Without a default: an acceptance must never pass for a choice.
#[derive(Clone, Copy, PartialEq, Oneof)]
pub(super) enum Standing {
    #[prost(message, tag = "3")]
    Accepted(Ballot),
    #[prost(message, tag = "4")]
    Chosen(Empty),
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Empty {}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Snapshot {
    #[prost(uint64, tag = "1")]
    pub(super) slot: u64,
    #[prost(uint64, tag = "2")]
    pub(super) size_bytes: u64,
    #[prost(fixed32, tag = "3")]
    pub(super) checksum: u32,
}

/// Bodies of a ballot and at most one number: a slot or a round.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct AtBallot {
    #[prost(message, optional, tag = "1")]
    pub(super) ballot: Option<Ballot>,
    #[prost(uint64, tag = "2")]
    pub(super) number: u64,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct TwoBallots {
    #[prost(message, optional, tag = "1")]
    pub(super) ballot: Option<Ballot>,
    #[prost(message, optional, tag = "2")]
    pub(super) promised: Option<Ballot>,
}

/// Bodies of a slot and at most an offset.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct AtSlot {
    #[prost(uint64, tag = "1")]
    pub(super) slot: u64,
    #[prost(uint64, tag = "2")]
    pub(super) offset: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Promise {
    #[prost(message, optional, tag = "1")]
    pub(super) ballot: Option<Ballot>,
    #[prost(uint64, tag = "2")]
    pub(super) first: u64,
    #[prost(message, repeated, tag = "3")]
    pub(super) reports: Vec<Entry>,
    #[prost(uint64, tag = "4")]
    pub(super) rest: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Accept {
    #[prost(message, optional, tag = "1")]
    pub(super) ballot: Option<Ballot>,
    #[prost(uint64, tag = "2")]
    pub(super) slot: u64,
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub(super) value: Option<Bytes>,
    #[prost(uint64, tag = "4")]
    pub(super) chosen: u64,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Accepted {
    #[prost(message, optional, tag = "1")]
    pub(super) ballot: Option<Ballot>,
    #[prost(uint64, tag = "2")]
    pub(super) first: u64,
    #[prost(uint64, tag = "3")]
    pub(super) last: u64,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Heartbeat {
    #[prost(message, optional, tag = "1")]
    pub(super) ballot: Option<Ballot>,
    #[prost(uint64, tag = "2")]
    pub(super) chosen: u64,
    #[prost(uint64, tag = "3")]
    pub(super) round: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Forward {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub(super) commands: Vec<Bytes>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct ReadRequest {
    #[prost(fixed64, tag = "1")]
    pub(super) read: u64,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct ReadGrant {
    #[prost(fixed64, tag = "1")]
    pub(super) read: u64,
    #[prost(uint64, tag = "2")]
    pub(super) slot: u64,
    #[prost(message, optional, tag = "3")]
    pub(super) ballot: Option<Ballot>,
    #[prost(uint64, tag = "4")]
    pub(super) chosen: u64,
}

#[expect(clippy::struct_field_names, reason = "the watermark is called chosen in every message")]
#[derive(Clone, PartialEq, Message)]
pub(super) struct Chosen {
    #[prost(uint64, tag = "1")]
    pub(super) first: u64,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub(super) values: Vec<Bytes>,
    #[prost(uint64, tag = "3")]
    pub(super) chosen: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SnapshotChunk {
    #[prost(message, optional, tag = "1")]
    pub(super) snapshot: Option<Snapshot>,
    #[prost(uint64, tag = "2")]
    pub(super) offset: u64,
    #[prost(bytes = "bytes", tag = "3")]
    pub(super) data: Bytes,
}
