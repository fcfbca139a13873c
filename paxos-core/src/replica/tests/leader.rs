//! When a leader proposes, which acceptances it counts, and when it sends accepts again.

use bytes::Bytes;

use super::candidacy::{Alone, RESEND, messages};
use super::edges::step_durably;
use super::reads::Led;
use super::takeover::proposals;
use crate::message::{Accept, Accepted, Forward, Heartbeat, HeartbeatAck, Reject, TooLong};
use crate::{
    Ballot, Body, HeartbeatRound, Input, NodeId, Output, ProtocolSettings, ReadMode, Refusal, Role, Slot,
    Time, Value,
};

/// What a command is taken to cost beside its own bytes while it waits, and an accept that is sent again.
const QUEUED_BYTES: usize = 64;

fn batch(commands: &[&'static str]) -> Value {
    let commands: Vec<Bytes> =
        commands.iter().map(|command| Bytes::from_static(command.as_bytes())).collect();
    Value::batch(&commands)
}

/// The proposals in these outputs.
fn proposed(outputs: Vec<Output>) -> Vec<(u64, Value)> {
    proposals(&messages(outputs))
}

fn refused(outputs: &[Output]) -> usize {
    let commands = |output: &Output| match output {
        Output::Refused { commands, reason: Refusal::Overloaded } => commands.len(),
        _ => 0,
    };
    outputs.iter().map(commands).sum()
}

fn accepted(ballot: Ballot, first: u64, last: u64) -> Body {
    Body::Accepted(Accepted { ballot, first: Slot(first), last: Slot(last) })
}

#[test]
fn an_acceptance_counts_for_its_own_ballot_and_once_for_each_acceptor() {
    let mut led = Led::new(ProtocolSettings { eager_commands: 9, ..ProtocolSettings::default() });
    led.propose(&["a"]);
    led.propose(&["b"]);
    let older = Ballot { round: 0, ..led.ballot };
    for from in [2, 3] {
        led.alone.hear(from, accepted(older, 1, 3));
    }
    led.alone.hear(2, accepted(led.ballot, 1, 3));
    led.alone.hear(2, accepted(led.ballot, 1, 3));
    led.alone.hear(3, accepted(led.ballot, 3, 1));
    assert_eq!(led.alone.replica.chosen(), Slot(0), "two of five have accepted");
    led.alone.hear(3, accepted(led.ballot, 1, 1));
    assert_eq!(led.alone.replica.chosen(), Slot(1));
    led.alone.hear(4, accepted(led.ballot, 2, 3));
    assert_eq!(led.alone.replica.chosen(), Slot(3));
}

#[test]
fn no_slot_is_started_beyond_the_window() {
    let mut led =
        Led::new(ProtocolSettings { eager_commands: 9, window_slots: 2, ..ProtocolSettings::default() });
    assert_eq!(proposed(led.propose(&["a"])), [(2, batch(&["a"]))]);
    assert_eq!(proposed(led.propose(&["b"])), [], "slots 1 and 2 are the window");
    assert_eq!(proposed(led.choose(Slot(1))), [(3, batch(&["b"]))]);
}

#[test]
fn no_slot_is_started_while_a_windows_bytes_are_under_way_except_alone() {
    let window_bytes = 2 * batch(&["a"]).size_bytes();
    let mut led =
        Led::new(ProtocolSettings { eager_commands: 9, window_bytes, ..ProtocolSettings::default() });
    assert_eq!(proposed(led.propose(&["a"])), [(2, batch(&["a"]))], "the no-op in slot 1 has no bytes");
    assert_eq!(proposed(led.propose(&["b"])), [(3, batch(&["b"]))]);
    assert_eq!(proposed(led.propose(&["c"])), []);
    led.choose(Slot(1));
    assert_eq!(proposed(led.choose(Slot(2))), [(4, batch(&["c"]))]);

    let mut led = Led::new(ProtocolSettings { window_bytes: 0, ..ProtocolSettings::default() });
    assert_eq!(proposed(led.propose(&["a"])), []);
    assert_eq!(proposed(led.choose(Slot(1))), [(2, batch(&["a"]))]);
}

#[test]
fn commands_wait_for_those_under_way_until_they_fill_a_batch() {
    let room_for_two = 2 * (1 + QUEUED_BYTES);
    let settings =
        ProtocolSettings { eager_commands: 1, batch_bytes: room_for_two, ..ProtocolSettings::default() };
    let mut led = Led::new(settings.clone());
    assert_eq!(proposed(led.propose(&["a"])), [(2, batch(&["a"]))], "the no-op in slot 1 is no command");
    assert_eq!(proposed(led.propose(&["b"])), [], "slot 2 is under way");
    assert_eq!(proposed(led.choose(Slot(1))), []);
    assert_eq!(proposed(led.choose(Slot(2))), [(3, batch(&["b"]))]);

    let mut led = Led::new(settings);
    led.propose(&["a"]);
    led.propose(&["b"]);
    assert_eq!(proposed(led.propose(&["c"])), [(3, batch(&["b", "c"]))]);
}

#[test]
fn a_few_commands_do_not_wait_for_each_other_and_many_do() {
    let mut led = Led::new(ProtocolSettings { eager_commands: 3, ..ProtocolSettings::default() });
    assert_eq!(proposed(led.propose(&["a"])), [(2, batch(&["a"]))]);
    assert_eq!(proposed(led.propose(&["b", "c"])), [(3, batch(&["b", "c"]))], "one is under way");
    assert_eq!(proposed(led.propose(&["d"])), [], "three are under way");
    led.choose(Slot(1));
    assert_eq!(proposed(led.choose(Slot(2))), [(4, batch(&["d"]))], "two are");
}

#[test]
fn a_batch_holds_what_fits_and_at_least_one_command() {
    let two = batch(&["a", "b"]);
    let settings = ProtocolSettings {
        eager_commands: 9,
        window_slots: 1,
        batch_bytes: two.size_bytes(),
        ..ProtocolSettings::default()
    };
    let mut led = Led::new(settings);
    let long = "longer than a batch";
    led.propose(&["a", "b", "c", long, "d"]);
    let mut values = proposed(led.choose(Slot(1)));
    for slot in 2..=4 {
        values.extend(proposed(led.choose(Slot(slot))));
    }
    assert_eq!(values, [(2, two), (3, batch(&["c"])), (4, batch(&[long])), (5, batch(&["d"]))]);
}

#[test]
fn commands_beyond_the_queue_are_refused_until_others_have_left_it() {
    let room_for_two = 2 * (1 + QUEUED_BYTES);
    let mut led = Led::new(ProtocolSettings {
        window_slots: 1,
        queue_bytes: room_for_two,
        command_bytes: room_for_two,
        ..ProtocolSettings::default()
    });
    assert_eq!(refused(&led.propose(&["a", "b", "c"])), 1);
    assert_eq!(proposed(led.choose(Slot(1))), [(2, batch(&["a", "b"]))]);
    assert_eq!(refused(&led.propose(&["d", "e", "f"])), 1);
    led.choose(Slot(2));
    led.choose(Slot(3));
    let longest = Bytes::from(vec![0; room_for_two]);
    let alone = step_durably(&mut led.alone.replica, Input::Propose { commands: vec![longest] });
    assert_eq!(refused(&alone), 0, "whatever its cost, a command that may be proposed fits alone");
}

#[test]
fn what_leaves_the_queue_makes_room_for_as_much() {
    let queue_bytes = 3 * (1 + QUEUED_BYTES);
    let settings = ProtocolSettings {
        window_slots: 1,
        batch_bytes: 1,
        queue_bytes,
        command_bytes: 1,
        ..ProtocolSettings::default()
    };
    let mut led = Led::new(settings);
    assert_eq!(refused(&led.propose(&["a", "b", "c"])), 0);
    assert_eq!(proposed(led.choose(Slot(1))), [(2, batch(&["a"]))]);
    assert_eq!(refused(&led.propose(&["d", "e"])), 1);
}

#[test]
fn a_log_that_is_longer_than_allowed_takes_no_commands() {
    let no_op_bytes = 64;
    for (log_bytes, expected) in [(no_op_bytes, 0), (no_op_bytes - 1, 1)] {
        let mut led = Led::new(ProtocolSettings { log_bytes, ..ProtocolSettings::default() });
        assert_eq!(refused(&led.propose(&["a"])), expected, "{log_bytes}");
    }
}

#[test]
fn a_leader_that_is_refused_for_a_higher_ballot_stops() {
    let mut led = Led::new(ProtocolSettings::default());
    let promised = led.ballot.successor_for(NodeId(5));
    led.alone.hear(5, Body::Reject(Reject { ballot: Ballot { round: 0, ..led.ballot }, promised }));
    assert_eq!(led.alone.replica.role(), Role::Leader, "a late word about an older ballot");
    led.alone.hear(5, Body::Reject(Reject { ballot: led.ballot, promised }));
    assert_eq!(led.alone.replica.role(), Role::Follower);
}

#[test]
fn what_waits_to_be_proposed_is_dropped_with_the_leadership() {
    let mut led = Led::new(ProtocolSettings { window_slots: 1, ..ProtocolSettings::default() });
    led.propose(&["a"]);
    let ballot = led.ballot.successor_for(NodeId(5));
    led.alone.hear(
        5,
        Body::Heartbeat(Heartbeat { ballot, chosen: Slot(0), round: HeartbeatRound(1), time: Time::NONE }),
    );
    assert_eq!(led.alone.replica.role(), Role::Follower);
    led.ballot = led.alone.until_candidate();
    let mut values = proposed(led.promise(Slot(1)));
    values.extend(proposed(led.choose(Slot(1))));
    assert_eq!(values, [(1, Value::no_op())]);
}

#[test]
fn commands_are_passed_on_in_messages_of_about_a_batch() {
    let batch_bytes = batch(&["a", "b"]).size_bytes();
    let mut alone = Alone::with(1, ProtocolSettings { batch_bytes, ..ProtocolSettings::default() });
    let ballot = Ballot { round: 5, node: NodeId(2) };
    alone.hear(
        2,
        Body::Heartbeat(Heartbeat { ballot, chosen: Slot(0), round: HeartbeatRound(1), time: Time::NONE }),
    );
    let commands =
        ["longer than a batch", "a", "b", "c"].map(|command| Bytes::from_static(command.as_bytes()));
    let outputs = step_durably(&mut alone.replica, Input::Propose { commands: commands.to_vec() });
    let part =
        |range| (Some(NodeId(2)), Body::Forward(Forward { commands: <[Bytes]>::to_vec(&commands[range]) }));
    assert_eq!(messages(outputs), [part(0..1), part(1..3), part(3..4)]);
}

#[test]
fn a_leader_takes_what_fits_of_a_forward_and_gives_back_what_is_too_long() {
    let mut led = Led::new(ProtocolSettings { command_bytes: 2, ..ProtocolSettings::default() });
    let (fits, too_long) = (Bytes::from_static(b"ab"), Bytes::from_static(b"abc"));
    let forward = Body::Forward(Forward { commands: vec![too_long.clone(), fits.clone()] });
    let said = led.alone.hear(2, forward.clone());
    let answer = (Some(NodeId(2)), Body::TooLong(TooLong { limit_bytes: 2, commands: vec![too_long] }));
    assert_eq!(said[0], answer, "to the one that has forwarded it, at once");
    assert!(
        proposals(&said).iter().any(|(_, value)| *value == Value::batch(std::slice::from_ref(&fits))),
        "{said:?}"
    );

    let ballot = led.ballot.successor_for(NodeId(5));
    led.alone.hear(
        5,
        Body::Heartbeat(Heartbeat { ballot, chosen: Slot(0), round: HeartbeatRound(1), time: Time::NONE }),
    );
    assert_eq!(led.alone.hear(2, forward), [], "a follower has no say");
}

#[test]
fn only_the_leader_of_now_tells_that_a_command_is_too_long() {
    let mut alone = Alone::with(1, ProtocolSettings::default());
    let ballot = Ballot { round: 5, node: NodeId(2) };
    alone.hear(
        2,
        Body::Heartbeat(Heartbeat { ballot, chosen: Slot(0), round: HeartbeatRound(1), time: Time::NONE }),
    );
    let commands = vec![Bytes::from_static(b"a")];
    let mut refused_by = |node| {
        let answer = Body::TooLong(TooLong { limit_bytes: 7, commands: commands.clone() });
        alone.receive(node, answer).iter().any(|output| match output {
            Output::Refused { commands: back, reason } => {
                *back == commands && *reason == Refusal::TooLong { limit_bytes: 7 }
            }
            _ => false,
        })
    };
    assert_eq!([2, 3].map(&mut refused_by), [true, false]);
}

#[test]
fn a_proposal_is_sent_again_to_those_who_have_not_accepted_it() {
    let mut led =
        Led::new(ProtocolSettings { eager_commands: 9, chunk_bytes: 300, ..ProtocolSettings::default() });
    led.propose(&["a"]);
    led.alone.hear(2, accepted(led.ballot, 1, 1));
    let mut again = Vec::new();
    for tick in 1..=RESEND + 1 {
        for (to, body) in led.alone.tick() {
            if let Body::Accept(Accept { slot, .. }) = body {
                again.push((tick, slot.0, to.expect("only some need it").0));
            }
        }
        for from in [2, 3] {
            let ack = Body::HeartbeatAck(HeartbeatAck {
                ballot: led.ballot,
                round: HeartbeatRound(1),
                chosen: Slot::ZERO,
            });
            led.alone.hear(from, ack);
        }
    }
    let first = [3, 4, 5].map(|node| (RESEND, 1, node));
    let second = [2, 3, 4, 5].map(|node| (RESEND, 2, node));
    assert_eq!(again, [&first[..], &second[..]].concat(), "a chunk's bytes on one tick, and a slot at least");
}

#[test]
fn a_resend_stops_for_this_tick_after_a_chunk() {
    for (chunk_bytes, on_time) in [(4 * QUEUED_BYTES - 1, 1), (4 * QUEUED_BYTES, 2)] {
        let mut led =
            Led::new(ProtocolSettings { eager_commands: 9, chunk_bytes, ..ProtocolSettings::default() });
        led.propose(&["a"]);
        let slots = |spoken: Vec<(Option<NodeId>, Body)>| proposals(&spoken).len() / 4;
        let resent: Vec<usize> = (0..=RESEND).map(|_| slots(led.alone.tick())).collect();
        let last = usize::try_from(RESEND).expect("a small number");
        assert_eq!(resent[..last - 1], vec![0; last - 1]);
        assert_eq!(resent[last - 1..], [on_time, 2 - on_time], "{chunk_bytes}");
    }
}

#[test]
fn heartbeats_leave_at_their_interval_and_a_leader_that_hears_no_quorum_stops() {
    let mut led = Led::new(ProtocolSettings::default());
    let mut beats = Vec::new();
    let mut tick = 0;
    while led.alone.replica.role() == Role::Leader {
        tick += 1;
        let spoken = led.alone.tick();
        if spoken.iter().any(|(_, body)| matches!(body, Body::Heartbeat(_))) {
            beats.push(tick);
        }
    }
    assert_eq!(beats[..4], [5, 10, 15, 20]);
    assert_eq!(tick, 51, "a time-out, and one tick more");
}

#[test]
fn a_lease_goes_on_while_heartbeats_are_answered() {
    let reads = ReadMode::Lease { lease_ticks: 40, drift_ticks: 4 };
    let mut led = Led::new(ProtocolSettings { reads, ..ProtocolSettings::default() });
    led.choose(Slot(1));
    for _ in 0..200 {
        for (_, body) in led.alone.tick() {
            let Body::Heartbeat(Heartbeat { ballot, round, .. }) = body else { continue };
            // They answer the last but one, as on a slow network.
            let round = HeartbeatRound(round.0.saturating_sub(2));
            for from in [2, 3] {
                led.alone.hear(from, Body::HeartbeatAck(HeartbeatAck { ballot, round, chosen: Slot::ZERO }));
            }
        }
    }
    let read = step_durably(&mut led.alone.replica, Input::Read { read: crate::ReadId(1) });
    assert!(read.iter().any(|output| matches!(output, Output::ReadReady { .. })), "{read:?}");
}
