//! How a replica fetches chosen values, and how it answers fetches.

use super::candidacy::{Alone, RESEND, messages};
use super::edges::step_durably;
use super::reads::Led;
use super::takeover::value;
use crate::message::{Accept, Chosen, Fetch, Heartbeat, Prepare, Promise, ReadGrant};
use crate::{
    Ballot, Body, Entry, HeartbeatRound, Input, NodeId, Output, PhaseOne, ProtocolSettings, ReadId, ReadMode,
    Slot, Time, Value,
};

/// Node 2 leads.
const BALLOT: Ballot = Ballot { round: 5, node: NodeId(2) };

pub(super) fn heartbeat(chosen: u64) -> Body {
    heartbeat_of(2, chosen)
}

pub(super) fn heartbeat_of(leader: u64, chosen: u64) -> Body {
    let ballot = Ballot { node: NodeId(leader), ..BALLOT };
    Body::Heartbeat(Heartbeat { ballot, chosen: Slot(chosen), round: HeartbeatRound(1), time: Time::NONE })
}

fn accept(slot: u64, name: &'static str, chosen: u64) -> Body {
    Body::Accept(Accept { ballot: BALLOT, slot: Slot(slot), value: value(name), chosen: Slot(chosen) })
}

fn told(first: u64, names: &[&'static str], chosen: u64) -> Body {
    let values = names.iter().map(|name| value(name)).collect();
    Body::Chosen(Chosen { first: Slot(first), values, chosen: Slot(chosen) })
}

pub(super) fn fetch(to: u64, first: u64) -> (Option<NodeId>, Body) {
    (Some(NodeId(to)), Body::Fetch(Fetch::all_from(Slot(first))))
}

/// Asks for a part, of which the first slots before it are on their way.
fn fetch_part(to: u64, slots: std::ops::RangeInclusive<u64>, ahead_slots: u64) -> (Option<NodeId>, Body) {
    let (first, last) = (Slot(*slots.start()), Some(Slot(*slots.end())));
    (Some(NodeId(to)), Body::Fetch(Fetch { first, last, ahead_slots }))
}

/// Settings with which a message carries as many values of one letter, and a window as many messages.
fn parts(values: usize, messages: usize) -> ProtocolSettings {
    // A piece that is asked for has seven eighths of what would fit.
    let chunk_bytes = (value("a").size_bytes() + size_of::<Value>()) * (values + 1);
    let catch_up_window_bytes = chunk_bytes * messages;
    ProtocolSettings { chunk_bytes, catch_up_window_bytes, ..ProtocolSettings::default() }
}

#[test]
fn a_gap_is_asked_for_after_two_ticks_and_then_of_each_member_in_turn() {
    let mut alone = Alone::new(1, ReadMode::QuorumRound);
    alone.hear(2, heartbeat(0));
    alone.hear(2, heartbeat(3));
    let mut asked = Vec::new();
    for tick in 1..=2 + 4 * RESEND {
        asked.extend(alone.tick().into_iter().map(|message| (tick, message)));
    }
    let turns = [2, 3, 4, 5, 2].into_iter().zip(0..);
    let expected: Vec<_> = turns.map(|(node, turn)| (2 + turn * RESEND, fetch(node, 1))).collect();
    assert_eq!(asked, expected);
}

#[test]
fn who_told_of_the_gap_is_asked_first() {
    let mut alone = Alone::new(1, ReadMode::QuorumRound);
    alone.hear(2, heartbeat(0));
    let ballot = Ballot { round: 6, node: NodeId(3) };
    let grant = Body::ReadGrant(ReadGrant {
        read: ReadId(1),
        slot: Slot(4),
        ballot,
        chosen: Slot(4),
        time: Time::NONE,
    });
    assert_eq!(alone.hear(3, grant), [fetch(3, 1)]);
    alone.hear(2, heartbeat(4)); // That is nothing new.
    assert_eq!([alone.tick(), alone.tick()], [[], []]);
}

#[test]
fn all_get_their_turn_while_a_leader_tells_more_with_every_tick() {
    let mut alone = Alone::new(1, ReadMode::QuorumRound);
    alone.hear(2, heartbeat(0));
    let mut asked = Vec::new();
    for tick in 1..=2 + 4 * RESEND {
        alone.hear(2, heartbeat(tick));
        asked.extend(alone.tick());
    }
    assert_eq!(asked, [2, 3, 4, 5, 2].map(|node| fetch(node, 1)));
}

#[test]
fn what_a_new_leader_knew_when_it_began_is_asked_for_at_once() {
    let mut alone = Alone::new(1, ReadMode::QuorumRound);
    alone.hear(2, heartbeat(0));
    alone.hear(2, accept(1, "a", 0));
    let ballot = Ballot { round: 6, node: NodeId(3) };
    let of_new_leader = |chosen: u64| {
        Body::Heartbeat(Heartbeat {
            ballot,
            chosen: Slot(chosen),
            round: HeartbeatRound(1),
            time: Time::NONE,
        })
    };
    let fetches = |told: Vec<(Option<NodeId>, Body)>| -> Vec<_> {
        told.into_iter().filter(|(_, body)| matches!(body, Body::Fetch(_))).collect()
    };
    let told = alone.hear(3, of_new_leader(1));
    assert_eq!(fetches(told), [fetch(3, 1)], "it does not propose in slot 1 again");
    let told = alone.hear(3, of_new_leader(2));
    assert_eq!(fetches(told), [], "the accept of slot 2 may be on its way");
}

#[test]
fn a_question_ends_with_the_first_slot_that_it_asked_for() {
    let mut alone = Alone::new(1, ReadMode::QuorumRound);
    alone.hear(2, heartbeat(0));
    alone.hear(2, heartbeat(3));
    assert_eq!([alone.tick(), alone.tick()].concat(), [fetch(2, 1)]);
    alone.hear(2, accept(1, "a", 3));
    let asked: Vec<_> = (0..3).flat_map(|_| alone.tick()).collect();
    assert_eq!(asked, [fetch(2, 2)]);
}

#[test]
fn an_answer_that_helps_but_is_not_all_has_the_next_part_asked_for_at_once() {
    let mut alone = Alone::new(1, ReadMode::QuorumRound);
    assert_eq!(alone.hear(4, told(2, &["b"], 9)), [], "slot 1 is missing");
    assert_eq!(alone.replica.known_chosen(), Slot(0));
    assert_eq!(alone.hear(4, told(1, &["a", "b"], 9)), [fetch(4, 3)]);
    assert_eq!(alone.hear(5, told(1, &["a", "b"], 9)), [], "nothing new");
    assert_eq!(alone.hear(4, told(3, &["c"], 3)), [fetch_part(4, 4..=9, 0)], "others know of nine");
    assert_eq!(alone.replica.chosen(), Slot(3));

    let mut alone = Alone::new(1, ReadMode::QuorumRound);
    assert_eq!(alone.hear(4, told(1, &["a", "b"], 2)), [], "that was all");
}

#[test]
fn more_and_more_parts_are_asked_for_ahead_up_to_the_window() {
    let mut alone = Alone::with(1, parts(2, 3));
    alone.hear(2, heartbeat(0));
    alone.hear(2, heartbeat(99));
    assert_eq!([alone.tick(), alone.tick()].concat(), [fetch(2, 1)]);
    let more = alone.hear(2, told(1, &["a", "b", "c", "d"], 99));
    assert_eq!(more, [fetch_part(2, 5..=6, 0), fetch_part(2, 7..=8, 2)]);
    assert_eq!(alone.hear(2, told(7, &["g", "h"], 99)), [fetch_part(2, 9..=10, 4)]);
    assert_eq!(alone.replica.chosen(), Slot(4), "5 and 6 are missing");
    let more = alone.hear(2, told(5, &["e", "f"], 99));
    assert_eq!(more, [fetch_part(2, 11..=12, 2), fetch_part(2, 13..=14, 4)]);
    assert_eq!(alone.replica.chosen(), Slot(8));
}

#[test]
fn of_a_part_that_is_cut_short_the_rest_is_asked_for() {
    let mut alone = Alone::with(1, parts(2, 3));
    alone.hear(4, told(1, &["a", "b"], 99));
    assert_eq!(alone.hear(4, told(3, &["c"], 99)), [fetch_part(4, 4..=5, 0), fetch_part(4, 6..=7, 2)]);
    assert_eq!(alone.hear(4, told(4, &["d"], 99)), [fetch_part(4, 5..=5, 0), fetch_part(4, 8..=9, 3)]);
}

#[test]
fn parts_that_do_not_come_are_asked_of_the_next_peer() {
    let mut alone = Alone::with(1, parts(2, 3));
    alone.hear(4, told(1, &["a", "b"], 99));
    alone.hear(4, told(3, &["c"], 99));
    let asked: Vec<_> = (0..=RESEND).flat_map(|_| alone.tick()).collect();
    assert_eq!(asked, [fetch_part(5, 4..=5, 0)]);
    assert_eq!(alone.hear(4, told(6, &["f", "g"], 99)).len(), 1, "of the peer before, but late");
}

#[test]
fn parts_that_were_lost_are_asked_for_though_accepts_bring_what_is_under_way() {
    let mut alone = Alone::with(1, parts(2, 3));
    alone.hear(2, heartbeat(0));
    alone.hear(4, told(1, &["a", "b"], 99));
    assert_eq!(alone.hear(4, told(3, &["c", "d"], 99)), [fetch_part(4, 5..=6, 0), fetch_part(4, 7..=8, 2)]);
    let asked: Vec<_> = (0..=RESEND).flat_map(|_| alone.tick()).collect();
    assert_eq!(asked, [fetch_part(5, 5..=6, 0)], "7 and 8 have their turn when an answer comes");
    alone.hear(2, accept(5, "e", 4));
    alone.hear(2, accept(6, "f", 4));
    alone.hear(2, heartbeat(6));
    assert_eq!(alone.replica.chosen(), Slot(6));
    let asked: Vec<_> = (0..3).flat_map(|_| alone.tick()).collect();
    assert_eq!(asked, [fetch_part(5, 7..=8, 0)]);
}

#[test]
fn a_window_of_values_that_are_not_durable_is_the_most_that_is_asked_for() {
    let mut alone = Alone::with(1, parts(2, 2));
    alone.hear(4, told(1, &["a", "b"], 99));
    let mut outputs = Vec::new();
    let mut receive = |body| {
        let message = crate::Message { epoch: crate::Epoch(0), body };
        alone.replica.step(Input::Receive { from: NodeId(4), message }, &mut outputs);
        let write = outputs.iter().find_map(|output| match output {
            Output::Persist(write) => Some(write.clone()),
            _ => None,
        });
        (write, messages(std::mem::take(&mut outputs)))
    };
    let (first, asked) = receive(told(3, &["c", "d"], 99));
    assert_eq!(asked, [fetch_part(4, 5..=6, 0)], "one is not durable, and one is under way");
    let (_, asked) = receive(told(5, &["e", "f"], 99));
    assert_eq!(asked, []);
    let first = first.expect("it has learned two values").into_durable();
    alone.replica.step(Input::Durable(first), &mut outputs);
    assert_eq!(messages(outputs), [fetch_part(4, 7..=8, 0)]);
}

#[test]
fn while_it_is_paused_a_learner_takes_in_what_it_has_asked_for_and_asks_for_no_more() {
    let mut alone = Alone::with(1, parts(2, 3));
    alone.hear(4, told(1, &["a", "b"], 99));
    alone.hear(4, told(3, &["c", "d"], 99));
    assert_eq!(step_durably(&mut alone.replica, Input::PauseFetching { is_paused: true }), []);
    assert_eq!(alone.hear(4, told(5, &["e", "f"], 99)), []);
    assert_eq!(alone.replica.chosen(), Slot(6));
    assert_eq!((0..3 * RESEND).flat_map(|_| alone.tick()).count(), 0);
    let resumed = messages(step_durably(&mut alone.replica, Input::PauseFetching { is_paused: false }));
    assert_eq!(resumed, [fetch_part(4, 9..=10, 2), fetch_part(4, 11..=12, 4)]);
    let asked: Vec<_> = (0..=RESEND).flat_map(|_| alone.tick()).collect();
    assert_eq!(asked, [fetch_part(5, 7..=8, 0)], "the pause is no silence");
}

#[test]
fn an_answer_that_ends_before_what_is_known_is_of_an_earlier_question() {
    let mut alone = Alone::new(1, ReadMode::QuorumRound);
    let ballot = alone.until_candidate();
    let reports = vec![(Slot(3), Entry::Chosen { value: value("c") })];
    alone.hear(2, Body::Promise(Promise { ballot, first: Slot(1), reports, rest: None, time: None }));
    assert_eq!(alone.hear(4, told(1, &["a", "b"], 9)), []);
    assert_eq!(alone.replica.chosen(), Slot(3));
}

#[test]
fn what_is_told_to_be_chosen_replaces_another_value_and_is_not_written_twice() {
    for (name, writes) in [("old", false), ("new", true)] {
        let mut alone = Alone::new(1, ReadMode::QuorumRound);
        alone.hear(2, accept(1, "old", 0));
        let outputs = alone.receive(3, told(1, &[name], 1));
        assert!(outputs.contains(&Output::Apply { slot: Slot(1), value: value(name) }), "{outputs:?}");
        let writes_entry =
            |output: &Output| matches!(output, Output::Persist(write) if !write.entries().is_empty());
        assert_eq!(outputs.iter().any(writes_entry), writes, "{name}");
    }
}

#[test]
fn only_what_is_chosen_is_told_and_no_more_than_about_a_chunk() {
    let each = value("a").size_bytes() + size_of::<Value>();
    for (chunk_bytes, expected) in [(1 << 20, 4), (2 * each, 3), (2 * each - 1, 2)] {
        let mut alone = Alone::with(1, ProtocolSettings { chunk_bytes, ..ProtocolSettings::default() });
        for (slot, name) in [(1, "a"), (2, "b"), (3, "c"), (4, "d")] {
            alone.hear(2, accept(slot, name, slot - 1));
        }
        alone.hear(2, accept(5, "e", 4));
        let all = told(1, &["a", "b", "c", "d"][..expected], 4);
        assert_eq!(alone.hear(3, Body::Fetch(Fetch::all_from(Slot(1)))), [(Some(NodeId(3)), all)]);
        assert_eq!(alone.hear(3, Body::Fetch(Fetch::all_from(Slot(5)))), []);
        let part = Body::Fetch(Fetch { first: Slot(2), last: Some(Slot(3)), ahead_slots: 1 });
        assert_eq!(alone.hear(3, part), [(Some(NodeId(3)), told(2, &["b", "c"], 4))]);
    }
}

#[test]
fn a_lease_is_kept_for_its_length_and_a_tick() {
    let mut alone = Alone::new(1, ReadMode::Lease { lease_ticks: 40, drift_ticks: 4 });
    for _ in 0..100 {
        alone.tick();
        alone.hear(2, heartbeat(0));
    }
    let prepare = Body::Prepare(Prepare {
        ballot: Ballot { round: 9, node: NodeId(3) },
        first: Slot(1),
        handed_over: None,
    });
    for tick in 1..41 {
        alone.tick();
        assert_eq!(alone.hear(3, prepare.clone()), [], "{tick} ticks later");
    }
    alone.tick();
    assert_eq!(alone.hear(3, prepare).len(), 1);
}

#[test]
fn a_leader_fills_a_slot_that_is_asked_for_if_nothing_is_under_way() {
    let ask = Body::Fetch(Fetch::all_from(Slot(3)));
    let mut led = Led::new(ProtocolSettings { eager_commands: 9, ..ProtocolSettings::default() });
    led.choose(Slot(1));
    led.propose(&["a"]);
    assert_eq!(led.alone.hear(4, ask.clone()), [], "slot 2 is under way");
    led.choose(Slot(2));
    let filled =
        Body::Accept(Accept { ballot: led.ballot, slot: Slot(3), value: Value::no_op(), chosen: Slot(2) });
    assert_eq!(led.alone.hear(4, ask.clone()), [(None, filled)]);

    let mut led =
        Led::new(ProtocolSettings { phase_one: PhaseOne::EveryValue, ..ProtocolSettings::default() });
    led.choose(Slot(1));
    led.propose(&["a"]);
    led.choose(Slot(2));
    let spoken = led.alone.hear(4, ask);
    assert!(matches!(spoken[..], [(None, Body::Prepare(Prepare { first: Slot(3), .. }))]), "{spoken:?}");
}
