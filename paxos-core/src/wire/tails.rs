//! Messages with parts of other messages behind them, as a mistake of framing would leave them there.
//!
//! Counts how often each line of defence accepts such bytes; printed by
//! `PAXOS_TAILS=40000000 cargo test --release -p paxos-core tails -- --nocapture`.

use bytes::Bytes;
use prost::Message as _;

use super::{HEADER_BYTES, decode, decode_unframed, encode, encode_behind, framed_bytes, schema, strict};
use crate::clock::{LeaderTime, Time};
use crate::durable::{Entry, SnapshotMeta};
use crate::id::{Ballot, Epoch, NodeId, Slot};
use crate::membership::Membership;
use crate::message::{
    Accept, Accepted, Body, Chosen, Consent, Forward, Heartbeat, HeartbeatAck, HeartbeatRound, Message,
    Prepare, Probe, Promise, ReadGrant, ReadId, Reject, SnapshotChunk, TooLong, Trimmed,
};
use crate::random::Random;
use crate::value::Value;

/// How many tails are tried, and the environment variable that sets another number.
const TAILS: u64 = 300_000;
const TAILS_VARIABLE: &str = "PAXOS_TAILS";

/// The bytes before a message on a stream: a frame's header, and the 17 bytes by which a node introduces
/// itself.
const BEFORE_MESSAGE: [u8; 22] = [90, 1, 0, 0, 1, 0, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7];

#[derive(Default, Debug)]
struct Passed {
    /// Tails that were accepted.
    by_prost_alone: u64,
    /// Tails that turned the message before them into another one.
    as_another_by_prost_alone: u64,
    by_the_strict_decoder: u64,
    as_another_by_the_strict_decoder: u64,
    by_decode: u64,
}

fn number(random: &mut Random) -> u64 {
    let bits = random.below(3) * 20;
    1 + random.below(1 << (4 + bits))
}

fn bytes(random: &mut Random) -> Bytes {
    let length = random.below(60);
    (0..length).map(|_| u8::try_from(random.below(256)).unwrap_or(0)).collect()
}

fn value(random: &mut Random) -> Value {
    let commands: Vec<Bytes> = (0..random.below(3)).map(|_| bytes(random)).collect();
    Value::batch(&commands)
}

fn ballot(random: &mut Random) -> Ballot {
    Ballot { round: number(random), node: NodeId(1 + random.below(5)) }
}

fn message(random: &mut Random) -> Message {
    let (one, other) = (ballot(random), ballot(random));
    let (slot, last) = (Slot(number(random)), Slot(number(random)));
    let time = Time(if random.below(2) == 0 { 0 } else { number(random) });
    let value = value(random).at(time);
    let entry = match random.below(2) {
        0 => Entry::Chosen { value: value.clone() },
        _ => Entry::Accepted { ballot: other, value: value.clone() },
    };
    let meta = SnapshotMeta {
        slot,
        size_bytes: number(random),
        checksum: 0xdead_beef,
        membership: Membership::of_three(),
    };
    let body = match random.below(18) {
        0 => Body::Probe(Probe { ballot: one }),
        1 => Body::Consent(Consent { ballot: one, promised: other }),
        2 => Body::Prepare(Prepare { ballot: one, first: slot, handed_over: None }),
        3 => Body::Promise(Promise {
            ballot: one,
            first: slot,
            reports: vec![(last, entry)],
            rest: Some(last),
            time: Some(LeaderTime { ballot: other, time }),
        }),
        4 => Body::Trimmed(Trimmed { below: slot }),
        5..=8 => Body::Accept(Accept { ballot: one, slot, value, chosen: last }),
        9 => Body::Accepted(Accepted { ballot: one, first: slot, last }),
        10 => Body::Reject(Reject { ballot: one, promised: other }),
        11 => Body::Heartbeat(Heartbeat { ballot: one, chosen: slot, round: HeartbeatRound(last.0), time }),
        12 => Body::HeartbeatAck(HeartbeatAck {
            ballot: one,
            round: HeartbeatRound(last.0),
            chosen: Slot::ZERO,
        }),
        13 => Body::Forward(Forward { commands: vec![bytes(random), bytes(random)] }),
        14 => Body::TooLong(TooLong {
            limit_bytes: number(random),
            commands: vec![bytes(random), bytes(random)],
        }),
        15 => {
            Body::ReadGrant(ReadGrant { read: ReadId(number(random)), slot, ballot: one, chosen: last, time })
        }
        16 => Body::Chosen(Chosen { first: slot, values: vec![value.clone(), value], chosen: last }),
        _ => Body::SnapshotChunk(SnapshotChunk {
            meta: Box::new(meta),
            offset: number(random),
            data: bytes(random),
        }),
    };
    Message { epoch: Epoch(random.below(3)), body }
}

/// The bytes that a reader which has lost its place may find behind a message: some range of the messages
/// that follow.
fn tail(random: &mut Random) -> Vec<u8> {
    let mut stream = Vec::new();
    for _ in 0..=random.below(2) {
        // With all layers around the message, with its header alone, and without any.
        match random.below(3) {
            0 => stream.extend_from_slice(&encode_behind(&BEFORE_MESSAGE, &message(random))),
            1 => stream.extend_from_slice(&encode(&message(random))),
            _ => stream.extend_from_slice(&encode(&message(random))[HEADER_BYTES..]),
        }
    }
    let start = if random.below(2) == 0 { 0 } else { random.index_below(stream.len()) };
    let end =
        if random.below(4) == 0 { stream.len() } else { start + random.index_below(stream.len() - start) };
    stream[start..end.max(start + 1)].to_vec()
}

impl Random {
    fn index_below(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or(0)
    }
}

#[test]
fn no_tail_of_other_messages_makes_a_message_another() {
    let tails = std::env::var(TAILS_VARIABLE).ok().and_then(|tails| tails.parse().ok()).unwrap_or(TAILS);
    let mut random = Random::new(20);
    let mut passed = Passed::default();
    for number in 0..tails {
        let message = message(&mut random);
        let frame = encode(&message);
        let long = Bytes::from([&frame[..], &tail(&mut random)].concat());
        passed.by_decode += u64::from(decode(long.clone()).is_ok());
        let unframed = long.slice(HEADER_BYTES..);
        let merged = schema::Frame::decode(unframed.clone());
        // Decodes what prost has merged, as `decode` would.
        let merged = merged.ok().filter(|frame| frame.body.is_some());
        let merged = merged.and_then(|frame| decode(framed_bytes(&frame.encode_to_vec())).ok());
        passed.by_prost_alone += u64::from(merged.is_some());
        passed.as_another_by_prost_alone += u64::from(merged.is_some_and(|merged| merged != message));
        if let Ok(decoded) = decode_unframed(&unframed, 0) {
            let is_strict = strict::check(&unframed, &schema::FRAME).is_ok();
            assert!(is_strict, "tail {number} was not looked through, and has a field twice");
            passed.by_the_strict_decoder += 1;
            if decoded != message {
                passed.as_another_by_the_strict_decoder += 1;
                if passed.as_another_by_the_strict_decoder <= 5 {
                    println!("tail {number}: {message:?} became {decoded:?}");
                }
            }
        }
    }
    println!("of {tails} tails passed {passed:?}");
    assert_eq!(passed.by_decode, 0, "each frame is refused");
    assert_eq!(
        passed.as_another_by_the_strict_decoder, 0,
        "even without a checksum none becomes another message"
    );
    assert!(passed.as_another_by_prost_alone > 0, "or else nothing was tried: {passed:?}");
}
