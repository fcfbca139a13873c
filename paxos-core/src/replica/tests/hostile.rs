//! Messages that no correct peer would send: well-formed, but with numbers from the edges of their types.

use bytes::Bytes;

use crate::fuzzing::{make_leader, step};
use crate::random::Random;
use crate::{
    Ballot, Body, Config, Entry, Epoch, HeartbeatRound, Input, Message, NodeId, Options, ReadId, ReadMode,
    Recovered, Replica, Slot, SnapshotMeta, Value,
};

const SEEDS: u64 = 2000;
const MESSAGES: u64 = 60;

/// Mostly small, sometimes the largest there is.
fn number(random: &mut Random) -> u64 {
    match random.below(8) {
        0 => u64::MAX - random.below(3),
        1 => random.below(u64::MAX),
        _ => random.below(7),
    }
}

fn ballot(random: &mut Random) -> Ballot {
    Ballot { round: number(random), node: NodeId(random.below(4)) }
}

fn slot(random: &mut Random) -> Slot {
    Slot(number(random))
}

fn entry(random: &mut Random) -> (Slot, Entry) {
    let value = Value::batch(&[Bytes::from_static(b"hostile")]);
    let entry = match random.below(2) {
        0 => Entry::Chosen { value },
        _ => Entry::Accepted { ballot: ballot(random), value },
    };
    (slot(random), entry)
}

fn body(random: &mut Random) -> Body {
    let r = random;
    let meta = SnapshotMeta { slot: slot(r), size_bytes: number(r), checksum: 0 };
    match r.below(17) {
        0 => Body::Probe { ballot: ballot(r) },
        1 => Body::Consent { ballot: ballot(r), promised: ballot(r) },
        2 => Body::Prepare { ballot: ballot(r), first: slot(r) },
        3 => {
            let (ballot, first, rest) = (ballot(r), slot(r), slot(r));
            Body::Promise { ballot, first, reports: vec![entry(r), entry(r)], rest: Some(rest) }
        }
        4 => Body::Trimmed { below: slot(r) },
        5 => Body::Accept { ballot: ballot(r), slot: slot(r), value: Value::no_op(), chosen: slot(r) },
        6 => Body::Accepted { ballot: ballot(r), first: slot(r), last: slot(r) },
        7 => Body::Reject { ballot: ballot(r), promised: ballot(r) },
        8 => Body::Heartbeat { ballot: ballot(r), chosen: slot(r), round: HeartbeatRound(number(r)) },
        9 => Body::HeartbeatAck { ballot: ballot(r), round: HeartbeatRound(number(r)) },
        10 => Body::Forward { commands: vec![Bytes::new()] },
        11 => Body::ReadRequest { read: ReadId(number(r)) },
        12 => Body::ReadGrant { read: ReadId(number(r)), slot: slot(r), ballot: ballot(r), chosen: slot(r) },
        13 => Body::Fetch { first: slot(r) },
        14 => Body::Chosen { first: slot(r), values: vec![Value::no_op(); 3], chosen: slot(r) },
        15 => Body::FetchSnapshot { slot: slot(r), offset: number(r) },
        _ => Body::SnapshotChunk { meta, offset: number(r), data: Bytes::from_static(b"piece") },
    }
}

#[test]
fn no_message_from_a_peer_makes_a_replica_panic() {
    for seed in 0..SEEDS {
        println!("seed {seed}"); // Shown only if the test fails.
        let mut random = Random::new(seed);
        let reads = match seed % 3 {
            0 => ReadMode::Lease { lease_ticks: 40, drift_ticks: 4 },
            _ => ReadMode::QuorumRound,
        };
        let members = [NodeId(1), NodeId(2), NodeId(3)];
        let config = Config::new(NodeId(1), &members, Options { reads, ..Options::default() });
        let config = config.expect("the options fit together");
        let mut replica =
            Replica::new(config, Recovered::default(), seed).expect("an empty disk is in order");
        if seed % 2 == 0 {
            make_leader(&mut replica);
        }
        for number in 0..MESSAGES {
            let from = NodeId(random.below(5));
            let message = Message { epoch: Epoch(0), body: body(&mut random) };
            step(&mut replica, Input::Receive { from, message });
            step(&mut replica, Input::Read { read: ReadId(number) });
            for _ in 0..random.below(12) {
                step(&mut replica, Input::Tick);
            }
        }
    }
}
