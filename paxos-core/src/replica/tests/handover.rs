//! Handing leadership over: to whom, what is refused, and that no command is lost on the way.

use super::candidacy::Alone;
use super::cluster::{Cluster, Outcome};
use super::membership::{add, ask, make};
use super::scripts::{followers, led_cluster};
use crate::message::{Heartbeat, Prepare, Promise, TakeOver};
use crate::{
    Ballot, Body, Change, ChangeRefusal, HandoverRefusal, HeartbeatRound, Input, Member, Membership, NodeId,
    ProtocolSettings, ReadMode, RequestId, Role, Slot, Time,
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
    alone.hear(
        2,
        Body::Heartbeat(Heartbeat { ballot: ballot(1), chosen: Slot::ZERO, round, time: Time::NONE }),
    );
    let asked = alone.hear(2, Body::TakeOver(TakeOver { ballot: ballot(1) }));
    let own = Ballot { round: 2, node: NodeId(1) };
    let handed_over = Some(ballot(1));
    assert_eq!(asked, [(None, Body::Prepare(Prepare { ballot: own, first: Slot::FIRST, handed_over }))]);
    alone.hear(2, Body::Prepare(Prepare { ballot: ballot(2), first: Slot::FIRST, handed_over: None }));
    assert_eq!(alone.replica.promised(), ballot(2), "it is above the one of node 1");
    let promise = Promise { ballot: own, first: Slot::FIRST, reports: Vec::new(), rest: None, time: None };
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

/// Of five nodes, 3 leads and is asked to give node 2 priority 0. It crashes before that is chosen, and node
/// 2, which runs before others, takes over and proposes the change again. Nodes 1 and 4 have these
/// priorities, and node 5 has 0.
fn led_by_one_that_finds_its_priority_to_be_0(priorities: [u8; 2]) -> Cluster {
    let [one, four] = priorities;
    let founding = with_priorities(&[one, 9, 8, four, 0]);
    let mut cluster = Cluster::founded(founding, 1, ProtocolSettings::default());
    cluster.run_until("the first one leads", 1000, leads_and_all_know);
    cluster.run(10);
    hand_over(&mut cluster, NodeId(2), Some(NodeId(3)));
    cluster.propose(NodeId(3), "a");
    cluster.run(10);
    assert!(cluster.all_applied("a"));
    for id in [1, 3, 4, 5].map(NodeId) {
        cluster.node(id).is_disk_stuck = true;
    }
    ask(&mut cluster, NodeId(3), Change::Prioritize { node: NodeId(2), priority: 0 }, false);
    cluster.settle();
    cluster.crash(NodeId(3));
    for id in [1, 3, 4, 5].map(NodeId) {
        cluster.node(id).is_disk_stuck = false;
    }
    let has_found_it =
        |cluster: &Cluster| cluster.leader() == Some(NodeId(2)) && priority_of_2(cluster) == Some(0);
    cluster.run_until("node 2 leads and has the change chosen", 1000, has_found_it);
    cluster
}

fn priority_of_2(cluster: &Cluster) -> Option<u8> {
    let replica = cluster.nodes[&NodeId(2)].replica.as_ref();
    replica.and_then(|replica| replica.membership().member(NodeId(2))).map(|member| member.priority)
}

#[test]
fn a_leader_that_finds_its_priority_to_be_0_hands_over_to_the_one_with_the_highest() {
    let mut cluster = led_by_one_that_finds_its_priority_to_be_0([1, 2]);
    cluster.run_until("node 4 leads", 5, |cluster| cluster.leader() == Some(NodeId(4)));
    cluster.propose(NodeId(2), "b");
    cluster.run(20);
    assert!(cluster.all_applied("b"), "node 2 follows");
}

#[test]
fn a_leader_of_priority_0_leads_on_while_nobody_may_take_over() {
    let mut cluster = led_by_one_that_finds_its_priority_to_be_0([0, 0]);
    cluster.run(200);
    assert_eq!(cluster.leader(), Some(NodeId(2)), "only node 3 may lead, and is away");
    cluster.propose(NodeId(4), "b");
    cluster.run(20);
    assert!(cluster.all_applied("b"));
    make(&mut cluster, NodeId(2), Change::Prioritize { node: NodeId(5), priority: 1 });
    cluster.run_until("node 5 leads", 5, |cluster| cluster.leader() == Some(NodeId(5)));
    let mut cluster = led_by_one_that_finds_its_priority_to_be_0([0, 0]);
    cluster.run(200);
    cluster.start(NodeId(3));
    cluster.run_until("it is back", 100, |cluster| cluster.leader() == Some(NodeId(3)));
}

#[test]
fn a_leader_of_priority_0_still_makes_way_for_a_change_that_takes_its_vote() {
    let mut cluster = led_by_one_that_finds_its_priority_to_be_0([0, 0]);
    cluster.run(20);
    let request = ask(&mut cluster, NodeId(2), Change::Remove { node: NodeId(2) }, false);
    let refused = Outcome::Refused(ChangeRefusal::NobodyElseLeads);
    assert_eq!(cluster.outcomes.get(&request), Some(&refused));
}

#[test]
fn a_leader_of_priority_0_serves_until_it_asks_the_next_one() {
    let timeout = u64::from(ProtocolSettings::default().election_timeout_ticks);
    let mut cluster = led_by_one_that_finds_its_priority_to_be_0([1, 2]);
    cluster.restart_without(NodeId(4), Slot(1), Slot(10_000));
    cluster.sent.clear();
    let asked = |cluster: &Cluster| -> Vec<u64> {
        let asked = cluster.sent.iter().filter(|(_, _, body)| matches!(body, Body::TakeOver(_)));
        asked.map(|(_, to, _)| to.0).collect()
    };
    cluster.run_until("it asks", 10, |cluster| !asked(cluster).is_empty());
    cluster.run(timeout / 2 + 2);
    assert_eq!((asked(&cluster), cluster.leader()), (vec![4], Some(NodeId(2))), "node 4 repairs its log");
    cluster.propose(NodeId(5), "b");
    cluster.run(timeout / 2);
    assert!(cluster.all_applied("b"), "it leads on for a while");
    cluster.run_until("it asks again", timeout, |cluster| asked(cluster).len() > 1);
    cluster.settle();
    assert_eq!((asked(&cluster), cluster.leader()), (vec![4, 1], Some(NodeId(1))));
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
