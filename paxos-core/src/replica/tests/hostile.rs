//! Messages that no correct peer would send: well-formed, but with numbers from the edges of their types.

use bytes::Bytes;

use crate::fuzzing::{make_leader, step};
use crate::message::{
    Accept, Accepted, Chosen, Consent, Decline, Fetch, FetchSnapshot, Forward, Heartbeat, HeartbeatAck,
    NewEpoch, Prepare, Probe, Promise, ReadGrant, ReadRequest, Reject, SnapshotChunk, TakeOver, TooLong,
    Trimmed,
};
use crate::random::Random;
use crate::{
    Ballot, Body, Change, ChangeRequest, Config, Entry, Epoch, HeartbeatRound, Input, LeaderTime, Membership,
    Message, NodeId, ProtocolSettings, ReadId, ReadMode, Reading, Recovered, Replica, RequestId, Slot,
    SnapshotMeta, Time, Value,
};

const SEEDS: u64 = 2000;
const MESSAGES: u64 = 60;

/// A number that is mostly small, and sometimes close to the largest.
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

fn time(random: &mut Random) -> Time {
    Time(number(random))
}

fn slot(random: &mut Random) -> Slot {
    Slot(number(random))
}

/// Commands, or a membership of any epoch with and without the replica.
fn value(random: &mut Random) -> Value {
    if random.below(4) > 0 {
        return Value::batch(&[Bytes::from_static(b"hostile")]).at(time(random));
    }
    let mut membership = Membership::of_three().in_epoch(Epoch(random.below(3)));
    for node in [1, 2].map(NodeId) {
        if random.below(2) == 0 {
            let changed = membership.changed(&Change::Remove { node }, ballot(random));
            membership = changed.expect("the node is a member, and another one stays");
        }
    }
    Value::membership(&membership)
}

fn entry(random: &mut Random) -> (Slot, Entry) {
    let value = value(random);
    let entry = match random.below(2) {
        0 => Entry::Chosen { value },
        _ => Entry::Accepted { ballot: ballot(random), value },
    };
    (slot(random), entry)
}

fn body(random: &mut Random) -> Body {
    let r = random;
    let meta = SnapshotMeta {
        slot: slot(r),
        size_bytes: number(r),
        checksum: 0,
        membership: Membership::of_three(),
    };
    match r.below(21) {
        0 => Body::Probe(Probe { ballot: ballot(r) }),
        1 => Body::Consent(Consent { ballot: ballot(r), promised: ballot(r) }),
        2 => Body::Prepare(Prepare { ballot: ballot(r), first: slot(r), handed_over: Some(ballot(r)) }),
        3 => {
            let time = Some(LeaderTime { ballot: ballot(r), time: time(r) });
            let (ballot, first, rest) = (ballot(r), slot(r), slot(r));
            Body::Promise(Promise {
                ballot,
                first,
                reports: vec![entry(r), entry(r)],
                rest: Some(rest),
                time,
            })
        }
        4 => Body::Trimmed(Trimmed { below: slot(r) }),
        5 => Body::Accept(Accept { ballot: ballot(r), slot: slot(r), value: value(r), chosen: slot(r) }),
        6 => Body::Accepted(Accepted { ballot: ballot(r), first: slot(r), last: slot(r) }),
        7 => Body::Reject(Reject { ballot: ballot(r), promised: ballot(r) }),
        8 => Body::Heartbeat(Heartbeat {
            ballot: ballot(r),
            chosen: slot(r),
            round: HeartbeatRound(number(r)),
            time: time(r),
        }),
        9 => Body::HeartbeatAck(HeartbeatAck {
            ballot: ballot(r),
            round: HeartbeatRound(number(r)),
            chosen: Slot::ZERO,
        }),
        10 => Body::Forward(Forward { commands: vec![Bytes::new()] }),
        11 => Body::ReadRequest(ReadRequest { read: ReadId(number(r)) }),
        12 => Body::ReadGrant(ReadGrant {
            read: ReadId(number(r)),
            slot: slot(r),
            ballot: ballot(r),
            chosen: slot(r),
            time: time(r),
        }),
        13 => Body::Fetch(Fetch { first: slot(r), last: Some(slot(r)), ahead_slots: number(r) }),
        14 => Body::Chosen(Chosen { first: slot(r), values: vec![value(r), value(r)], chosen: slot(r) }),
        15 => Body::FetchSnapshot(FetchSnapshot { slot: slot(r), offset: number(r) }),
        16 => Body::TooLong(TooLong { limit_bytes: number(r), commands: vec![Bytes::new()] }),
        17 => Body::NewEpoch(NewEpoch { chosen: slot(r) }),
        18 => Body::TakeOver(TakeOver { ballot: ballot(r) }),
        19 => Body::Decline(Decline { ballot: ballot(r) }),
        _ => Body::SnapshotChunk(SnapshotChunk {
            meta: Box::new(meta),
            offset: number(r),
            data: Bytes::from_static(b"piece"),
        }),
    }
}

fn change(random: &mut Random, number: u64) -> ChangeRequest {
    let node = NodeId(random.below(6));
    let change = match random.below(4) {
        0 => Change::AddLearner { node, address: format!("host-{node}") },
        1 => Change::Promote { node },
        2 => Change::Demote { node },
        _ => Change::Remove { node },
    };
    ChangeRequest { request: RequestId(number), change, if_epoch: None, is_forced: random.below(2) == 0 }
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
        let membership = Membership::new(&members).expect("the members are distinct");
        let config =
            Config::new(NodeId(1), membership, ProtocolSettings { reads, ..ProtocolSettings::default() });
        let config = config.expect("the settings fit together");
        let mut replica =
            Replica::new(config, Recovered::default(), seed).expect("an empty disk is in order");
        if seed % 2 == 0 {
            make_leader(&mut replica);
        }
        for number in 0..MESSAGES {
            let from = NodeId(random.below(5));
            let message = Message { epoch: Epoch(random.below(3)), body: body(&mut random) };
            step(&mut replica, Input::Receive { from, message });
            step(&mut replica, Input::Read { read: ReadId(number) });
            match random.below(16) {
                0 => step(&mut replica, Input::HandOver { request: RequestId(number), to: None }),
                1 => step(&mut replica, Input::Change(change(&mut random, number))),
                _ => {}
            }
            if random.below(2) == 0 {
                let reading = Reading { monotonic_ms: time(&mut random).0, wall: time(&mut random) };
                replica.read_clocks(reading);
                step(&mut replica, Input::Propose { commands: vec![Bytes::from_static(b"timed")] });
            }
            for _ in 0..random.below(12) {
                step(&mut replica, Input::Tick);
            }
        }
    }
}
