//! Replicas whose disks have lost acceptances.

use super::candidacy::Alone;
use super::cluster::Cluster;
use super::scripts::{answers, followers, led_cluster};
use crate::message::{Accept, Accepted, Fetch, Heartbeat, Prepare, Promise};
use crate::{
    Ballot, Body, Config, Epoch, HeartbeatRound, Input, Membership, Message, NodeId, PhaseOne,
    ProtocolSettings, RecoverError, Recovered, Replica, Slot, Time, Value,
};

#[test]
fn what_was_lost_is_learned_from_peers_and_then_the_replica_is_as_any_other() {
    let (mut cluster, leader) = led_cluster(3, ProtocolSettings::default());
    for command in ["a", "b", "c"] {
        cluster.propose(leader, command);
        cluster.settle();
    }
    let damaged = followers(&cluster, leader)[0];
    cluster.restart_without(damaged, Slot(2), Slot(3));
    assert_eq!(cluster.replica(damaged).repairs_through(), Some(Slot(3)));
    cluster.run_until("all is known again", 200, |cluster| {
        cluster.nodes[&damaged].replica.as_ref().is_some_and(|replica| replica.repairs_through().is_none())
    });
    assert_eq!(cluster.node(damaged).applied, Slot(3));
}

#[test]
fn who_leads_is_asked_first_for_what_was_lost() {
    let recovered = Recovered { incomplete_through: Slot(2), ..Recovered::default() };
    let mut alone = Alone::recovered(1, ProtocolSettings::default(), recovered);
    let ballot = Ballot { round: 5, node: NodeId(4) };
    alone.hear(
        4,
        Body::Heartbeat(Heartbeat { ballot, chosen: Slot(0), round: HeartbeatRound(1), time: Time::NONE }),
    );
    let asked = [alone.tick(), alone.tick()].concat();
    assert_eq!(asked, [(Some(NodeId(4)), Body::Fetch(Fetch::all_from(Slot(1))))]);
}

#[test]
fn no_prepare_that_asks_about_lost_slots_is_answered_and_others_are() {
    let (one, two) = (NodeId(1), NodeId(2));
    let mut cluster = Cluster::new(3, 1, ProtocolSettings::default());
    cluster.restart_without(one, Slot(1), Slot(3));
    let ballot = Ballot { round: 1, node: two };
    assert_eq!(
        answers(&mut cluster, one, two, Body::Prepare(Prepare { ballot, first: Slot(3), handed_over: None })),
        []
    );
    cluster.settle();
    assert_eq!(cluster.replica(one).promised(), Ballot::ZERO, "nothing is promised by halves");
    answers(&mut cluster, one, two, Body::Prepare(Prepare { ballot, first: Slot(4), handed_over: None }));
    cluster.settle();
    assert!(
        matches!(cluster.sent[..], [(_, _, Body::Promise(Promise { first: Slot(4), .. }))]),
        "it has lost nothing there"
    );
}

#[test]
fn proposals_are_accepted_meanwhile_as_that_takes_the_promise_alone() {
    let (one, two) = (NodeId(1), NodeId(2));
    let mut cluster = Cluster::new(3, 1, ProtocolSettings::default());
    cluster.restart_without(one, Slot(1), Slot(3));
    let ballot = Ballot { round: 1, node: two };
    let accept = Body::Accept(Accept { ballot, slot: Slot(2), value: Value::no_op(), chosen: Slot::ZERO });
    answers(&mut cluster, one, two, accept);
    cluster.settle();
    let accepted = Body::Accepted(Accepted { ballot, first: Slot(2), last: Slot(2) });
    assert!(cluster.sent.contains(&(one, two, accepted)), "{:?}", cluster.sent);
}

#[test]
fn it_does_not_run_for_leader_whoever_is_gone() {
    let (mut cluster, leader) = led_cluster(3, ProtocolSettings::default());
    cluster.propose(leader, "a");
    cluster.settle();
    let damaged = followers(&cluster, leader)[0];
    cluster.restart_without(damaged, Slot(1), Slot(1));
    let others: Vec<NodeId> = cluster.ids().into_iter().filter(|id| *id != damaged).collect();
    cluster.cut = others.iter().flat_map(|id| [(*id, damaged), (damaged, *id)]).collect();
    cluster.sent.clear();
    cluster.run(500);
    let runs = |(from, _, body): &(NodeId, NodeId, Body)| {
        *from == damaged && matches!(body, Body::Probe(_) | Body::Prepare(_))
    };
    assert!(!cluster.sent.iter().any(runs), "its own promise would not tell what it has accepted");
}

#[test]
fn a_leader_fills_slots_that_only_the_lost_part_may_have_held() {
    for phase_one in [PhaseOne::OncePerLeader, PhaseOne::EveryValue] {
        let (mut cluster, leader) =
            led_cluster(3, ProtocolSettings { phase_one, ..ProtocolSettings::default() });
        cluster.propose(leader, "a");
        cluster.settle();
        let damaged = followers(&cluster, leader)[0];
        cluster.restart_without(damaged, Slot(2), Slot(4));
        cluster.run_until("slots 2 to 4 are chosen", 1000, |cluster| {
            cluster.nodes[&damaged]
                .replica
                .as_ref()
                .is_some_and(|replica| replica.repairs_through().is_none())
        });
        cluster.run(50);
        assert_eq!(cluster.node(leader).applied, Slot(4), "{phase_one:?}: no more than was asked for");
    }
}

#[test]
fn ordinary_questions_about_what_is_not_chosen_yet_make_no_slots() {
    let (mut cluster, leader) = led_cluster(3, ProtocolSettings::default());
    cluster.propose(leader, "a");
    cluster.settle();
    let from = followers(&cluster, leader)[0];
    let message = Message { epoch: Epoch(0), body: Body::Fetch(Fetch::all_from(Slot(1))) };
    cluster.step(leader, Input::Receive { from, message });
    cluster.settle();
    assert_eq!(cluster.replica(leader).chosen(), Slot(1));
}

#[test]
fn a_cluster_of_one_has_nobody_to_learn_from() {
    let config = Config::new(
        NodeId(1),
        Membership::new(&[NodeId(1)]).expect("it is one"),
        ProtocolSettings::default(),
    )
    .expect("the settings fit together");
    let recovered = Recovered { incomplete_through: Slot(7), ..Recovered::default() };
    let refused = Replica::new(config, recovered, 1).map(|_| ());
    assert_eq!(refused, Err(RecoverError::NobodyToRepairFrom { through: Slot(7) }));
}
