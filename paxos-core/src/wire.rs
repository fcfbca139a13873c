//! Messages as bytes: Protocol Buffers, so that a node of the next version can talk with one of this.
//!
//! ```text
//! Message   1 epoch        uint64   and one of the bodies, whose tags are those of the table below
//! ballot    1 round        uint64     2 node        uint64
//! entry     1 slot         uint64     2 value       bytes      3 ballot (missing: the value is chosen)
//! snapshot  1 slot         uint64     2 size_bytes  uint64     3 checksum  fixed32
//!
//!  2 probe          1 ballot
//!  3 consent        1 ballot   2 promised
//!  4 prepare        1 ballot   2 first
//!  5 promise        1 ballot   2 first    3 reports (entries)   4 rest (0: none)
//!  6 trimmed        1 below
//!  7 accept         1 ballot   2 slot     3 value     4 chosen
//!  8 accepted       1 ballot   2 first    3 last
//!  9 reject         1 ballot   2 promised
//! 10 heartbeat      1 ballot   2 chosen   3 round
//! 11 heartbeat_ack  1 ballot   2 round
//! 12 forward        1 commands (bytes, repeated)
//! 13 read_request   1 read (fixed64)
//! 14 read_grant     1 read (fixed64)   2 slot   3 ballot   4 chosen
//! 15 fetch          1 first
//! 16 chosen         1 first    2 values (bytes, repeated)   3 chosen
//! 17 fetch_snapshot 1 slot     2 offset
//! 18 snapshot_chunk 1 snapshot 2 offset   3 data
//! ```
//!
//! How it may change: a tag is never used for anything else again; fields and bodies may be added. An older
//! node ignores a field that it does not know and refuses a body that it does not know, which is safe, as any
//! message may be lost. Integers are in `uint64` form unless said otherwise.

use bytes::{Bytes, BytesMut};
use prost::Message as _;

use crate::durable::{Entry, SnapshotMeta};
use crate::id::{Ballot, Epoch, NodeId, Slot};
use crate::message::{Body, HeartbeatRound, Message, ReadId};
use crate::value::{MalformedValue, Value};

/// Why bytes are not a message.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum WireError {
    /// They are not Protocol Buffers of this schema.
    Undecodable(prost::DecodeError),
    /// The body is missing, or of a kind that this version does not know.
    UnknownBody,
    /// A field without which the body has no meaning is missing.
    MissingField(&'static str),
    /// A value in it is no batch of commands.
    MalformedValue,
}

impl std::fmt::Display for WireError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            WireError::Undecodable(error) => write!(formatter, "not a message: {error}"),
            WireError::UnknownBody => formatter.write_str("a message of an unknown kind"),
            WireError::MissingField(field) => write!(formatter, "a message without its {field}"),
            WireError::MalformedValue => MalformedValue.fmt(formatter),
        }
    }
}

impl std::error::Error for WireError {}

impl From<MalformedValue> for WireError {
    fn from(_: MalformedValue) -> WireError {
        WireError::MalformedValue
    }
}

/// The message as bytes, in one allocation of the right size.
///
/// # Panics
///
/// Never: a buffer of the encoded length is long enough.
#[must_use]
pub fn encode(message: &Message) -> Bytes {
    let frame = schema::Frame::from(message);
    let mut bytes = BytesMut::with_capacity(frame.encoded_len());
    frame.encode(&mut bytes).expect("the buffer has room for the encoded length");
    bytes.freeze()
}

/// Takes bytes for a message. Values and commands in it share the bytes.
///
/// # Errors
///
/// [`WireError`] if they are none.
pub fn decode(frame: Bytes) -> Result<Message, WireError> {
    let frame = schema::Frame::decode(frame).map_err(WireError::Undecodable)?;
    let body = body_from_schema(frame.body.ok_or(WireError::UnknownBody)?)?;
    Ok(Message { epoch: Epoch(frame.epoch), body })
}

/// The messages as prost lays them out. Private: the rest of the crate knows only [`Message`].
mod schema {
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
        #[prost(bytes = "bytes", tag = "2")]
        pub(super) value: Bytes,
        #[prost(message, optional, tag = "3")]
        pub(super) ballot: Option<Ballot>,
    }

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
        #[prost(bytes = "bytes", tag = "3")]
        pub(super) value: Bytes,
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
}

impl From<&Message> for schema::Frame {
    fn from(message: &Message) -> schema::Frame {
        schema::Frame { epoch: message.epoch.0, body: Some(body_to_schema(&message.body)) }
    }
}

fn body_to_schema(body: &Body) -> schema::Body {
    use schema::Body as Wire;
    let at_ballot = |ballot: &Ballot, number| schema::AtBallot { ballot: to_schema(*ballot), number };
    let at_slot = |slot: &Slot, offset| schema::AtSlot { slot: slot.0, offset };
    let two_ballots = |ballot: &Ballot, promised: &Ballot| schema::TwoBallots {
        ballot: to_schema(*ballot),
        promised: to_schema(*promised),
    };
    match body {
        Body::Probe { ballot } => Wire::Probe(at_ballot(ballot, 0)),
        Body::Consent { ballot, promised } => Wire::Consent(two_ballots(ballot, promised)),
        Body::Prepare { ballot, first } => Wire::Prepare(at_ballot(ballot, first.0)),
        Body::Promise { ballot, first, reports, rest } => Wire::Promise(schema::Promise {
            ballot: to_schema(*ballot),
            first: first.0,
            reports: reports.iter().map(entry_to_schema).collect(),
            rest: rest.map_or(0, |rest| rest.0),
        }),
        Body::Trimmed { below } => Wire::Trimmed(at_slot(below, 0)),
        Body::Accept { ballot, slot, value, chosen } => Wire::Accept(schema::Accept {
            ballot: to_schema(*ballot),
            slot: slot.0,
            value: value.as_bytes().clone(),
            chosen: chosen.0,
        }),
        Body::Accepted { ballot, first, last } => {
            Wire::Accepted(schema::Accepted { ballot: to_schema(*ballot), first: first.0, last: last.0 })
        }
        Body::Reject { ballot, promised } => Wire::Reject(two_ballots(ballot, promised)),
        Body::Heartbeat { ballot, chosen, round } => Wire::Heartbeat(schema::Heartbeat {
            ballot: to_schema(*ballot),
            chosen: chosen.0,
            round: round.0,
        }),
        Body::HeartbeatAck { ballot, round } => Wire::HeartbeatAck(at_ballot(ballot, round.0)),
        Body::Forward { commands } => Wire::Forward(schema::Forward { commands: commands.clone() }),
        Body::ReadRequest { read } => Wire::ReadRequest(schema::ReadRequest { read: read.0 }),
        Body::ReadGrant { read, slot, ballot, chosen } => Wire::ReadGrant(schema::ReadGrant {
            read: read.0,
            slot: slot.0,
            ballot: to_schema(*ballot),
            chosen: chosen.0,
        }),
        Body::Fetch { first } => Wire::Fetch(at_slot(first, 0)),
        Body::Chosen { first, values, chosen } => Wire::Chosen(schema::Chosen {
            first: first.0,
            values: values.iter().map(|value| value.as_bytes().clone()).collect(),
            chosen: chosen.0,
        }),
        Body::FetchSnapshot { slot, offset } => Wire::FetchSnapshot(at_slot(slot, *offset)),
        Body::SnapshotChunk { meta, offset, data } => {
            let SnapshotMeta { slot, size_bytes, checksum } = *meta;
            let snapshot = Some(schema::Snapshot { slot: slot.0, size_bytes, checksum });
            Wire::SnapshotChunk(schema::SnapshotChunk { snapshot, offset: *offset, data: data.clone() })
        }
    }
}

fn body_from_schema(body: schema::Body) -> Result<Body, WireError> {
    use schema::Body as Wire;
    Ok(match body {
        Wire::Probe(probe) => Body::Probe { ballot: ballot(probe.ballot)? },
        Wire::Consent(consent) => {
            Body::Consent { ballot: ballot(consent.ballot)?, promised: ballot(consent.promised)? }
        }
        Wire::Prepare(prepare) => {
            Body::Prepare { ballot: ballot(prepare.ballot)?, first: Slot(prepare.number) }
        }
        Wire::Promise(promise) => Body::Promise {
            ballot: ballot(promise.ballot)?,
            first: Slot(promise.first),
            reports: promise.reports.into_iter().map(entry_from_schema).collect::<Result<_, _>>()?,
            rest: (promise.rest != 0).then_some(Slot(promise.rest)),
        },
        Wire::Trimmed(trimmed) => Body::Trimmed { below: Slot(trimmed.slot) },
        Wire::Accept(accept) => Body::Accept {
            ballot: ballot(accept.ballot)?,
            slot: Slot(accept.slot),
            value: Value::parse(accept.value)?,
            chosen: Slot(accept.chosen),
        },
        Wire::Accepted(accepted) => Body::Accepted {
            ballot: ballot(accepted.ballot)?,
            first: Slot(accepted.first),
            last: Slot(accepted.last),
        },
        Wire::Reject(reject) => {
            Body::Reject { ballot: ballot(reject.ballot)?, promised: ballot(reject.promised)? }
        }
        Wire::Heartbeat(heartbeat) => Body::Heartbeat {
            ballot: ballot(heartbeat.ballot)?,
            chosen: Slot(heartbeat.chosen),
            round: HeartbeatRound(heartbeat.round),
        },
        Wire::HeartbeatAck(ack) => {
            Body::HeartbeatAck { ballot: ballot(ack.ballot)?, round: HeartbeatRound(ack.number) }
        }
        Wire::Forward(forward) => Body::Forward { commands: forward.commands },
        Wire::ReadRequest(request) => Body::ReadRequest { read: ReadId(request.read) },
        Wire::ReadGrant(grant) => Body::ReadGrant {
            read: ReadId(grant.read),
            slot: Slot(grant.slot),
            ballot: ballot(grant.ballot)?,
            chosen: Slot(grant.chosen),
        },
        Wire::Fetch(fetch) => Body::Fetch { first: Slot(fetch.slot) },
        Wire::Chosen(chosen) => Body::Chosen {
            first: Slot(chosen.first),
            values: chosen.values.into_iter().map(Value::parse).collect::<Result<_, _>>()?,
            chosen: Slot(chosen.chosen),
        },
        Wire::FetchSnapshot(fetch) => Body::FetchSnapshot { slot: Slot(fetch.slot), offset: fetch.offset },
        Wire::SnapshotChunk(chunk) => {
            let snapshot = chunk.snapshot.ok_or(WireError::MissingField("snapshot"))?;
            let schema::Snapshot { slot, size_bytes, checksum } = snapshot;
            let meta = SnapshotMeta { slot: Slot(slot), size_bytes, checksum };
            Body::SnapshotChunk { meta, offset: chunk.offset, data: chunk.data }
        }
    })
}

#[expect(clippy::unnecessary_wraps, reason = "prost holds every nested message in an Option")]
fn to_schema(ballot: Ballot) -> Option<schema::Ballot> {
    Some(schema::Ballot { round: ballot.round, node: ballot.node.0 })
}

fn ballot(ballot: Option<schema::Ballot>) -> Result<Ballot, WireError> {
    let ballot = ballot.ok_or(WireError::MissingField("ballot"))?;
    Ok(Ballot { round: ballot.round, node: NodeId(ballot.node) })
}

fn entry_to_schema((slot, entry): &(Slot, Entry)) -> schema::Entry {
    let ballot = match entry {
        Entry::Accepted { ballot, .. } => to_schema(*ballot),
        Entry::Chosen { .. } => None,
    };
    schema::Entry { slot: slot.0, value: entry.value().as_bytes().clone(), ballot }
}

fn entry_from_schema(entry: schema::Entry) -> Result<(Slot, Entry), WireError> {
    let value = Value::parse(entry.value)?;
    let decoded = match entry.ballot {
        Some(accepted) => Entry::Accepted { ballot: ballot(Some(accepted))?, value },
        None => Entry::Chosen { value },
    };
    Ok((Slot(entry.slot), decoded))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn samples() -> Vec<(&'static str, Body)> {
        let ballot = Ballot { round: 300, node: NodeId(2) };
        let promised = Ballot { round: 301, node: NodeId(1) };
        let value = || Value::batch(&[Bytes::from_static(b"ab"), Bytes::from_static(b"c")]);
        let meta = SnapshotMeta { slot: Slot(9), size_bytes: 1000, checksum: 0xdead_beef };
        let (read, round) = (ReadId(7), HeartbeatRound(8));
        let reports = vec![
            (Slot(5), Entry::Chosen { value: value() }),
            (Slot(6), Entry::Accepted { ballot, value: Value::no_op() }),
        ];
        vec![
            ("080312070a0508ac021002", Body::Probe { ballot }),
            ("08031a0e0a0508ac021002120508ad021001", Body::Consent { ballot, promised }),
            ("080322090a0508ac0210021005", Body::Prepare { ballot, first: Slot(5) }),
            (
                "08032a270a0508ac02100210051a0f0805120b02000000616201000000631a0908061a0508ac0210022007",
                Body::Promise { ballot, first: Slot(5), reports, rest: Some(Slot(7)) },
            ),
            ("080332020804", Body::Trimmed { below: Slot(4) }),
            (
                "08033a180a0508ac02100210061a0b02000000616201000000632005",
                Body::Accept { ballot, slot: Slot(6), value: value(), chosen: Slot(5) },
            ),
            ("0803420b0a0508ac02100210061808", Body::Accepted { ballot, first: Slot(6), last: Slot(8) }),
            ("08034a0e0a0508ac021002120508ad021001", Body::Reject { ballot, promised }),
            ("0803520b0a0508ac02100210051808", Body::Heartbeat { ballot, chosen: Slot(5), round }),
            ("08035a090a0508ac0210021008", Body::HeartbeatAck { ballot, round }),
            ("080362040a026162", Body::Forward { commands: vec![Bytes::from_static(b"ab")] }),
            ("08036a09090700000000000000", Body::ReadRequest { read }),
            (
                "080372140907000000000000001005 1a0508ac0210022006",
                Body::ReadGrant { read, slot: Slot(5), ballot, chosen: Slot(6) },
            ),
            ("08037a020805", Body::Fetch { first: Slot(5) }),
            (
                "080382011108051 20b02000000616201000000631806",
                Body::Chosen { first: Slot(5), values: vec![value()], chosen: Slot(6) },
            ),
            ("08038a010408091064", Body::FetchSnapshot { slot: Slot(9), offset: 100 }),
            (
                "08039201120a0a080910e8071defbeadde10641a026162",
                Body::SnapshotChunk { meta, offset: 100, data: Bytes::from_static(b"ab") },
            ),
        ]
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn every_kind_of_message_keeps_its_bytes() {
        for (golden, body) in samples() {
            let message = Message { epoch: Epoch(3), body };
            let bytes = encode(&message);
            assert_eq!(hex(&bytes), golden.replace(' ', ""), "{message:?}");
            assert_eq!(decode(bytes), Ok(message));
        }
    }

    #[test]
    fn what_is_missing_or_malformed_is_told_apart() {
        let decode_hex = |body: schema::Body| {
            decode(Bytes::from(schema::Frame { epoch: 0, body: Some(body) }.encode_to_vec()))
        };
        assert_eq!(decode(Bytes::new()), Err(WireError::UnknownBody));
        let no_ballot = schema::Body::Prepare(schema::AtBallot { ballot: None, number: 1 });
        assert_eq!(decode_hex(no_ballot), Err(WireError::MissingField("ballot")));
        let accept = schema::Accept {
            ballot: to_schema(Ballot::ZERO),
            slot: 1,
            value: Bytes::from_static(&[9, 0, 0, 0]),
            chosen: 0,
        };
        assert_eq!(decode_hex(schema::Body::Accept(accept)), Err(WireError::MalformedValue));
        assert!(matches!(decode(Bytes::from_static(&[0x08])), Err(WireError::Undecodable(_))));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(bytes: Vec<u8>) {
            let _ = decode(Bytes::from(bytes));
        }

        #[test]
        fn no_damage_to_a_message_makes_the_decoder_panic(sample in 0..17usize, at: usize, byte: u8, cut: bool) {
            let (_, body) = samples().swap_remove(sample);
            let mut bytes = encode(&Message { epoch: Epoch(3), body }).to_vec();
            let at = at % bytes.len();
            if cut { bytes.truncate(at) } else { bytes[at] = byte }
            let _ = decode(Bytes::from(bytes));
        }
    }
}
