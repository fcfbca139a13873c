//! Entering an epoch, message by message: what a single replica does as memberships become chosen.

use super::candidacy::{Alone, messages};
use super::edges::step_durably;
use super::reads::Led;
use super::takeover::{proposals, value};
use crate::message::{
    Accept, Accepted, Chosen, Consent, Fetch, Heartbeat, HeartbeatAck, NewEpoch, Prepare, Probe, Promise,
    TakeOver,
};
use crate::{
    Ballot, Body, Change, ChangeRefusal, ChangeRequest, Config, Entry, Epoch, HardState, HeartbeatRound,
    Input, Membership, NodeId, Output, ProtocolSettings, ReadId, ReadMode, Recovered, RequestId, Role, Slot,
    SnapshotMeta, Standing, Time, Value,
};

/// The ballot under which the memberships of these tests were first proposed.
const FIRST: Ballot = Ballot { round: 5, node: NodeId(4) };

fn founding() -> Membership {
    Membership::new(&[1, 2, 3, 4, 5].map(NodeId)).expect("these members fit")
}

/// The membership after `before` without a node.
fn without(before: &Membership, node: u64) -> Membership {
    before.changed(&Change::Remove { node: NodeId(node) }, FIRST).expect("there are others")
}

fn told(values: &[Value]) -> Body {
    let chosen = Slot(values.len() as u64);
    Body::Chosen(Chosen { first: Slot::FIRST, values: values.to_vec(), chosen })
}

fn recovered(chosen: u64, values: &[Value]) -> Recovered {
    let ballot = FIRST;
    let entry = |(slot, value): (u64, &Value)| (Slot(slot), Entry::Accepted { ballot, value: value.clone() });
    Recovered {
        hard_state: HardState { promised: FIRST, chosen: Slot(chosen) },
        entries: (1..).zip(values).map(entry).collect(),
        ..Recovered::default()
    }
}

fn epoch_after(recovered: Recovered) -> (Epoch, Ballot) {
    let alone = Alone::recovered(1, ProtocolSettings::default(), recovered);
    (alone.replica.membership().epoch(), alone.replica.promised())
}

/// Node 1 leads; in slot 1 the membership without node 5 was reported, in slot 2 a command behind it.
fn takes_over_a_membership() -> (Alone, Ballot, Vec<(Option<NodeId>, Body)>) {
    let mut alone = Alone::new(1, ReadMode::QuorumRound);
    let promised = Ballot { round: 90, node: NodeId(5) };
    alone.hear(5, Body::Consent(Consent { ballot: Ballot::ZERO, promised }));
    let ballot = alone.until_candidate();
    let report = |slot, value| (Slot(slot), Entry::Accepted { ballot: FIRST, value });
    let reports = vec![report(1, Value::membership(&without(&founding(), 5))), report(2, value("behind it"))];
    alone.hear(2, Body::Promise(Promise { ballot, first: Slot(1), reports, rest: None, time: None }));
    let none = Promise { ballot, first: Slot(1), reports: Vec::new(), rest: None, time: None };
    let spoken = alone.hear(3, Body::Promise(none));
    assert_eq!(alone.replica.role(), Role::Leader);
    (alone, ballot, spoken)
}

fn accept_slot_1(alone: &mut Alone, ballot: Ballot) -> Vec<Output> {
    let accepted = Body::Accepted(Accepted { ballot, first: Slot(1), last: Slot(1) });
    [2, 3].into_iter().flat_map(|from| alone.receive(from, accepted.clone())).collect()
}

#[test]
fn a_membership_is_in_force_after_a_restart_if_and_only_if_it_is_chosen() {
    let next = Value::membership(&without(&founding(), 5));
    let log = [value("a"), next.clone(), value("b")];
    assert_eq!(epoch_after(recovered(1, &log)).0, Epoch(0), "it is accepted only");
    assert_eq!(epoch_after(recovered(2, &log)).0, Epoch(1), "it was not applied");
    assert_eq!(epoch_after(recovered(3, &log)).0, Epoch(1));
    let later = Value::membership(&without(&without(&founding(), 5), 4));
    assert_eq!(epoch_after(recovered(2, &[next, later])).0, Epoch(2));
}

#[test]
fn a_membership_is_in_force_after_a_restart_from_the_snapshot_that_holds_it() {
    let membership = without(&founding(), 5);
    let meta = SnapshotMeta { slot: Slot(9), size_bytes: 5, checksum: 0, membership: membership.clone() };
    let hard_state = HardState { promised: Ballot::ZERO, chosen: Slot(9) };
    let recovered = Recovered { hard_state, snapshot: Some(meta), ..Recovered::default() };
    assert_eq!(epoch_after(recovered.clone()), (Epoch(1), FIRST), "whoever is in the epoch has promised it");
    let alone = Alone::recovered(1, ProtocolSettings::default(), recovered);
    assert_eq!(alone.replica.membership_at(Slot(9)), Some(membership));
    assert_eq!(alone.replica.membership_at(Slot(8)), None);
}

#[test]
fn the_founding_membership_of_the_configuration_counts_whatever_a_snapshot_of_its_epoch_says() {
    let before = Membership::new(&[1, 2, 6].map(NodeId)).expect("these members fit");
    let meta = SnapshotMeta { slot: Slot(9), size_bytes: 5, checksum: 0, membership: before };
    let hard_state = HardState { promised: Ballot::ZERO, chosen: Slot(9) };
    let recovered = Recovered { hard_state, snapshot: Some(meta), ..Recovered::default() };
    let alone = Alone::recovered(1, ProtocolSettings::default(), recovered);
    assert_eq!(alone.replica.membership(), &founding());
    assert_eq!(alone.replica.membership_at(Slot(9)), Some(founding()));
}

#[test]
fn a_membership_belongs_to_the_snapshots_from_its_slot_on() {
    let mut alone = Alone::new(1, ReadMode::QuorumRound);
    let next = without(&founding(), 5);
    alone.hear(2, told(&[value("a"), Value::membership(&next), value("b")]));
    let at = |slot| alone.replica.membership_at(Slot(slot)).map(|membership| membership.epoch());
    assert_eq!([1, 2, 3].map(at), [Some(Epoch(0)), Some(Epoch(1)), Some(Epoch(1))]);
}

#[test]
fn who_enters_an_epoch_promises_the_ballot_of_its_membership_and_writes_that_down() {
    let mut alone = Alone::new(1, ReadMode::QuorumRound);
    let next = without(&founding(), 5);
    let outputs = alone.receive(2, told(&[Value::membership(&next)]));
    assert_eq!(alone.replica.promised(), FIRST);
    let slot = Slot(1);
    assert!(outputs.contains(&Output::MembershipChanged { slot, membership: next }), "{outputs:?}");
    let writes = |output: &Output| match output {
        Output::Persist(write) => Some(write.hard_state()),
        _ => None,
    };
    let hard_state = outputs.iter().filter_map(writes).next_back().expect("it writes");
    assert_eq!(hard_state, HardState { promised: FIRST, chosen: Slot(1) });
}

#[test]
fn a_stale_membership_that_is_chosen_later_changes_nothing() {
    let [in_force, stale] = [5, 4].map(|node| without(&founding(), node));
    let mut alone = Alone::new(1, ReadMode::QuorumRound);
    alone.hear(2, told(&[&in_force, &stale, &in_force].map(Value::membership)));
    assert_eq!((alone.replica.chosen(), alone.replica.membership()), (Slot(3), &in_force));
    let log = [&in_force, &stale].map(Value::membership);
    assert_eq!(epoch_after(recovered(2, &log)).0, Epoch(1), "nor after a restart");
}

#[test]
fn a_slot_that_is_accepted_ahead_of_a_membership_is_not_chosen_before_it() {
    let mut led = Led::new(ProtocolSettings { eager_commands: 9, ..ProtocolSettings::default() });
    led.choose(Slot(1));
    led.propose(&["a"]);
    let change = ChangeRequest {
        request: RequestId(7),
        change: Change::Remove { node: NodeId(5) },
        if_epoch: None,
        is_forced: true,
    };
    let outputs = step_durably(&mut led.alone.replica, Input::Change(change));
    let spoken = proposals(&messages(outputs));
    assert_eq!(spoken.iter().map(|(slot, _)| *slot).collect::<Vec<_>>(), [3], "behind what is in flight");
    assert_eq!(led.choose(Slot(3)), [], "slot 2 may hold another membership, as far as others can tell");
    assert_eq!((led.alone.replica.chosen(), led.alone.replica.membership().epoch()), (Slot(1), Epoch(0)));
    let outputs = led.choose(Slot(2));
    let in_force = Output::ChangeInForce { request: RequestId(7), epoch: Epoch(1) };
    assert!(outputs.contains(&in_force), "{outputs:?}");
    assert_eq!(led.alone.replica.chosen(), Slot(3));
}

#[test]
fn a_new_leader_proposes_a_membership_again_and_nothing_behind_it() {
    let (_, _, spoken) = takes_over_a_membership();
    let slots: Vec<u64> = proposals(&spoken).iter().map(|(slot, _)| *slot).collect();
    assert_eq!(slots, [1], "what was accepted in slot 2 belongs to an epoch in which it can't be chosen");
}

#[test]
fn a_leader_that_found_a_membership_runs_phase_1_in_its_epoch() {
    let (mut alone, ballot, _) = takes_over_a_membership();
    let outputs = accept_slot_1(&mut alone, ballot);
    let prepare_in = |output: &Output| match output {
        Output::Broadcast { message } => match &message.body {
            Body::Prepare(Prepare { ballot, first, .. }) => Some((message.epoch, *ballot, *first)),
            _ => None,
        },
        _ => None,
    };
    let prepared: Vec<_> = outputs.iter().filter_map(prepare_in).collect();
    let found_under = ballot;
    let ballot = Ballot { round: ballot.round + 1, ..ballot };
    assert_eq!(prepared, [(Epoch(1), ballot, Slot(2))]);
    let is_heartbeat = |output: &&Output| match output {
        Output::Broadcast {
            message: crate::Message { epoch: Epoch(1), body: Body::Heartbeat(heartbeat) },
        } => (heartbeat.ballot, heartbeat.chosen) == (found_under, Slot(1)),
        _ => false,
    };
    let announced = outputs.iter().position(|output| is_heartbeat(&output));
    assert!(announced < outputs.iter().position(|output| prepare_in(output).is_some()), "{outputs:?}");
    assert!(announced.is_some(), "who has accepted slot 1 enters the epoch: {outputs:?}");
    assert_eq!(alone.replica.role(), Role::Leader, "it leads on meanwhile");
    // In the new epoch three of four must promise. A promise of node 5 does not count, as it has no vote.
    let promise =
        Body::Promise(Promise { ballot, first: Slot(2), reports: Vec::new(), rest: None, time: None });
    alone.receive_in(Epoch(1), 5, promise.clone());
    alone.receive_in(Epoch(1), 2, promise.clone());
    step_durably(&mut alone.replica, Input::Propose { commands: vec!["a".into()] });
    let outputs = alone.receive_in(Epoch(1), 3, promise);
    assert_eq!(proposals(&messages(outputs)), [(2, value("a"))]);
}

#[test]
fn a_change_that_waits_behind_a_found_membership_is_refused_when_that_is_in_force() {
    let (mut alone, ballot, _) = takes_over_a_membership();
    let change = ChangeRequest {
        request: RequestId(7),
        change: Change::Remove { node: NodeId(4) },
        if_epoch: None,
        is_forced: true,
    };
    assert_eq!(messages(step_durably(&mut alone.replica, Input::Change(change))), [], "it waits");
    let refused = Output::ChangeRefused { request: RequestId(7), refusal: ChangeRefusal::Lost };
    assert!(accept_slot_1(&mut alone, ballot).contains(&refused));
}

#[test]
fn reads_that_wait_are_confirmed_by_the_new_epoch_only() {
    let mut led = Led::new(ProtocolSettings::default());
    led.choose(Slot(1));
    let change = ChangeRequest {
        request: RequestId(7),
        change: Change::Remove { node: NodeId(5) },
        if_epoch: None,
        is_forced: true,
    };
    step_durably(&mut led.alone.replica, Input::Change(change));
    step_durably(&mut led.alone.replica, Input::Read { read: ReadId(1) });
    let outputs = led.choose(Slot(2));
    assert_eq!(led.alone.replica.membership().epoch(), Epoch(1));
    let round = |(_, body)| match body {
        Body::Heartbeat(Heartbeat { round, .. }) => Some(round),
        _ => None,
    };
    let round = messages(outputs).into_iter().filter_map(round).max().expect("the new epoch has heartbeats");
    let ack = Body::HeartbeatAck(HeartbeatAck { ballot: led.ballot, round, chosen: Slot(1) });
    let is_ready =
        |outputs: &[Output]| outputs.iter().any(|output| matches!(output, Output::ReadReady { .. }));
    for from in [2, 3, 4] {
        assert!(!is_ready(&led.alone.receive_in(Epoch(0), from, ack.clone())), "{from} is in the old epoch");
    }
    assert!(!is_ready(&led.alone.receive_in(Epoch(1), 2, ack.clone())), "two of four are no quorum");
    assert!(is_ready(&led.alone.receive_in(Epoch(1), 3, ack)));
}

#[test]
fn questions_of_an_epoch_that_is_over_are_answered_with_the_new_one_and_answers_are_ignored() {
    let mut alone = Alone::new(1, ReadMode::QuorumRound);
    alone.hear(2, told(&[Value::membership(&without(&founding(), 5))]));
    let (ballot, slot, round) = (Ballot { round: 9, node: NodeId(5) }, Slot(2), HeartbeatRound(1));
    let answer = (Some(NodeId(5)), Body::NewEpoch(NewEpoch { chosen: Slot(1) }));
    for question in [
        Body::Probe(Probe { ballot }),
        Body::Prepare(Prepare { ballot, first: slot, handed_over: None }),
        Body::Accept(Accept { ballot, slot, value: value("a"), chosen: Slot(0) }),
        Body::Heartbeat(Heartbeat { ballot, chosen: Slot(0), round, time: Time::NONE }),
        Body::TakeOver(TakeOver { ballot }),
    ] {
        assert_eq!(alone.hear(5, question.clone()), std::slice::from_ref(&answer), "{question:?}");
    }
    for ignored in [
        Body::Consent(Consent { ballot, promised: ballot }),
        Body::Promise(Promise { ballot, first: slot, reports: Vec::new(), rest: None, time: None }),
        Body::Accepted(Accepted { ballot, first: slot, last: slot }),
        Body::HeartbeatAck(HeartbeatAck { ballot, round, chosen: slot }),
    ] {
        assert_eq!(alone.hear(5, ignored.clone()), [], "{ignored:?}");
    }
    assert_eq!(alone.replica.promised(), FIRST);
}

#[test]
fn a_leader_that_hears_of_a_newer_epoch_stops_and_asks_what_it_missed() {
    let mut led = Led::new(ProtocolSettings::default());
    let outputs = led.alone.receive_in(Epoch(1), 3, Body::NewEpoch(NewEpoch { chosen: Slot(4) }));
    assert_eq!(led.alone.replica.role(), Role::Follower);
    assert_eq!(messages(outputs), [(Some(NodeId(3)), Body::Fetch(Fetch::all_from(Slot(1))))]);
    let again = led.alone.receive_in(Epoch(1), 3, Body::NewEpoch(NewEpoch { chosen: Slot(4) }));
    assert_eq!(messages(again), [], "one question is under way");
}

#[test]
fn a_leader_of_a_newer_epoch_is_not_followed_before_that_epoch_is_entered() {
    let mut alone = Alone::new(1, ReadMode::QuorumRound);
    let membership = Value::membership(&without(&founding(), 5));
    alone.hear(4, Body::Accept(Accept { ballot: FIRST, slot: Slot(1), value: membership, chosen: Slot(0) }));
    let accept = |chosen| {
        Body::Accept(Accept { ballot: FIRST, slot: Slot(2), value: value("a"), chosen: Slot(chosen) })
    };
    let outputs = alone.receive_in(Epoch(1), 4, accept(0));
    assert_eq!((messages(outputs), alone.replica.membership().epoch()), (vec![], Epoch(0)));
    // It has accepted slot 1 under this leader's ballot, so the watermark is all that it needs to know.
    let outputs = alone.receive_in(Epoch(1), 4, accept(1));
    let accepted = Body::Accepted(Accepted { ballot: FIRST, first: Slot(2), last: Slot(2) });
    assert!(messages(outputs).contains(&(Some(NodeId(4)), accepted)));
    assert_eq!(alone.replica.membership().epoch(), Epoch(1));
}

#[test]
fn a_leader_without_a_vote_in_the_new_epoch_is_forgotten() {
    let mut alone = Alone::new(1, ReadMode::QuorumRound);
    let ballot = Ballot { round: 6, node: NodeId(5) };
    let heartbeat = Heartbeat { ballot, chosen: Slot(0), round: HeartbeatRound(1), time: Time::NONE };
    alone.hear(5, Body::Heartbeat(heartbeat));
    assert_eq!(alone.replica.leader(), Some(NodeId(5)));
    alone.hear(2, told(&[Value::membership(&without(&founding(), 5))]));
    assert_eq!(alone.replica.leader(), None);
}

#[test]
fn a_leader_that_finds_its_own_removal_has_it_chosen_and_stops() {
    let mut alone = Alone::new(1, ReadMode::QuorumRound);
    let ballot = alone.until_candidate();
    let entry = Entry::Accepted { ballot: Ballot::ZERO, value: Value::membership(&without(&founding(), 1)) };
    let reports = vec![(Slot(1), entry)];
    alone.hear(2, Body::Promise(Promise { ballot, first: Slot(1), reports, rest: None, time: None }));
    let none = Promise { ballot, first: Slot(1), reports: Vec::new(), rest: None, time: None };
    alone.hear(3, Body::Promise(none));
    accept_slot_1(&mut alone, ballot);
    assert_eq!(alone.replica.standing(), Standing::Removed { may_end: false });
    assert_eq!(alone.replica.role(), Role::Follower);
    // Three of the four others say that they know. Until then it tells them again and again.
    let told: Vec<_> = (0..10).flat_map(|_| alone.tick()).collect();
    let tells = |node| (Some(NodeId(node)), Body::NewEpoch(NewEpoch { chosen: Slot(1) }));
    assert_eq!(told, [2, 3, 4, 5].map(tells));
    for (from, may_end) in [(2, false), (2, false), (3, false), (4, true)] {
        alone.receive_in(Epoch(1), from, Body::NewEpoch(NewEpoch { chosen: Slot(1) }));
        assert_eq!(alone.replica.standing(), Standing::Removed { may_end });
    }
}

#[test]
fn a_node_that_joins_knows_the_founders_and_is_nobody() {
    let config = Config::joining(NodeId(9), founding(), ProtocolSettings::default());
    let config = config.expect("the settings fit together");
    let mut replica = crate::Replica::new(config, Recovered::default(), 1).expect("the disk is empty");
    assert_eq!(replica.standing(), Standing::Outsider);
    let ticked: Vec<Output> = (0..1000).flat_map(|_| step_durably(&mut replica, Input::Tick)).collect();
    assert_eq!(ticked, [], "it waits to be told");
}

/// Tells node 1 that a node is in an epoch.
fn hear_epoch(alone: &mut Alone, from: u64, epoch: u64) -> Vec<(Option<NodeId>, Body)> {
    let body = Body::NewEpoch(NewEpoch { chosen: Slot(1) });
    let message = crate::Message { epoch: Epoch(epoch), body };
    messages(step_durably(&mut alone.replica, Input::Receive { from: NodeId(from), message }))
}

#[test]
fn two_removed_nodes_do_not_answer_each_other() {
    let mut alone = Alone::new(1, ReadMode::QuorumRound);
    let memberships = [without(&founding(), 5), without(&without(&founding(), 5), 1)];
    alone.hear(2, told(&memberships.map(|membership| Value::membership(&membership))));
    assert!(matches!(alone.replica.standing(), Standing::Removed { .. }));
    assert_eq!(hear_epoch(&mut alone, 5, 2), [], "node 5 is removed, too, and knows this epoch");
}

#[test]
fn a_node_in_an_epoch_that_is_over_is_told_so() {
    let mut alone = Alone::new(1, ReadMode::QuorumRound);
    alone.hear(2, told(&[Value::membership(&without(&founding(), 5))]));
    let answer = Body::NewEpoch(NewEpoch { chosen: Slot(1) });
    assert_eq!(hear_epoch(&mut alone, 3, 0), [(Some(NodeId(3)), answer)]);
    assert_eq!(hear_epoch(&mut alone, 3, 1), []);
}

/// A voter may not know yet that it is one, and the only node that knows may never lead.
#[test]
fn a_member_that_may_not_lead_tells_its_epoch_when_it_hears_no_leader() {
    let mut alone = Alone::new(1, ReadMode::QuorumRound);
    let node = NodeId(1);
    let never_leads = founding().changed(&Change::Prioritize { node, priority: 0 }, FIRST);
    alone.hear(2, told(&[Value::membership(&never_leads.expect("it is a member"))]));
    let spoken: Vec<_> = (0..400).flat_map(|_| alone.tick()).collect();
    let tells = |peer| (Some(NodeId(peer)), Body::NewEpoch(NewEpoch { chosen: Slot(1) }));
    assert!([2, 3, 4, 5].map(tells).iter().all(|told| spoken.contains(told)), "{spoken:?}");
    assert!(spoken.len() <= 4 * 8, "once in a time-out");
}
