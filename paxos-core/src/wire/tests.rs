//! Round trips, golden bytes, and malformed frames.

use super::*;
use crate::clock::{LeaderTime, Time};
use crate::durable::{Entry, SnapshotMeta};
use crate::id::{Ballot, NodeId, Slot};
use crate::membership::Membership;
use crate::message::{
    Accept, Accepted, Body, Chosen, Consent, Decline, Fetch, FetchSnapshot, Forward, Heartbeat, HeartbeatAck,
    HeartbeatRound, NewEpoch, Prepare, Probe, Promise, ReadGrant, ReadId, ReadRequest, Reject, SnapshotChunk,
    TakeOver, TooLong, Trimmed,
};
use crate::value::Value;
use proptest::prelude::*;

/// One message of each kind and its bytes behind the header, in the order of the schema.
fn samples() -> Vec<(&'static str, Body)> {
    let ballot = Ballot { round: 300, node: NodeId(2) };
    let promised = Ballot { round: 301, node: NodeId(1) };
    let value = || Value::batch(&[Bytes::from_static(b"ab"), Bytes::from_static(b"c")]);
    let meta = SnapshotMeta {
        slot: Slot(9),
        size_bytes: 1000,
        checksum: 0xdead_beef,
        membership: Membership::of_three(),
    };
    let (read, round) = (ReadId(7), HeartbeatRound(8));
    let reports = vec![
        (Slot(5), Entry::Chosen { value: value() }),
        (Slot(6), Entry::Accepted { ballot, value: Value::no_op() }),
    ];
    let (first, last, slot, chosen) = (Slot(5), Slot(8), Slot(6), Slot(5));
    let commands = || vec![Bytes::from_static(b"ab")];
    vec![
        ("0803 1207 0a0508ac021002", Body::Probe(Probe { ballot })),
        ("0803 1a0e 0a0508ac021002 120508ad021001", Body::Consent(Consent { ballot, promised })),
        ("0803 2209 0a0508ac021002 1005", Body::Prepare(Prepare { ballot, first, handed_over: None })),
        (
            "0803 2a2b 0a0508ac021002 1005 \
             1a11 0805 120b0200000061620100000063 2200 1a0b 0806 1200 1a0508ac021002 2007",
            Body::Promise(Promise { ballot, first, reports, rest: Some(Slot(7)), time: None }),
        ),
        ("0803 3202 0804", Body::Trimmed(Trimmed { below: Slot(4) })),
        (
            "0803 3a18 0a0508ac021002 1006 1a0b0200000061620100000063 2005",
            Body::Accept(Accept { ballot, slot, value: value(), chosen }),
        ),
        ("0803 420b 0a0508ac021002 1005 1808", Body::Accepted(Accepted { ballot, first, last })),
        ("0803 4a0e 0a0508ac021002 120508ad021001", Body::Reject(Reject { ballot, promised })),
        (
            "0803 520b 0a0508ac021002 1005 1808",
            Body::Heartbeat(Heartbeat { ballot, chosen, round, time: Time::NONE }),
        ),
        ("0803 5a0b 0a0508ac021002 1008 1805", Body::HeartbeatAck(HeartbeatAck { ballot, round, chosen })),
        ("0803 6204 0a026162", Body::Forward(Forward { commands: commands() })),
        ("0803 6a09 090700000000000000", Body::ReadRequest(ReadRequest { read })),
        (
            "0803 7214 090700000000000000 1006 1a0508ac021002 2005",
            Body::ReadGrant(ReadGrant { read, slot, ballot, chosen, time: Time::NONE }),
        ),
        ("0803 7a02 0805", Body::Fetch(Fetch::all_from(first))),
        ("0803 7a06 0805 1008 1803", Body::Fetch(Fetch { first, last: Some(last), ahead_slots: 3 })),
        (
            "0803 820111 0805 120b0200000061620100000063 1805",
            Body::Chosen(Chosen { first, values: vec![value()], chosen }),
        ),
        ("0803 8a0104 0809 1064", Body::FetchSnapshot(FetchSnapshot { slot: Slot(9), offset: 100 })),
        (
            "0803 920158 0a50080910e8071defbeadde 2244 \
             01 0000000000000000 0000000000000000 0000000000000000 02 02 03 \
             0100000000000000 01 01 0000 0200000000000000 01 01 0000 0300000000000000 01 01 0000 \
             00000000 1064 1a026162",
            Body::SnapshotChunk(SnapshotChunk {
                meta: Box::new(meta),
                offset: 100,
                data: Bytes::from_static(b"ab"),
            }),
        ),
        ("0803 9a0107 08e807 12026162", Body::TooLong(TooLong { limit_bytes: 1000, commands: commands() })),
        ("0803 a20102 0805", Body::NewEpoch(NewEpoch { chosen })),
        ("0803 aa0107 0a0508ac021002", Body::TakeOver(TakeOver { ballot })),
        ("0803 b20107 0a0508ac021002", Body::Decline(Decline { ballot })),
    ]
}

/// The messages that carry a time, with one, and their bytes behind the header.
fn timed_samples() -> Vec<(&'static str, Body)> {
    let ballot = Ballot { round: 300, node: NodeId(2) };
    let time = Time(300);
    let value = || Value::batch(&[Bytes::from_static(b"ab"), Bytes::from_static(b"c")]).at(time);
    let reports = vec![
        (Slot(5), Entry::Chosen { value: value() }),
        (Slot(6), Entry::Accepted { ballot, value: Value::no_op() }),
    ];
    let (first, slot, chosen, round) = (Slot(5), Slot(6), Slot(5), HeartbeatRound(8));
    let told = Some(LeaderTime { ballot, time });
    vec![
        (
            "0803 2a38 0a0508ac021002 1005 \
             1a14 0805 120b0200000061620100000063 2200 30ac02 1a0b 0806 1200 1a0508ac021002 2007 \
             2a0508ac021002 30ac02",
            Body::Promise(Promise { ballot, first, reports, rest: Some(Slot(7)), time: told }),
        ),
        (
            "0803 3a1b 0a0508ac021002 1006 1a0b0200000061620100000063 2005 30ac02",
            Body::Accept(Accept { ballot, slot, value: value(), chosen }),
        ),
        (
            "0803 520e 0a0508ac021002 1005 1808 20ac02",
            Body::Heartbeat(Heartbeat { ballot, chosen, round, time }),
        ),
        (
            "0803 7217 090700000000000000 1006 1a0508ac021002 2005 28ac02",
            Body::ReadGrant(ReadGrant { read: ReadId(7), slot, ballot, chosen, time }),
        ),
        (
            "0803 82011b 0805 120b0200000061620100000063 1805 2a08 2c01000000000000",
            Body::Chosen(Chosen { first, values: vec![value()], chosen }),
        ),
    ]
}

fn sample(index: usize) -> Message {
    Message { epoch: Epoch(3), body: samples().swap_remove(index).1 }
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
}

/// Decodes a message without its header, given as hexadecimal digits.
fn decode_hex(digits: &str) -> Result<Message, WireError> {
    decode(framed_bytes(&from_hex(digits)))
}

/// The bytes of hexadecimal digits; spaces are ignored.
fn from_hex(digits: &str) -> Bytes {
    let digits: Vec<char> = digits.chars().filter(|digit| *digit != ' ').collect();
    let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16);
    digits.chunks(2).map(|pair| byte(pair).expect("two hex digits")).collect()
}

#[test]
fn every_kind_of_message_keeps_its_bytes() {
    for (golden, body) in samples().into_iter().chain(timed_samples()) {
        let message = Message { epoch: Epoch(3), body };
        let encoded = encode(&message);
        assert_eq!(to_hex(&encoded[HEADER_BYTES..]), golden.replace(' ', ""), "{message:?}");
        assert_eq!(encoded, framed_bytes(&from_hex(golden)), "{message:?}");
        assert_eq!(decode(encoded), Ok(message));
    }
}

/// Without golden bytes nothing would show that a new message lacks its tag or its shape.
#[test]
fn every_message_has_golden_bytes_and_is_shown_by_its_name() {
    let name = |body: Body| body.to_string().split([' ', ',']).next().unwrap_or_default().to_owned();
    let mut sampled: Vec<String> = samples().into_iter().map(|(_, body)| name(body)).collect();
    let mut names = Body::NAMES.to_vec();
    sampled.sort_unstable();
    sampled.dedup();
    names.sort_unstable();
    assert_eq!(sampled, names);
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
fn the_header_is_the_length_and_the_checksum() {
    // CRC32C of the message by another implementation.
    let golden = "0d000000 4e62ea95 0803 2209 0a0508ac021002 1005";
    assert_eq!(to_hex(&encode(&sample(2))), golden.replace(' ', ""));
}

#[test]
fn a_message_is_bound_to_what_the_sender_has_put_before_it() {
    let (message, prefix) = (sample(2), b"from 7");
    let frame = encode_behind(prefix, &message);
    assert_eq!(decode_behind(prefix.len(), frame.clone()), Ok(message.clone()));
    for bit in 0..8 * prefix.len() {
        let mut changed = frame.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(decode_behind(prefix.len(), changed.into()), Err(WireError::WrongChecksum), "bit {bit}");
    }
    let is_of_wrong_length = |result| matches!(result, Err(WireError::WrongLength { .. }));
    assert_eq!(decode(frame.slice(prefix.len()..)), Err(WireError::WrongChecksum), "without it");
    assert!(is_of_wrong_length(decode_behind(prefix.len(), encode(&message))), "its header is swallowed");
    assert!(is_of_wrong_length(decode_behind(prefix.len(), frame.slice(..prefix.len() - 1))));
    assert!(is_of_wrong_length(decode_behind(prefix.len(), frame.slice(..prefix.len() + 7))));
}

#[test]
fn an_epoch_of_0_is_sent_too() {
    let message = Message { epoch: Epoch(0), body: samples().swap_remove(4).1 };
    assert_eq!(to_hex(&encode(&message)[HEADER_BYTES..]), "080032020804");
    assert_eq!(decode(encode(&message)), Ok(message));
}

#[test]
fn nothing_is_taken_that_is_not_as_it_was_sent() {
    for index in 0..samples().len() {
        let message = sample(index);
        let frame = encode(&message);
        let next = encode(&sample((index + 1) % samples().len()));
        for behind in [&b"\0"[..], &frame, &next, &next[HEADER_BYTES..]] {
            let longer = Bytes::from([&frame, behind].concat());
            assert!(matches!(decode(longer), Err(WireError::WrongLength { .. })), "{message:?}");
            let before = Bytes::from([behind, &frame].concat());
            assert!(decode(before).is_err(), "{message:?}");
        }
        for bit in 0..8 * frame.len() {
            let mut changed = frame.to_vec();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(Bytes::from(changed)).is_err(), "bit {bit} of {message:?}");
        }
    }
}

#[test]
fn fields_of_a_newer_version_are_ignored() {
    let known = decode_hex("0803 2209 0a0508ac021002 1005");
    // Field 19 in the ballot and in the body, field 99 in the frame.
    let with_unknown = decode_hex("0803 220f 0a0808ac021002980107 1005 980107 980607");
    assert!(known.is_ok());
    assert_eq!(with_unknown, known);
}

/// The fields of a message: the bytes of each, and where its content begins if that has a length.
fn fields(mut message: &[u8]) -> Option<Vec<(&[u8], Option<usize>)>> {
    let mut fields = Vec::new();
    while !message.is_empty() {
        let mut rest = message;
        let key = prost::encoding::decode_varint(&mut rest).ok().filter(|key| *key >= 8)?;
        let length = match key % 8 {
            0 => {
                prost::encoding::decode_varint(&mut rest).ok()?;
                0
            }
            1 => 8,
            2 => usize::try_from(prost::encoding::decode_varint(&mut rest).ok()?).ok()?,
            5 => 4,
            _ => return None,
        };
        let start = message.len() - rest.len();
        let (field, after) = message.split_at_checked(start + length)?;
        fields.push((field, (key % 8 == 2).then_some(start)));
        message = after;
    }
    Some(fields)
}

/// The message with each of its fields twice, one at a time, and each field of messages within it.
fn with_a_field_twice(message: &[u8]) -> Vec<Vec<u8>> {
    let Some(fields) = fields(message) else { return Vec::new() };
    let mut doubled = Vec::new();
    let mut before = Vec::new();
    for (field, content) in fields {
        let after = &message[before.len() + field.len()..];
        doubled.push([&before, field, field, after].concat());
        for inner in content.map_or_else(Vec::new, |start| with_a_field_twice(&field[start..])) {
            let key_bytes = field.iter().position(|byte| *byte < 0x80).expect("a key ends") + 1;
            let mut longer = [&before, &field[..key_bytes]].concat();
            prost::encoding::encode_varint(inner.len() as u64, &mut longer);
            doubled.push([&longer[..], &inner, after].concat());
        }
        before.extend_from_slice(field);
    }
    doubled
}

#[test]
fn a_field_that_comes_twice_is_refused_at_every_level_unless_it_is_a_list() {
    // A value that comes twice lacks its time: that is refused, too, but for another reason.
    let timed = timed_samples().into_iter().filter(|(_, body)| !matches!(body, Body::Chosen(_)));
    for (golden, body) in samples().into_iter().chain(timed) {
        let (mut refused, mut taken) = (0, 0);
        for doubled in with_a_field_twice(&from_hex(golden)) {
            match decode(framed_bytes(&doubled)) {
                Err(WireError::Repeated { .. }) => refused += 1,
                Ok(_) => taken += 1,
                Err(error) => panic!("{}: {error}", to_hex(&doubled)),
            }
        }
        let elements = match &body {
            Body::Promise(Promise { reports, .. }) => reports.len(),
            Body::Forward(Forward { commands }) | Body::TooLong(TooLong { commands, .. }) => commands.len(),
            Body::Chosen(Chosen { values, .. }) => values.len(),
            _ => 0,
        };
        assert_eq!(taken, elements, "{body:?}");
        assert!(refused >= 2, "the epoch and the body at least: {body:?}");
    }
}

#[test]
fn two_bodies_are_refused_whatever_they_are() {
    let repeated = |field| Err(WireError::Repeated { field });
    assert_eq!(decode_hex("0803 3202 0804 3202 0804"), repeated("body"), "of one kind");
    assert_eq!(decode_hex("0803 3202 0804 7a02 0805"), repeated("body"), "of two");
    assert_eq!(
        decode_hex("0803 3202 0804 ba0102 0801"),
        repeated("body"),
        "and one of a newer version, under tag 23"
    );
    assert_eq!(decode_hex("0803 fa0302 0801 fa0302 0801"), repeated("body"), "under tag 63");
    assert_eq!(
        decode_hex("0803 8a0400 3202 0804 8a0400"),
        decode_hex("0803 3202 0804"),
        "tag 65 is for no body"
    );
    assert_eq!(
        decode_hex("2a10 0a021001 1001 1a08 0801 1200 2200 1a00"),
        repeated("accepted or chosen"),
        "of a report"
    );
}

#[test]
fn fields_that_are_unknown_may_come_as_often_as_they_like_and_hold_what_they_like() {
    let known = decode_hex("0803 3202 0804");
    assert!(known.is_ok());
    assert_eq!(decode_hex("0803 3208 0804 980107 980109"), known, "tag 19 of a body, as a number");
    assert_eq!(decode_hex("0803 320a 0804 9a010107 9a010109"), known, "and as bytes that are no message");
}

#[test]
fn what_is_of_a_newer_kind_is_refused() {
    assert_eq!(decode_hex("0803 ba0102 0801"), Err(WireError::UnknownBody), "a body under tag 23");
    assert_eq!(
        decode_hex("2a0f 0a021001 1001 1a07 0801 1200 3a0101"),
        Err(WireError::MissingField { field: "accepted or chosen" }),
        "an entry that stands in a way under tag 7"
    );
    let kind = Err(WireError::UnknownKind { number: 2 });
    assert_eq!(decode_hex("0803 3a0a 0a021001 1001 1a00 2802"), kind, "a value of an unknown kind");
    let membership = Err(WireError::MalformedValue);
    let of_level_3 = "0803 3a0d 0a021001 1001 1a03 020300 2801";
    assert_eq!(decode_hex(of_level_3), membership, "a membership of an unknown format level");
    let group = Err(WireError::UnknownGroup { group: GroupId(7) });
    assert_eq!(decode_hex("0803 3202 0804 800407"), group, "a message for another group");
}

#[test]
fn what_must_be_there_is_missed() {
    let missing = |digits: &str| match decode_hex(digits) {
        Err(WireError::MissingField { field }) => field,
        other => panic!("{digits} decoded as {other:?}"),
    };
    assert_eq!(missing("3202 0804"), "epoch", "of any frame");
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
    assert_eq!(decode_hex(""), Err(WireError::UnknownBody));
    assert_eq!(decode_hex("3a0a 0a00 1001 1a04 09000000"), Err(WireError::MalformedValue));
    assert_eq!(decode_hex("820108 0801 1204 09000000"), Err(WireError::MalformedValue));
    assert_eq!(
        decode_hex("0803 3a08 0a00 1001 1a00 3001"),
        Err(WireError::MalformedValue),
        "a no-op has no time"
    );
    let times = Err(WireError::MissingField { field: "times" });
    assert_eq!(decode_hex("0803 82010e 0801 1200 2a08 0100000000000000"), Err(WireError::MalformedValue));
    assert_eq!(decode_hex("0803 820110 0801 1200 1200 2a08 0100000000000000"), times, "one for two values");
    assert_eq!(decode_hex("0803 820109 0801 1200 2a03 010000"), times, "half a time");
    assert!(matches!(decode_hex("08"), Err(WireError::Undecodable { .. })));
    assert!(matches!(decode_hex("3a ffffffff0f"), Err(WireError::Undecodable { .. })), "4 GiB to come");
}

#[test]
fn what_is_long_is_not_copied() {
    for index in 0..samples().len() {
        let frame = encode(&sample(index));
        let message = decode(frame.clone()).expect("what was encoded can be decoded");
        let payload = match &message.body {
            Body::Accept(Accept { value, .. }) => value.as_bytes(),
            Body::Promise(Promise { reports, .. }) => reports[0].1.value().as_bytes(),
            Body::Chosen(Chosen { values, .. }) => values[0].as_bytes(),
            Body::Forward(Forward { commands }) | Body::TooLong(TooLong { commands, .. }) => &commands[0],
            Body::SnapshotChunk(SnapshotChunk { data, .. }) => data,
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

fn any_time() -> impl Strategy<Value = Time> {
    prop_oneof![Just(Time::NONE), any::<u64>().prop_map(Time)]
}

fn any_bytes() -> impl Strategy<Value = Bytes> {
    any::<Vec<u8>>().prop_map(Bytes::from)
}

fn any_commands() -> impl Strategy<Value = Vec<Bytes>> {
    prop::collection::vec(any_bytes(), 0..4)
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        3 => (any_commands(), any_time()).prop_map(|(commands, time)| Value::batch(&commands).at(time)),
        1 => Just(Value::membership(&Membership::of_three())),
    ]
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
        membership: Membership::of_three(),
    })
}

fn any_body() -> impl Strategy<Value = Body> {
    let round = || any::<u64>().prop_map(HeartbeatRound);
    let read = || any::<u64>().prop_map(ReadId);
    let rest = || prop::option::of(any_slot());
    let values = || prop::collection::vec(any_value(), 0..4);
    prop_oneof![
        any_ballot().prop_map(|ballot| Body::Probe(Probe { ballot })),
        (any_ballot(), any_ballot())
            .prop_map(|(ballot, promised)| Body::Consent(Consent { ballot, promised })),
        (any_ballot(), any_slot(), prop::option::of(any_ballot())).prop_map(
            |(ballot, first, handed_over)| { Body::Prepare(Prepare { ballot, first, handed_over }) }
        ),
        (any_ballot(), any_slot(), any_reports(), rest(), prop::option::of((any_ballot(), any_time())))
            .prop_map(|(ballot, first, reports, rest, of)| {
                let time = of.map(|(ballot, time)| LeaderTime { ballot, time });
                Body::Promise(Promise { ballot, first, reports, rest, time })
            }),
        any_slot().prop_map(|below| Body::Trimmed(Trimmed { below })),
        (any_ballot(), any_slot(), any_value(), any_watermark())
            .prop_map(|(ballot, slot, value, chosen)| Body::Accept(Accept { ballot, slot, value, chosen })),
        (any_ballot(), any_slot(), any_slot()).prop_map(|(ballot, first, last)| Body::Accepted(Accepted {
            ballot,
            first,
            last
        })),
        (any_ballot(), any_ballot()).prop_map(|(ballot, promised)| Body::Reject(Reject { ballot, promised })),
        (any_ballot(), any_watermark(), round(), any_time()).prop_map(|(ballot, chosen, round, time)| {
            Body::Heartbeat(Heartbeat { ballot, chosen, round, time })
        }),
        (any_ballot(), round(), any_watermark())
            .prop_map(|(ballot, round, chosen)| Body::HeartbeatAck(HeartbeatAck { ballot, round, chosen })),
        any_watermark().prop_map(|chosen| Body::NewEpoch(NewEpoch { chosen })),
        any_ballot().prop_map(|ballot| Body::TakeOver(TakeOver { ballot })),
        any_ballot().prop_map(|ballot| Body::Decline(Decline { ballot })),
        any_commands().prop_map(|commands| Body::Forward(Forward { commands })),
        (any::<u64>(), any_commands())
            .prop_map(|(limit_bytes, commands)| Body::TooLong(TooLong { limit_bytes, commands })),
        read().prop_map(|read| Body::ReadRequest(ReadRequest { read })),
        (read(), any_watermark(), any_ballot(), any_watermark(), any_time()).prop_map(
            |(read, slot, ballot, chosen, time)| {
                Body::ReadGrant(ReadGrant { read, slot, ballot, chosen, time })
            }
        ),
        (any_slot(), proptest::option::of(any_slot()), any::<u64>())
            .prop_map(|(first, last, ahead_slots)| Body::Fetch(Fetch { first, last, ahead_slots })),
        (any_slot(), values(), any_watermark()).prop_map(|(first, values, chosen)| Body::Chosen(Chosen {
            first,
            values,
            chosen
        })),
        (any_watermark(), any::<u64>())
            .prop_map(|(slot, offset)| Body::FetchSnapshot(FetchSnapshot { slot, offset })),
        (any_meta(), any::<u64>(), any_bytes()).prop_map(|(meta, offset, data)| Body::SnapshotChunk(
            SnapshotChunk { meta: Box::new(meta), offset, data }
        )),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn every_message_comes_back_as_it_went(epoch: u64, body in any_body()) {
        let message = Message { epoch: Epoch(epoch), body };
        let frame = encode(&message);
        prop_assert_eq!(frame.len(), encoded_len(&message));
        prop_assert_eq!(decode_by_schema(&frame, HEADER_BYTES), Ok(message.clone()));
        prop_assert_eq!(decode(frame), Ok(message));
    }

    #[test]
    fn any_bytes_are_refused_or_taken_for_a_message_that_comes_back(bytes: Vec<u8>) {
        prop_assert!(decode(Bytes::copy_from_slice(&bytes)).is_err(), "no checksum is right by accident");
        if let Ok(message) = decode(framed_bytes(&bytes)) {
            prop_assert_eq!(strict::check(&bytes, &schema::FRAME), Ok(()));
            prop_assert_eq!(decode(encode(&message)), Ok(message));
        }
    }

    #[test]
    fn so_is_a_message_that_was_damaged(body in any_body(), at: prop::sample::Index, byte: u8) {
        let message = Message { epoch: Epoch(3), body };
        let mut bytes = encode(&message).to_vec();
        let at = at.index(bytes.len());
        let is_changed = bytes[at] != byte;
        bytes[at] = byte;
        let decoded = decode(Bytes::copy_from_slice(&bytes));
        prop_assert_eq!(decoded.ok(), (!is_changed).then_some(message));
        if let Ok(message) = decode(framed_bytes(&bytes[HEADER_BYTES..])) {
            prop_assert_eq!(strict::check(&bytes[HEADER_BYTES..], &schema::FRAME), Ok(()));
            prop_assert_eq!(decode(encode(&message)), Ok(message));
        }
    }
}

/// A message of phase 2, and what becomes of its bytes.
fn any_of_phase_two() -> impl Strategy<Value = Message> {
    let accept = (any_ballot(), any_slot(), any_value(), any_watermark())
        .prop_map(|(ballot, slot, value, chosen)| Body::Accept(Accept { ballot, slot, value, chosen }));
    let accepted = (any_ballot(), any_slot(), any_slot())
        .prop_map(|(ballot, first, last)| Body::Accepted(Accepted { ballot, first, last }));
    (0..3_u64, prop_oneof![accept, accepted]).prop_map(|(epoch, body)| Message { epoch: Epoch(epoch), body })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn phase_two_is_decoded_as_by_its_schema(
        message in any_of_phase_two(),
        changed: prop::sample::Index,
        bytes in prop::collection::vec(0..0x60_u8, 0..3),
        removed in 0..3_usize,
    ) {
        let frame = encode(&message);
        prop_assert_eq!(phase_two::decode(&frame, HEADER_BYTES), Some(message.clone()));
        let mut damaged = frame[HEADER_BYTES..].to_vec();
        let at = changed.index(damaged.len());
        damaged.splice(at..(at + removed).min(damaged.len()), bytes);
        let damaged = Bytes::from(damaged);
        if let Some(message) = phase_two::decode(&damaged, 0) {
            prop_assert_eq!(decode_by_schema(&damaged, 0), Ok(message));
            prop_assert_eq!(strict::check(&damaged, &schema::FRAME), Ok(()));
        }
    }
}

#[test]
fn phase_two_with_a_field_twice_or_in_another_order_is_left_to_the_schema() {
    let decode = |digits: &str| phase_two::decode(&from_hex(digits), 0).is_some();
    assert!(decode("0803 420b 0a0508ac021002 1005 1808"), "an accepted");
    for digits in [
        "0803 420b 0a0508ac021002 1808 1005",
        "0803 420d 0a0508ac021002 1005 1005 1808",
        "0803 420d 0a0508ac021002 1005 1808 2001",
        "0803 420b 0a0508ac021002 1005 1808 420b 0a0508ac021002 1005 1808",
        "420b 0a0508ac021002 1005 1808 0803",
        "0803 3a7f 420b 0a0508ac021002 1005 1808",
        "0803 3202 0804",
    ] {
        assert!(!decode(digits), "{digits}");
    }
}

#[test]
fn errors_say_what_is_wrong() {
    let wrong_length = WireError::WrongLength { expected_bytes: 9, found_bytes: 7 };
    for (error, said) in [
        (wrong_length, "7 bytes where there must be 9"),
        (WireError::WrongChecksum, "its checksum is another"),
        (WireError::Repeated { field: "ballot" }, "has its ballot twice"),
        (WireError::Undecodable { problem: String::from("a hole") }, "not a message: a hole"),
        (WireError::UnknownBody, "a message of an unknown kind"),
        (WireError::MissingField { field: "ballot" }, "without its field ballot"),
        (WireError::MalformedValue, "a value is not well-formed"),
        (WireError::UnknownKind { number: 9 }, "the unknown kind 9"),
        (WireError::MalformedMembership, "no membership"),
        (WireError::UnknownGroup { group: GroupId(9) }, "for group 9"),
    ] {
        assert!(error.to_string().contains(said), "{error}");
    }
}
