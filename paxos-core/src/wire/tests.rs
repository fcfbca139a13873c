//! Round trips, golden bytes, and frames that are not as they should be.

use super::*;
use crate::durable::{Entry, SnapshotMeta};
use crate::id::{Ballot, NodeId, Slot};
use crate::message::{Body, HeartbeatRound, ReadId};
use crate::value::Value;
use proptest::prelude::*;

/// One message of each kind and its bytes, in the order of the schema.
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
    let (first, last, slot, chosen) = (Slot(5), Slot(8), Slot(6), Slot(5));
    let commands = vec![Bytes::from_static(b"ab")];
    vec![
        ("0803 1207 0a0508ac021002", Body::Probe { ballot }),
        ("0803 1a0e 0a0508ac021002 120508ad021001", Body::Consent { ballot, promised }),
        ("0803 2209 0a0508ac021002 1005", Body::Prepare { ballot, first }),
        (
            "0803 2a2b 0a0508ac021002 1005 \
             1a11 0805 120b0200000061620100000063 2200 1a0b 0806 1200 1a0508ac021002 2007",
            Body::Promise { ballot, first, reports, rest: Some(Slot(7)) },
        ),
        ("0803 3202 0804", Body::Trimmed { below: Slot(4) }),
        (
            "0803 3a18 0a0508ac021002 1006 1a0b0200000061620100000063 2005",
            Body::Accept { ballot, slot, value: value(), chosen },
        ),
        ("0803 420b 0a0508ac021002 1005 1808", Body::Accepted { ballot, first, last }),
        ("0803 4a0e 0a0508ac021002 120508ad021001", Body::Reject { ballot, promised }),
        ("0803 520b 0a0508ac021002 1005 1808", Body::Heartbeat { ballot, chosen, round }),
        ("0803 5a09 0a0508ac021002 1008", Body::HeartbeatAck { ballot, round }),
        ("0803 6204 0a026162", Body::Forward { commands }),
        ("0803 6a09 090700000000000000", Body::ReadRequest { read }),
        (
            "0803 7214 090700000000000000 1006 1a0508ac021002 2005",
            Body::ReadGrant { read, slot, ballot, chosen },
        ),
        ("0803 7a02 0805", Body::Fetch { first }),
        (
            "0803 820111 0805 120b0200000061620100000063 1805",
            Body::Chosen { first, values: vec![value()], chosen },
        ),
        ("0803 8a0104 0809 1064", Body::FetchSnapshot { slot: Slot(9), offset: 100 }),
        (
            "0803 920112 0a0a080910e8071defbeadde 1064 1a026162",
            Body::SnapshotChunk { meta, offset: 100, data: Bytes::from_static(b"ab") },
        ),
    ]
}

fn sample(index: usize) -> Message {
    Message { epoch: Epoch(3), body: samples().swap_remove(index).1 }
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
}

/// The bytes that the digits say, spaces left out.
fn from_hex(digits: &str) -> Bytes {
    let digits: Vec<char> = digits.chars().filter(|digit| *digit != ' ').collect();
    let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16);
    digits.chunks(2).map(|pair| byte(pair).expect("two hex digits")).collect()
}

#[test]
fn every_kind_of_message_keeps_its_bytes() {
    for (golden, body) in samples() {
        let message = Message { epoch: Epoch(3), body };
        assert_eq!(to_hex(&encode(&message)), golden.replace(' ', ""), "{message:?}");
        assert_eq!(decode(from_hex(golden)), Ok(message));
    }
}

#[test]
fn no_message_that_was_cut_short_is_taken() {
    for index in 0..samples().len() {
        let frame = encode(&sample(index));
        for length in 0..frame.len() {
            assert!(decode(frame.slice(..length)).is_err(), "{:?} cut to {length}", sample(index));
        }
    }
}

#[test]
fn fields_of_a_newer_version_are_ignored() {
    let known = decode(from_hex("0803 2209 0a0508ac021002 1005"));
    // Field 19 in the ballot and in the body, field 99 in the frame.
    let with_unknown = decode(from_hex("0803 220f 0a0808ac021002980107 1005 980107 980607"));
    assert!(known.is_ok());
    assert_eq!(with_unknown, known);
}

#[test]
fn what_is_of_a_newer_kind_is_refused() {
    assert_eq!(decode(from_hex("0803 9a0102 0801")), Err(WireError::UnknownBody), "a body under tag 19");
    assert_eq!(
        decode(from_hex("2a0f 0a021001 1001 1a07 0801 1200 2a0101")),
        Err(WireError::MissingField { field: "accepted or chosen" }),
        "an entry that stands in a way under tag 5"
    );
}

#[test]
fn what_must_be_there_is_missed() {
    let missing = |digits: &str| match decode(from_hex(digits)) {
        Err(WireError::MissingField { field }) => field,
        other => panic!("{digits} decoded as {other:?}"),
    };
    assert_eq!(missing("1200"), "ballot", "of a probe");
    assert_eq!(missing("1a020a00"), "promised", "of a consent");
    assert_eq!(missing("22020a00"), "first", "of a prepare");
    assert_eq!(missing("2a020a00"), "first", "of a promise");
    assert_eq!(missing("2a0a 0a00 1001 1a04 1200 2200"), "slot", "of a report");
    assert_eq!(missing("2a0a 0a00 1001 1a04 0801 2200"), "value", "of a report");
    assert_eq!(missing("2a0a 0a00 1001 1a04 0801 1200"), "accepted or chosen", "of a report");
    assert_eq!(missing("3200"), "below", "of a trimmed");
    assert_eq!(missing("3a04 0a00 1a00"), "slot", "of an accept");
    assert_eq!(missing("3a04 0a00 1001"), "value", "of an accept: this is no no-op");
    assert_eq!(missing("4204 0a00 1001"), "last", "of an accepted");
    assert_eq!(missing("7a00"), "first", "of a fetch");
    assert_eq!(missing("820100"), "first", "of chosen values");
    assert_eq!(missing("920100"), "snapshot", "of a piece of one");
}

#[test]
fn what_is_malformed_is_told_apart() {
    assert_eq!(decode(Bytes::new()), Err(WireError::UnknownBody));
    assert_eq!(decode(from_hex("3a0a 0a00 1001 1a04 09000000")), Err(WireError::MalformedValue));
    assert_eq!(decode(from_hex("820108 0801 1204 09000000")), Err(WireError::MalformedValue));
    assert!(matches!(decode(from_hex("08")), Err(WireError::Undecodable { .. })));
    assert!(matches!(decode(from_hex("3a ffffffff0f")), Err(WireError::Undecodable { .. })), "4 GiB to come");
}

#[test]
fn what_is_long_is_not_copied() {
    for index in 0..samples().len() {
        let frame = encode(&sample(index));
        let message = decode(frame.clone()).expect("what was encoded can be decoded");
        let payload = match &message.body {
            Body::Accept { value, .. } => value.as_bytes(),
            Body::Promise { reports, .. } => reports[0].1.value().as_bytes(),
            Body::Chosen { values, .. } => values[0].as_bytes(),
            Body::Forward { commands } => &commands[0],
            Body::SnapshotChunk { data, .. } => data,
            _ => continue,
        };
        assert!(frame.as_ptr_range().contains(&payload.as_ptr()), "{message:?}");
    }
}

fn any_ballot() -> impl Strategy<Value = Ballot> {
    any::<(u64, u64)>().prop_map(|(round, node)| Ballot { round, node: NodeId(node) })
}

fn any_slot() -> impl Strategy<Value = Slot> {
    (1..=u64::MAX).prop_map(Slot)
}

fn any_watermark() -> impl Strategy<Value = Slot> {
    any::<u64>().prop_map(Slot)
}

fn any_bytes() -> impl Strategy<Value = Bytes> {
    any::<Vec<u8>>().prop_map(Bytes::from)
}

fn any_commands() -> impl Strategy<Value = Vec<Bytes>> {
    prop::collection::vec(any_bytes(), 0..4)
}

fn any_value() -> impl Strategy<Value = Value> {
    any_commands().prop_map(|commands| Value::batch(&commands))
}

fn any_entry() -> impl Strategy<Value = Entry> {
    (any::<bool>(), any_ballot(), any_value()).prop_map(|(chosen, ballot, value)| {
        if chosen { Entry::Chosen { value } } else { Entry::Accepted { ballot, value } }
    })
}

fn any_reports() -> impl Strategy<Value = Vec<(Slot, Entry)>> {
    prop::collection::vec((any_slot(), any_entry()), 0..4)
}

fn any_meta() -> impl Strategy<Value = SnapshotMeta> {
    (any_watermark(), any::<u64>(), any::<u32>()).prop_map(|(slot, size_bytes, checksum)| SnapshotMeta {
        slot,
        size_bytes,
        checksum,
    })
}

fn any_body() -> impl Strategy<Value = Body> {
    let round = || any::<u64>().prop_map(HeartbeatRound);
    let read = || any::<u64>().prop_map(ReadId);
    let rest = || prop::option::of(any_slot());
    let values = || prop::collection::vec(any_value(), 0..4);
    prop_oneof![
        any_ballot().prop_map(|ballot| Body::Probe { ballot }),
        (any_ballot(), any_ballot()).prop_map(|(ballot, promised)| Body::Consent { ballot, promised }),
        (any_ballot(), any_slot()).prop_map(|(ballot, first)| Body::Prepare { ballot, first }),
        (any_ballot(), any_slot(), any_reports(), rest())
            .prop_map(|(ballot, first, reports, rest)| Body::Promise { ballot, first, reports, rest }),
        any_slot().prop_map(|below| Body::Trimmed { below }),
        (any_ballot(), any_slot(), any_value(), any_watermark())
            .prop_map(|(ballot, slot, value, chosen)| Body::Accept { ballot, slot, value, chosen }),
        (any_ballot(), any_slot(), any_slot()).prop_map(|(ballot, first, last)| Body::Accepted {
            ballot,
            first,
            last
        }),
        (any_ballot(), any_ballot()).prop_map(|(ballot, promised)| Body::Reject { ballot, promised }),
        (any_ballot(), any_watermark(), round()).prop_map(|(ballot, chosen, round)| Body::Heartbeat {
            ballot,
            chosen,
            round
        }),
        (any_ballot(), round()).prop_map(|(ballot, round)| Body::HeartbeatAck { ballot, round }),
        any_commands().prop_map(|commands| Body::Forward { commands }),
        read().prop_map(|read| Body::ReadRequest { read }),
        (read(), any_watermark(), any_ballot(), any_watermark())
            .prop_map(|(read, slot, ballot, chosen)| Body::ReadGrant { read, slot, ballot, chosen }),
        any_slot().prop_map(|first| Body::Fetch { first }),
        (any_slot(), values(), any_watermark()).prop_map(|(first, values, chosen)| Body::Chosen {
            first,
            values,
            chosen
        }),
        (any_watermark(), any::<u64>()).prop_map(|(slot, offset)| Body::FetchSnapshot { slot, offset }),
        (any_meta(), any::<u64>(), any_bytes()).prop_map(|(meta, offset, data)| Body::SnapshotChunk {
            meta,
            offset,
            data
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn every_message_comes_back_as_it_went(epoch: u64, body in any_body()) {
        let message = Message { epoch: Epoch(epoch), body };
        let frame = encode(&message);
        prop_assert_eq!(frame.len(), encoded_len(&message));
        prop_assert_eq!(decode(frame), Ok(message));
    }

    #[test]
    fn any_bytes_are_refused_or_taken_for_a_message_that_comes_back(bytes: Vec<u8>) {
        if let Ok(message) = decode(Bytes::from(bytes)) {
            prop_assert_eq!(decode(encode(&message)), Ok(message));
        }
    }

    #[test]
    fn so_is_a_message_that_was_damaged(body in any_body(), at: prop::sample::Index, byte: u8) {
        let mut bytes = encode(&Message { epoch: Epoch(3), body }).to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(message) = decode(Bytes::from(bytes)) {
            prop_assert_eq!(decode(encode(&message)), Ok(message));
        }
    }
}

#[test]
fn errors_say_what_is_wrong() {
    for (error, said) in [
        (WireError::Undecodable { problem: String::from("a hole") }, "not a message: a hole"),
        (WireError::UnknownBody, "a message of an unknown kind"),
        (WireError::MissingField { field: "ballot" }, "without its field ballot"),
        (WireError::MalformedValue, "not a well-formed batch"),
    ] {
        assert!(error.to_string().contains(said), "{error}");
    }
}
