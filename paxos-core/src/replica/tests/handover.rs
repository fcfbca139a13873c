//! Handing leadership over: to whom, what is refused, and that no command is lost on the way.

use super::candidacy::Alone;
use super::cluster::{Cluster, Outcome};
use super::membership::{add, ask, make};
use super::scripts::{followers, led_cluster};
use crate::message::{Heartbeat, Prepare, Promise, TakeOver};
use crate::{
    Ballot, Body, Change, HandoverRefusal, HeartbeatRound, Input, Member, Membership, NodeId,
    ProtocolSettings, ReadMode, RequestId, Role, Slot,
};

fn hand_over(cluster: &mut Cluster, leader: NodeId, to: Option<NodeId>) -> RequestId {
    let request = cluster.next_request();
    cluster.step(leader, Input::HandOver { request, to });
    request
}

/// Why a handover is refused at once.
fn refusal(cluster: &mut Cluster, leader: NodeId, to: Option<NodeId>) -> HandoverRefusal {
    let request = hand_over(cluster, leader, to);
    match cluster.outcomes.get(&request) {
        Some(Outcome::NotHandedOver(refusal)) => *refusal,
        other => panic!("it is not refused: {other:?}"),
    }
}

fn with_priorities(priorities: &[u8]) -> Membership {
    let member = |(id, &priority)| Member::voter(NodeId(id), "").with_priority(priority);
    Membership::of((1..).zip(priorities).map(member).collect()).expect("these members fit")
}

fn leads_and_all_know(cluster: &Cluster) -> bool {
    let leader = cluster.leader();
    let mut replicas = cluster.nodes.values().filter_map(|node| node.replica.as_ref());
    leader.is_some() && replicas.all(|replica| replica.leader() == leader)
}

#[test]
fn the_named_node_leads_without_a_tick_having_passed() {
    let (mut cluster, leader) = led_cluster(3, ProtocolSettings::default());
    for to in followers(&cluster, leader) {
        let leader = cluster.leader().expect("somebody always leads");
        cluster.run(5);
        let request = hand_over(&mut cluster, leader, Some(to));
        cluster.settle();
        assert_eq!(cluster.outcomes.get(&request), Some(&Outcome::HandedOver(to)));
        assert_eq!((cluster.leader(), cluster.replica(leader).leader()), (Some(to), Some(to)));
    }
}

#[test]
fn a_successor_whose_leader_prepares_a_higher_ballot_gives_up_its_own() {
    let mut alone = Alone::new(1, ReadMode::QuorumRound);
    let ballot = |round| Ballot { round, node: NodeId(2) };
    let round = HeartbeatRound(1);
    alone.hear(2, Body::Heartbeat(Heartbeat { ballot: ballot(1), chosen: Slot::ZERO, round }));
    let asked = alone.hear(2, Body::TakeOver(TakeOver { ballot: ballot(1) }));
    let own = Ballot { round: 2, node: NodeId(1) };
    let handed_over = Some(ballot(1));
    assert_eq!(asked, [(None, Body::Prepare(Prepare { ballot: own, first: Slot::FIRST, handed_over }))]);
    alone.hear(2, Body::Prepare(Prepare { ballot: ballot(2), first: Slot::FIRST, handed_over: None }));
    assert_eq!(alone.replica.promised(), ballot(2), "it is above the one of node 1");
    let promise = Promise { ballot: own, first: Slot::FIRST, reports: Vec::new(), rest: None };
    alone.hear(3, Body::Promise(promise));
    assert_eq!(alone.replica.role(), Role::Follower, "its own ballot is below its promise");
}

#[test]
fn the_leader_hands_over_to_itself_at_once() {
    let (mut cluster, leader) = led_cluster(3, ProtocolSettings::default());
    let request = hand_over(&mut cluster, leader, Some(leader));
    assert_eq!(cluster.outcomes.get(&request), Some(&Outcome::HandedOver(leader)));
}

#[test]
fn without_a_name_the_voter_with_the_highest_priority_leads() {
    let mut cluster = Cluster::founded(with_priorities(&[1, 3, 2]), 1, ProtocolSettings::default());
    cluster.run_until("somebody leads", 1000, leads_and_all_know);
    assert_eq!(cluster.leader(), Some(NodeId(2)), "it runs sooner than the others");
    for (from, to) in [(2, 3), (3, 2)] {
        cluster.run(10);
        hand_over(&mut cluster, NodeId(from), None);
        cluster.settle();
        assert_eq!(cluster.leader(), Some(NodeId(to)));
    }
}

#[test]
fn of_equals_the_one_that_knows_most_of_what_is_chosen_leads() {
    for lagging in [0, 1] {
        let (mut cluster, leader) = led_cluster(3, ProtocolSettings::default());
        let others = followers(&cluster, leader);
        cluster.run(5);
        cluster.cut_both_ways(leader, others[lagging]);
        cluster.propose(leader, "a");
        cluster.run(15);
        cluster.cut.clear();
        hand_over(&mut cluster, leader, None);
        cluster.settle();
        assert_eq!(cluster.leader(), Some(others[1 - lagging]));
    }
}

#[test]
fn only_a_leader_in_phase_2_hands_over() {
    let (mut cluster, leader) = led_cluster(3, ProtocolSettings::default());
    let [one, other] = followers(&cluster, leader)[..] else { panic!("there are two others") };
    assert_eq!(refusal(&mut cluster, one, Some(other)), HandoverRefusal::NotLeader { leader: Some(leader) });
    ask(&mut cluster, leader, add(NodeId(4)), false);
    assert_eq!(refusal(&mut cluster, leader, Some(one)), HandoverRefusal::ChangeUnderWay);
    cluster.settle();
    hand_over(&mut cluster, leader, Some(one));
    assert_eq!(refusal(&mut cluster, leader, Some(other)), HandoverRefusal::UnderWay { to: one });
}

#[test]
fn a_successor_must_be_a_voter_that_may_lead_is_heard_and_does_not_lag() {
    let settings = ProtocolSettings::default().with(|settings| settings.window_slots = 2);
    let (mut cluster, leader) = led_cluster(3, settings);
    let [one, other] = followers(&cluster, leader)[..] else { panic!("there are two others") };
    make(&mut cluster, leader, add(NodeId(4)));
    for node in [NodeId(4), NodeId(5)] {
        assert_eq!(refusal(&mut cluster, leader, Some(node)), HandoverRefusal::NotAVoter { node });
    }
    make(&mut cluster, leader, Change::Prioritize { node: one, priority: 0 });
    assert_eq!(refusal(&mut cluster, leader, Some(one)), HandoverRefusal::NeverLeads { node: one });
    cluster.run(20);
    cluster.cut.push((leader, other));
    for command in ["a", "b", "c"] {
        cluster.propose(leader, command);
        cluster.run(1);
    }
    let lags = HandoverRefusal::Lags { node: other, slots: 3, limit_slots: 2 };
    assert_eq!(refusal(&mut cluster, leader, Some(other)), lags);
    cluster.crash(other);
    cluster.run(100);
    assert_eq!(refusal(&mut cluster, leader, Some(other)), HandoverRefusal::NotHeard { node: other });
    assert_eq!(refusal(&mut cluster, leader, None), HandoverRefusal::NobodyElse);
}

#[test]
fn a_successor_that_repairs_its_log_declines_and_the_leader_goes_on() {
    let (mut cluster, leader) = led_cluster(3, ProtocolSettings::default());
    let to = followers(&cluster, leader)[0];
    cluster.propose(leader, "a");
    cluster.run(10);
    cluster.restart_without(to, Slot(1), Slot(9));
    cluster.run(10);
    let ballot = cluster.replica(leader).promised();
    let request = hand_over(&mut cluster, leader, Some(to));
    cluster.propose(leader, "b");
    cluster.settle();
    let declined = HandoverRefusal::Declined { node: to };
    assert_eq!(cluster.outcomes.get(&request), Some(&Outcome::NotHandedOver(declined)));
    assert_eq!((cluster.leader(), cluster.replica(leader).promised()), (Some(leader), ballot));
    cluster.run_until("what waited is chosen", 10, |cluster| cluster.all_applied("b"));
}

#[test]
fn a_successor_that_does_not_answer_costs_half_an_election_timeout() {
    let settings = ProtocolSettings::default();
    let timeout = u64::from(settings.election_timeout_ticks);
    let (mut cluster, leader) = led_cluster(3, settings);
    let to = followers(&cluster, leader)[0];
    cluster.run(5);
    cluster.cut_both_ways(leader, to);
    let request = hand_over(&mut cluster, leader, Some(to));
    cluster.propose(leader, "a");
    cluster.run(timeout / 2 - 1);
    assert_eq!(cluster.outcomes.get(&request), None);
    cluster.run(1);
    let late = HandoverRefusal::NotInTime { node: to };
    assert_eq!(cluster.outcomes.get(&request), Some(&Outcome::NotHandedOver(late)));
    assert_eq!(cluster.leader(), Some(leader), "there was always a leader");
    assert!(cluster.applied.contains_key(&Slot(1)), "what waited is chosen at once");
}

#[test]
fn commands_wait_for_the_successor_and_none_is_lost() {
    let (mut cluster, leader) = led_cluster(3, ProtocolSettings::default());
    let [to, other] = followers(&cluster, leader)[..] else { panic!("there are two others") };
    cluster.run(5);
    cluster.propose(leader, "before");
    hand_over(&mut cluster, leader, Some(to));
    cluster.propose(leader, "at the leader");
    cluster.propose(other, "forwarded to the leader");
    cluster.settle();
    assert_eq!(cluster.leader(), Some(to));
    cluster.run(10);
    for command in ["before", "at the leader", "forwarded to the leader"] {
        assert!(cluster.all_applied(command), "{command}");
    }
}

#[test]
fn if_the_successor_dies_after_it_has_prepared_the_request_ends_with_the_search_for_a_leader() {
    let (mut cluster, leader) = led_cluster(3, ProtocolSettings::default());
    let to = followers(&cluster, leader)[0];
    cluster.run(5);
    let request = hand_over(&mut cluster, leader, Some(to));
    cluster.cut.push((leader, to));
    let is_deposed = |cluster: &Cluster| {
        cluster.nodes[&leader].replica.as_ref().is_some_and(|replica| replica.role() == Role::Follower)
    };
    while !is_deposed(&cluster) {
        cluster.tick();
    }
    cluster.crash(to);
    cluster.cut.clear();
    cluster.run_until("another leader is found", 2000, leads_and_all_know);
    assert!(cluster.outcomes.contains_key(&request), "the request has ended");
    assert!(!cluster.replica(leader).is_handing_over());
}

#[test]
fn a_node_that_came_back_after_the_election_takes_over() {
    let (mut cluster, _) = led_cluster(3, ProtocolSettings::default());
    let away = cluster.leader().expect("it is led");
    cluster.crash(away);
    cluster.run_until("another one leads", 1000, |cluster| cluster.leader().is_some());
    let leader = cluster.leader().expect("seen just now");
    cluster.start(away);
    cluster.run(10);
    assert!(cluster.replica(away).promised() < cluster.replica(leader).promised());
    hand_over(&mut cluster, leader, Some(away));
    cluster.settle();
    assert_eq!(cluster.leader(), Some(away));
}

#[test]
fn a_leader_that_hands_over_gives_its_lease_up() {
    let settings = ProtocolSettings::default().with(|settings| {
        settings.reads = ReadMode::Lease { lease_ticks: 40, drift_ticks: 4 };
    });
    let (mut cluster, leader) = led_cluster(3, settings);
    let [to, other] = followers(&cluster, leader)[..] else { panic!("there are two others") };
    cluster.run(10);
    assert!(cluster.replica(leader).holds_lease_in(0));
    cluster.cut_both_ways(leader, to);
    hand_over(&mut cluster, leader, Some(to));
    assert!(!cluster.replica(leader).holds_lease_in(0));
    cluster.run(30);
    assert_eq!(cluster.leader(), Some(leader), "the successor did not hear it");
    assert!(!cluster.replica(leader).holds_lease_in(0), "the request may still arrive");
    hand_over(&mut cluster, leader, Some(other));
    cluster.settle();
    assert_eq!(cluster.leader(), Some(other), "the lease does not keep its followers from promising");
    cluster.cut.clear();
    cluster.run(20);
    assert!(cluster.replica(other).holds_lease_in(0));
}

#[test]
fn a_voter_with_priority_0_never_leads() {
    let mut cluster = Cluster::founded(with_priorities(&[0, 1, 0]), 1, ProtocolSettings::default());
    cluster.run_until("somebody leads", 1000, leads_and_all_know);
    assert_eq!(cluster.leader(), Some(NodeId(2)));
    cluster.crash(NodeId(2));
    cluster.run(2000);
    assert_eq!(cluster.leader(), None);
}
