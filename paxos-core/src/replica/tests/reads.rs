//! Reads, heartbeat by heartbeat: which answers confirm them, which slot they wait for, and how many may
//! wait.

use bytes::Bytes;

use super::candidacy::{Alone, messages};
use super::edges::step_durably;
use crate::message::{Accept, Accepted, Heartbeat, HeartbeatAck, Promise, ReadGrant, ReadRequest, Trimmed};
use crate::{
    AnnounceChosen, Ballot, Body, Entry, HeartbeatRound, Input, NodeId, Output, PhaseOne, ProtocolSettings,
    ReadId, ReadMode, Role, Slot, Time, Value,
};

/// Node 1 of five leads; in slot 1 a value of an earlier ballot, reported to it, waits to be chosen.
pub(super) struct Led {
    pub(super) alone: Alone,
    pub(super) ballot: Ballot,
}

impl Led {
    pub(super) fn new(settings: ProtocolSettings) -> Led {
        let mut alone = Alone::with(1, settings);
        let ballot = alone.until_candidate();
        let mut led = Led { alone, ballot };
        led.promise(Slot(1));
        assert_eq!(led.alone.replica.role(), Role::Leader);
        led
    }

    /// Nodes 2 and 3 promise, and one of them reports a value that was accepted in `slot`.
    pub(super) fn promise(&mut self, slot: Slot) -> Vec<Output> {
        let earlier = Entry::Accepted { ballot: Ballot::ZERO, value: Value::no_op() };
        let promise = |reports| {
            Body::Promise(Promise { ballot: self.ballot, first: slot, reports, rest: None, time: None })
        };
        let mut outputs = self.alone.receive(2, promise(vec![(slot, earlier)]));
        outputs.extend(self.alone.receive(3, promise(Vec::new())));
        outputs
    }

    pub(super) fn propose(&mut self, commands: &[&'static str]) -> Vec<Output> {
        let commands = commands.iter().map(|command| Bytes::from_static(command.as_bytes())).collect();
        step_durably(&mut self.alone.replica, Input::Propose { commands })
    }

    fn read(&mut self, read: u64) -> Vec<Output> {
        step_durably(&mut self.alone.replica, Input::Read { read: ReadId(read) })
    }

    /// Nodes 2 and 3, with the leader a majority, answer a heartbeat.
    fn acknowledge(&mut self, round: HeartbeatRound) -> Vec<Output> {
        let ack = Body::HeartbeatAck(HeartbeatAck { ballot: self.ballot, round, chosen: Slot::ZERO });
        let mut outputs = self.alone.receive(2, ack.clone());
        outputs.extend(self.alone.receive(3, ack));
        outputs
    }

    /// Nodes 2 and 3 accept, so that the value is chosen.
    pub(super) fn choose(&mut self, slot: Slot) -> Vec<Output> {
        let accepted = Body::Accepted(Accepted { ballot: self.ballot, first: slot, last: slot });
        let mut outputs = self.alone.receive(2, accepted.clone());
        outputs.extend(self.alone.receive(3, accepted));
        outputs
    }
}

fn round(outputs: &[Output]) -> Option<HeartbeatRound> {
    let round = |(_, body)| match body {
        Body::Heartbeat(Heartbeat { round, .. }) => Some(round),
        _ => None,
    };
    messages(outputs.to_vec()).into_iter().find_map(round)
}

fn ready(outputs: &[Output]) -> Vec<u64> {
    let read = |output: &Output| match output {
        Output::ReadReady { read, .. } => Some(read.0),
        _ => None,
    };
    outputs.iter().filter_map(read).collect()
}

fn refused(outputs: &[Output]) -> Vec<u64> {
    let read = |output: &Output| match output {
        Output::ReadRefused { read } => Some(read.0),
        _ => None,
    };
    outputs.iter().filter_map(read).collect()
}

#[test]
fn a_read_needs_a_later_heartbeat_confirmed_and_all_of_the_takeover_applied() {
    let mut led = Led::new(ProtocolSettings::default());
    let asked = led.read(7);
    let round = round(&asked).expect("a read that waits alone has a heartbeat sent");
    assert_eq!(
        ready(&led.acknowledge(HeartbeatRound(round.0 - 1))),
        [],
        "an earlier heartbeat tells nothing"
    );
    assert_eq!(ready(&led.acknowledge(round)), [], "slot 1 may have been chosen before");
    assert_eq!(ready(&led.choose(Slot(1))), [7]);

    let mut led = Led::new(ProtocolSettings::default());
    led.choose(Slot(1));
    let confirming = led.read(8);
    assert_eq!(ready(&confirming), []);
    let round = self::round(&confirming).expect("a read that waits alone has a heartbeat sent");
    assert_eq!(ready(&led.acknowledge(round)), [8]);
}

#[test]
fn a_read_between_two_ballots_of_the_leader_waits_for_what_the_second_takes_over() {
    let mut led =
        Led::new(ProtocolSettings { phase_one: PhaseOne::EveryValue, ..ProtocolSettings::default() });
    led.choose(Slot(1));
    led.propose(&["a"]);
    led.choose(Slot(2));
    led.propose(&["a"]);
    led.ballot = led.alone.replica.promised();
    assert_eq!(ready(&led.read(1)), []);
    let takeover = led.promise(Slot(3));
    let round = round(&takeover).expect("the read has a heartbeat sent");
    assert_eq!(ready(&led.acknowledge(round)), [], "slot 3 may have been chosen before");
    assert_eq!(ready(&led.choose(Slot(3))), [1]);
}

#[test]
fn as_many_reads_wait_as_the_options_allow_confirmed_or_not() {
    let mut led = Led::new(ProtocolSettings { waiting_reads: 2, ..ProtocolSettings::default() });
    let asked = led.read(1);
    let first = round(&asked).expect("a read that waits alone has a heartbeat sent");
    led.acknowledge(first); // confirmed, it waits for slot 1
    assert_eq!(refused(&led.read(2)), []);
    assert_eq!(refused(&led.read(3)), [3]);
    assert_eq!(led.alone.hear(4, Body::ReadRequest(ReadRequest { read: ReadId(4) })), []);
    let spoken = messages(led.acknowledge(HeartbeatRound(first.0 + 1)));
    assert_eq!(spoken, [], "a follower's read is not among those that wait");
    assert_eq!(ready(&led.choose(Slot(1))), [1, 2]);
}

#[test]
fn grants_beyond_what_the_options_allow_are_dropped() {
    let mut alone = Alone::with(1, ProtocolSettings { waiting_reads: 1, ..ProtocolSettings::default() });
    let ballot = Ballot { round: 5, node: NodeId(2) };
    let grant = |read| {
        Body::ReadGrant(ReadGrant {
            read: ReadId(read),
            slot: Slot(1),
            ballot,
            chosen: Slot(0),
            time: Time::NONE,
        })
    };
    alone.hear(2, grant(1));
    alone.hear(2, grant(2));
    let accept = Body::Accept(Accept { ballot, slot: Slot(1), value: Value::no_op(), chosen: Slot(0) });
    assert_eq!(ready(&alone.receive(2, accept)), []);
    let chosen =
        Body::Heartbeat(Heartbeat { ballot, chosen: Slot(1), round: HeartbeatRound(1), time: Time::NONE });
    assert_eq!(ready(&alone.receive(2, chosen)), [1]);
}

#[test]
fn only_a_leader_grants_reads() {
    let mut alone = Alone::new(1, ReadMode::QuorumRound);
    alone.hear(2, Body::ReadRequest(ReadRequest { read: ReadId(1) }));
    let ballot = alone.until_candidate();
    let promise =
        Body::Promise(Promise { ballot, first: Slot(1), reports: Vec::new(), rest: None, time: None });
    alone.hear(2, promise.clone());
    alone.hear(3, promise);
    assert_eq!(alone.replica.role(), Role::Leader);
    let acks = [2, 3].map(|from| {
        alone.hear(
            from,
            Body::HeartbeatAck(HeartbeatAck { ballot, round: HeartbeatRound(1), chosen: Slot::ZERO }),
        )
    });
    assert_eq!(acks, [vec![], vec![]], "what it was asked before it led is forgotten");
    let spoken = alone.hear(2, Body::ReadRequest(ReadRequest { read: ReadId(2) }));
    assert!(matches!(spoken[..], [(None, Body::Heartbeat(_))]), "{spoken:?}");
}

#[test]
fn who_no_longer_leads_refuses_its_own_reads_and_forgets_those_of_others() {
    let mut led = Led::new(ProtocolSettings::default());
    led.read(1);
    led.alone.hear(4, Body::ReadRequest(ReadRequest { read: ReadId(2) }));
    let ballot = Ballot { round: led.ballot.round + 1, node: NodeId(5) };
    let heartbeat =
        Body::Heartbeat(Heartbeat { ballot, chosen: Slot(0), round: HeartbeatRound(1), time: Time::NONE });
    let outputs = led.alone.receive(5, heartbeat);
    assert_eq!(refused(&outputs), [1]);
    assert_eq!((led.alone.replica.role(), led.alone.replica.leader()), (Role::Follower, Some(NodeId(5))));
}

#[test]
fn a_lease_ends_its_length_less_drift_and_a_tick_after_the_heartbeat_left() {
    let reads = ReadMode::Lease { lease_ticks: 40, drift_ticks: 4 };
    let mut led = Led::new(ProtocolSettings { reads, ..ProtocolSettings::default() });
    led.choose(Slot(1));
    let asked = led.read(0);
    let sent = round(&asked).expect("without a lease a read has a heartbeat sent");
    led.acknowledge(sent);
    for tick in 1..35 {
        led.alone.tick();
        assert_eq!(ready(&led.read(tick)), [tick]);
    }
    led.alone.tick();
    assert_eq!(ready(&led.read(35)), []);
}

#[test]
fn telling_at_once_what_is_chosen_asks_for_no_new_answers() {
    let mut led =
        Led::new(ProtocolSettings { announce_chosen: AnnounceChosen::AtOnce, ..ProtocolSettings::default() });
    let asked = led.read(1);
    let last = round(&asked).expect("a read that waits alone has a heartbeat sent");
    let told = led.choose(Slot(1));
    assert_eq!(round(&told), Some(last));
}

#[test]
fn a_candidate_that_hears_a_leader_follows_it() {
    let mut alone = Alone::new(1, ReadMode::QuorumRound);
    let ours = alone.until_candidate();
    let ballot = Ballot { round: ours.round + 1, node: NodeId(5) };
    alone.hear(
        5,
        Body::Heartbeat(Heartbeat { ballot, chosen: Slot(0), round: HeartbeatRound(1), time: Time::NONE }),
    );
    assert_eq!((alone.replica.role(), alone.replica.leader()), (Role::Follower, Some(NodeId(5))));
}

#[test]
fn a_candidate_that_lacks_what_only_a_snapshot_holds_gives_up() {
    let mut alone = Alone::new(1, ReadMode::QuorumRound);
    alone.until_candidate();
    alone.hear(2, Body::Trimmed(Trimmed { below: Slot(9) }));
    assert_eq!(alone.replica.role(), Role::Follower);
}
