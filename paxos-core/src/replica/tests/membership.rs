//! Changes of the membership in a cluster: what is refused, and what follows from one that is made.

use super::cluster::{Cluster, Outcome};
use super::scripts::{followers, led_cluster};
use crate::{
    Body, Change, ChangeError, ChangeRefusal, ChangeRequest, Epoch, Input, NodeId, ProtocolSettings,
    RequestId, Role, Slot, Standing, ValueKind,
};

pub(super) fn add(node: NodeId) -> Change {
    Change::AddLearner { node, address: format!("host-{node}") }
}

/// Asks a node for a change; returns the name of the request.
pub(super) fn ask(cluster: &mut Cluster, node: NodeId, change: Change, is_forced: bool) -> RequestId {
    let request = cluster.next_request();
    cluster.step(node, Input::Change(ChangeRequest { request, change, if_epoch: None, is_forced }));
    request
}

/// Has a change made, and waits until it is in force.
pub(super) fn make(cluster: &mut Cluster, leader: NodeId, change: Change) -> Epoch {
    let request = ask(cluster, leader, change, false);
    cluster.run_until("the change ends", 100, |cluster| cluster.outcomes.contains_key(&request));
    match &cluster.outcomes[&request] {
        Outcome::InForce(epoch) => *epoch,
        other => panic!("the change is not made: {other:?}"),
    }
}

/// Why a change is refused at once.
fn refusal(cluster: &mut Cluster, node: NodeId, change: Change, is_forced: bool) -> ChangeRefusal {
    let request = ask(cluster, node, change, is_forced);
    match cluster.outcomes.get(&request) {
        Some(Outcome::Refused(refusal)) => refusal.clone(),
        other => panic!("the change is not refused: {other:?}"),
    }
}

/// Adds a learner that runs, and waits until it knows that it is one.
fn add_running(cluster: &mut Cluster, leader: NodeId, id: NodeId) {
    make(cluster, leader, add(id));
    cluster.join(id);
    cluster.run_until("it learns", 100, |cluster| standing(cluster, id) == Standing::Learner);
}

fn standing(cluster: &Cluster, id: NodeId) -> Standing {
    cluster.nodes[&id].replica.as_ref().expect("it runs").standing()
}

fn epoch(cluster: &mut Cluster, id: NodeId) -> Epoch {
    cluster.replica(id).membership().epoch()
}

/// The slots in which memberships are chosen, with their epochs.
fn memberships(cluster: &Cluster) -> Vec<(u64, u64)> {
    let membership =
        |(slot, value): (&Slot, &crate::Value)| value.as_membership().map(|it| (slot.0, it.epoch().0));
    cluster.applied.iter().filter_map(membership).collect()
}

#[test]
fn a_change_is_in_force_after_one_round_trip_and_everybody_hears_of_it() {
    let (mut cluster, leader) = led_cluster(3, ProtocolSettings::default());
    cluster.propose(leader, "a");
    cluster.settle();
    let request = ask(&mut cluster, leader, add(NodeId(4)), false);
    cluster.settle();
    assert_eq!(cluster.outcomes.get(&request), Some(&Outcome::InForce(Epoch(1))));
    assert_eq!(cluster.leader(), Some(leader), "under the same ballot");
    cluster.join(NodeId(4));
    assert_eq!(standing(&cluster, NodeId(4)), Standing::Outsider);
    cluster.propose(leader, "b");
    cluster.run_until("the learner learns", 100, |cluster| cluster.all_applied("b"));
    assert_eq!(standing(&cluster, NodeId(4)), Standing::Learner);
    for id in cluster.ids() {
        assert_eq!(epoch(&mut cluster, id), Epoch(1));
    }
    assert_eq!(memberships(&cluster), [(2, 1)]);
}

#[test]
fn a_change_is_made_only_in_the_epoch_that_it_expects() {
    let (mut cluster, leader) = led_cluster(3, ProtocolSettings::default());
    for (expected, outcome) in [
        (1, Outcome::Refused(ChangeRefusal::OtherEpoch { epoch: Epoch(0) })),
        (0, Outcome::InForce(Epoch(1))),
        (0, Outcome::Refused(ChangeRefusal::OtherEpoch { epoch: Epoch(1) })),
    ] {
        let request = cluster.next_request();
        let change = add(NodeId(4));
        let if_epoch = Some(Epoch(expected));
        cluster.step(leader, Input::Change(ChangeRequest { request, change, if_epoch, is_forced: false }));
        cluster.settle();
        assert_eq!(cluster.outcomes.get(&request), Some(&outcome));
    }
}

#[test]
fn a_second_change_is_refused_with_what_is_under_way() {
    let (mut cluster, leader) = led_cluster(3, ProtocolSettings::default());
    let first = ask(&mut cluster, leader, add(NodeId(4)), false);
    for is_forced in [false, true] {
        let refused = refusal(&mut cluster, leader, add(NodeId(5)), is_forced);
        assert_eq!(refused, ChangeRefusal::UnderWay { change: add(NodeId(4)) });
    }
    cluster.settle();
    assert_eq!(cluster.outcomes.get(&first), Some(&Outcome::InForce(Epoch(1))));
    assert_eq!(make(&mut cluster, leader, add(NodeId(5))), Epoch(2));
}

#[test]
fn only_the_leader_changes_the_membership() {
    let (mut cluster, leader) = led_cluster(3, ProtocolSettings::default());
    for follower in followers(&cluster, leader) {
        let refused = refusal(&mut cluster, follower, add(NodeId(4)), false);
        assert_eq!(refused, ChangeRefusal::NotLeader { leader: Some(leader) });
    }
    let mut cluster = Cluster::new(3, 1, ProtocolSettings::default());
    let refused = refusal(&mut cluster, NodeId(1), add(NodeId(4)), false);
    assert_eq!(refused, ChangeRefusal::NotLeader { leader: None });
}

#[test]
fn a_leader_that_steps_down_does_not_know_whether_its_change_is_made() {
    let (mut cluster, leader) = led_cluster(3, ProtocolSettings::default());
    cluster.propose(leader, "a");
    cluster.settle();
    let others = followers(&cluster, leader);
    for other in others {
        cluster.cut_both_ways(leader, other);
    }
    let request = ask(&mut cluster, leader, add(NodeId(4)), false);
    cluster.run(100);
    assert_eq!(cluster.outcomes.get(&request), Some(&Outcome::Refused(ChangeRefusal::Lost)));
}

#[test]
fn a_new_leader_has_a_no_op_chosen_before_it_changes_the_membership() {
    let (mut cluster, leader) = led_cluster(3, ProtocolSettings::default());
    cluster.sent.clear();
    ask(&mut cluster, leader, add(NodeId(4)), false);
    let slots = |cluster: &Cluster| {
        let accepts = cluster.sent.iter().filter_map(|(_, _, body)| match body {
            Body::Accept(accept) => Some((accept.slot.0, accept.value.kind(), accept.value.is_no_op())),
            _ => None,
        });
        let mut accepts: Vec<_> = accepts.collect();
        accepts.dedup();
        accepts
    };
    assert_eq!(slots(&cluster), [(1, ValueKind::Commands, true)], "the membership waits");
    cluster.settle();
    assert_eq!(slots(&cluster)[1..], [(2, ValueKind::Membership, false)]);
    assert_eq!(memberships(&cluster), [(2, 1)]);
}

#[test]
fn commands_wait_behind_a_membership_and_are_chosen_in_the_next_epoch() {
    let (mut cluster, leader) = led_cluster(3, ProtocolSettings::default());
    cluster.propose(leader, "a");
    cluster.settle();
    for id in cluster.ids() {
        cluster.node(id).is_disk_stuck = true;
    }
    ask(&mut cluster, leader, add(NodeId(4)), false);
    cluster.sent.clear();
    cluster.propose(leader, "b");
    cluster.propose(followers(&cluster, leader)[0], "c");
    cluster.settle();
    let proposes = |(_, _, body): &(_, _, Body)| matches!(body, Body::Accept(_));
    assert!(!cluster.sent.iter().any(proposes), "nothing is proposed behind the membership");
    for id in cluster.ids() {
        cluster.node(id).is_disk_stuck = false;
    }
    cluster.run(20);
    assert!(cluster.all_applied("b") && cluster.all_applied("c"), "nothing was lost");
    assert_eq!(memberships(&cluster), [(2, 1)]);
}

#[test]
fn a_learner_counts_in_no_quorum_and_counts_once_it_is_promoted() {
    let (mut cluster, leader) = led_cluster(3, ProtocolSettings::default());
    add_running(&mut cluster, leader, NodeId(4));
    let others = followers(&cluster, leader);
    cluster.cut_both_ways(leader, others[0]);
    cluster.cut_both_ways(leader, others[1]);
    cluster.propose(leader, "a");
    cluster.settle();
    assert!(!cluster.all_applied("a"), "the leader and a learner are no quorum of three voters");
    cluster.cut.clear();
    cluster.run_until("it is chosen", 100, |cluster| cluster.all_applied("a"));
    make(&mut cluster, leader, Change::Promote { node: NodeId(4) });
    cluster.run(10);
    assert_eq!(standing(&cluster, NodeId(4)), Standing::Voter);
    cluster.cut_both_ways(leader, others[0]);
    cluster.propose(leader, "b");
    cluster.settle();
    assert_eq!(cluster.applied.len(), 5, "with the new voter three of four have accepted");
    cluster.cut_both_ways(leader, NodeId(4));
    cluster.propose(leader, "c");
    cluster.settle();
    assert_eq!(cluster.applied.len(), 5, "two of four are no quorum");
}

#[test]
fn a_learner_neither_votes_nor_leads() {
    let (mut cluster, leader) = led_cluster(3, ProtocolSettings::default());
    add_running(&mut cluster, leader, NodeId(4));
    let others = followers(&cluster, leader);
    cluster.crash(leader);
    cluster.crash(others[0]);
    cluster.sent.clear();
    cluster.run(1000);
    assert_eq!(cluster.leader(), None, "a voter and a learner can elect nobody");
    let speaks = |(from, _, body): &(NodeId, NodeId, Body)| {
        *from == NodeId(4) && matches!(body, Body::Probe(_) | Body::Consent(_) | Body::Promise(_))
    };
    assert!(!cluster.sent.iter().any(speaks));
}

#[test]
fn a_learner_that_lags_is_promoted_only_by_force() {
    let settings = ProtocolSettings::default().with(|settings| settings.window_slots = 4);
    let (mut cluster, leader) = led_cluster(3, settings);
    add_running(&mut cluster, leader, NodeId(4));
    cluster.run(20);
    cluster.crash(NodeId(4));
    for command in ["a", "b", "c", "d", "e"] {
        cluster.propose(leader, command);
        cluster.settle();
    }
    let promote = Change::Promote { node: NodeId(4) };
    let refused = refusal(&mut cluster, leader, promote.clone(), false);
    assert_eq!(refused, ChangeRefusal::LearnerLags { slots: 5, limit_slots: 4 });
    let forced = ask(&mut cluster, leader, promote, true);
    cluster.settle();
    assert_eq!(cluster.outcomes.get(&forced), Some(&Outcome::InForce(Epoch(2))));
}

#[test]
fn a_learner_that_was_never_heard_from_is_promoted_only_by_force() {
    let (mut cluster, leader) = led_cluster(3, ProtocolSettings::default());
    make(&mut cluster, leader, add(NodeId(4)));
    let promote = Change::Promote { node: NodeId(4) };
    let refused = refusal(&mut cluster, leader, promote.clone(), false);
    assert_eq!(refused, ChangeRefusal::NotHeard { node: NodeId(4) });
    let forced = ask(&mut cluster, leader, promote, true);
    cluster.settle();
    assert_eq!(cluster.outcomes.get(&forced), Some(&Outcome::InForce(Epoch(2))));
}

#[test]
fn how_far_a_learner_is_stays_known_in_the_next_epoch() {
    let settings = ProtocolSettings::default().with(|settings| settings.window_slots = 1);
    let (mut cluster, leader) = led_cluster(3, settings);
    add_running(&mut cluster, leader, NodeId(4));
    cluster.run(20);
    make(&mut cluster, leader, Change::Prioritize { node: NodeId(4), priority: 2 });
    let request = ask(&mut cluster, leader, Change::Promote { node: NodeId(4) }, false);
    cluster.settle();
    assert_eq!(cluster.outcomes.get(&request), Some(&Outcome::InForce(Epoch(3))));
}

#[test]
fn a_change_that_leaves_no_live_quorum_is_made_only_by_force() {
    let (mut cluster, leader) = led_cluster(3, ProtocolSettings::default());
    let [dead, live] = followers(&cluster, leader)[..] else { panic!("there are two others") };
    cluster.crash(dead);
    cluster.run(100);
    let no_quorum = ChangeRefusal::NoLiveQuorum { live: 1, needed: 2 };
    let remove = Change::Remove { node: live };
    assert_eq!(refusal(&mut cluster, leader, remove.clone(), false), no_quorum);
    make(&mut cluster, leader, Change::Prioritize { node: live, priority: 2 });
    assert_eq!(
        refusal(&mut cluster, leader, remove.clone(), false),
        no_quorum,
        "a new epoch makes nobody live"
    );
    let forced = ask(&mut cluster, leader, remove, true);
    cluster.settle();
    assert_eq!(cluster.outcomes.get(&forced), Some(&Outcome::InForce(Epoch(2))));
    cluster.propose(leader, "a");
    cluster.run(10);
    assert!(!cluster.all_applied("a"), "the dead node is needed now");
    cluster.crash(live);
    cluster.start(dead);
    cluster.run_until("it is back", 1000, |cluster| cluster.all_applied("a"));
}

#[test]
fn a_dead_node_is_replaced() {
    let (mut cluster, leader) = led_cluster(3, ProtocolSettings::default());
    let dead = followers(&cluster, leader)[0];
    cluster.crash(dead);
    cluster.run(100);
    add_running(&mut cluster, leader, NodeId(4));
    cluster.run(20);
    make(&mut cluster, leader, Change::Promote { node: NodeId(4) });
    assert_eq!(make(&mut cluster, leader, Change::Remove { node: dead }), Epoch(3));
    cluster.propose(leader, "a");
    cluster.run_until("the new ones are a quorum", 20, |cluster| cluster.all_applied("a"));
}

#[test]
fn a_leader_that_could_not_lead_any_more_hands_over_first() {
    let changes: [fn(NodeId) -> Change; 3] = [
        |node| Change::Remove { node },
        |node| Change::Demote { node },
        |node| Change::Prioritize { node, priority: 0 },
    ];
    for change in changes {
        let (mut cluster, leader) = led_cluster(3, ProtocolSettings::default());
        cluster.propose(leader, "a");
        cluster.run(10);
        let ChangeRefusal::LeaderHandsOver { to } = refusal(&mut cluster, leader, change(leader), false)
        else {
            panic!("it must hand over")
        };
        let again = refusal(&mut cluster, leader, change(leader), false);
        assert_eq!(again, ChangeRefusal::HandingOver { to });
        cluster.settle();
        assert_eq!(cluster.leader(), Some(to), "within no tick");
        assert_eq!(make(&mut cluster, to, change(leader)), Epoch(1));
        cluster.propose(to, "b");
        cluster.run(200);
        assert!(cluster.applied.values().any(|value| value.commands().any(|command| command == "b")));
        assert_eq!(cluster.leader(), Some(to));
    }
}

#[test]
fn the_last_voter_stays_and_so_does_a_leader_without_a_successor() {
    let (mut cluster, leader) = led_cluster(1, ProtocolSettings::default());
    for change in [Change::Remove { node: leader }, Change::Demote { node: leader }] {
        let refused = refusal(&mut cluster, leader, change, true);
        assert_eq!(refused, ChangeRefusal::Impossible(ChangeError::LastVoter));
    }
    let (mut cluster, leader) = led_cluster(3, ProtocolSettings::default());
    let [dead, never] = followers(&cluster, leader)[..] else { panic!("there are two others") };
    make(&mut cluster, leader, Change::Prioritize { node: never, priority: 0 });
    cluster.crash(dead);
    cluster.run(100);
    let refused = refusal(&mut cluster, leader, Change::Remove { node: leader }, true);
    assert_eq!(refused, ChangeRefusal::NobodyElseLeads);
}

#[test]
fn a_removed_id_is_refused_after_a_restart_and_after_a_snapshot() {
    for with_snapshots in [false, true] {
        let settings = ProtocolSettings::default().with(|settings| settings.retained_bytes = 0);
        let (mut cluster, leader) = led_cluster(3, settings);
        let removed = followers(&cluster, leader)[0];
        make(&mut cluster, leader, Change::Remove { node: removed });
        make(&mut cluster, leader, add(NodeId(4)));
        cluster.run(10);
        if with_snapshots {
            cluster.ids().into_iter().for_each(|id| cluster.save_snapshot(id));
        }
        cluster.join(NodeId(4));
        cluster.run(200);
        assert_eq!(cluster.node(NodeId(4)).disk_snapshot_slot() > Slot::ZERO, with_snapshots);
        for id in cluster.ids() {
            cluster.crash(id);
            cluster.start(id);
        }
        for id in [leader, NodeId(4)] {
            assert!(cluster.replica(id).membership().was_removed(removed), "{id} remembers");
        }
        cluster.run_until("somebody leads again", 1000, |cluster| cluster.leader().is_some());
        let leader = cluster.leader().expect("seen just now");
        let refused = refusal(&mut cluster, leader, add(removed), true);
        assert_eq!(refused, ChangeRefusal::Impossible(ChangeError::WasRemoved { node: removed }));
    }
}

#[test]
fn a_node_that_was_away_when_it_was_removed_learns_it_and_disturbs_nobody() {
    let (mut cluster, leader) = led_cluster(3, ProtocolSettings::default());
    let away = followers(&cluster, leader)[0];
    cluster.crash(away);
    cluster.run(100);
    make(&mut cluster, leader, Change::Remove { node: away });
    cluster.run(10);
    let promised = cluster.replica(leader).promised();
    cluster.start(away);
    cluster.run_until("it learns that it was removed", 200, |cluster| {
        standing(cluster, away) == Standing::Removed { may_end: true }
    });
    cluster.run(500);
    assert_eq!((cluster.leader(), cluster.replica(leader).promised()), (Some(leader), promised));
}

#[test]
fn a_removed_node_ends_only_when_a_quorum_knows_durably_that_it_was_removed() {
    let (mut cluster, leader) = led_cluster(3, ProtocolSettings::default());
    let [removed, other] = followers(&cluster, leader)[..] else { panic!("there are two others") };
    cluster.cut_both_ways(leader, other);
    let request = ask(&mut cluster, leader, Change::Remove { node: removed }, true);
    cluster.settle();
    assert_eq!(cluster.outcomes.get(&request), Some(&Outcome::InForce(Epoch(1))));
    assert_eq!(standing(&cluster, removed), Standing::Removed { may_end: false });
    // The two remaining nodes hear nothing from each other: the removed one is the only way to tell.
    cluster.node(other).is_disk_stuck = true;
    cluster.run(40);
    assert_eq!(epoch(&mut cluster, other), Epoch(1), "the removed node has told it");
    assert_eq!(standing(&cluster, removed), Standing::Removed { may_end: false });
    cluster.node(other).is_disk_stuck = false;
    cluster.run(40);
    assert_eq!(standing(&cluster, removed), Standing::Removed { may_end: true });
}

#[test]
fn the_last_to_know_the_newest_membership_tells_it_although_it_was_removed() {
    let (mut cluster, leader) = led_cluster(3, ProtocolSettings::default());
    let [removed, other] = followers(&cluster, leader)[..] else { panic!("there are two others") };
    cluster.cut_both_ways(leader, other);
    ask(&mut cluster, leader, Change::Remove { node: removed }, true);
    cluster.settle();
    assert_eq!((epoch(&mut cluster, leader), epoch(&mut cluster, removed)), (Epoch(1), Epoch(1)));
    cluster.crash(leader);
    cluster.run(200);
    assert_eq!(epoch(&mut cluster, other), Epoch(1));
    assert_eq!(standing(&cluster, removed), Standing::Removed { may_end: false });
    cluster.cut.clear();
    cluster.start(leader);
    cluster.run_until("the two elect a leader", 1000, |cluster| cluster.leader().is_some());
    cluster.run_until("it may end", 100, |cluster| {
        standing(cluster, removed) == Standing::Removed { may_end: true }
    });
}

#[test]
fn a_joiner_that_knows_no_present_member_is_told_by_the_leader() {
    let (mut cluster, leader) = led_cluster(1, ProtocolSettings::default());
    for id in [NodeId(2), NodeId(3)] {
        add_running(&mut cluster, leader, id);
        cluster.run(20);
        make(&mut cluster, leader, Change::Promote { node: id });
        cluster.run(20);
    }
    let refused = refusal(&mut cluster, leader, Change::Remove { node: leader }, false);
    let ChangeRefusal::LeaderHandsOver { to } = refused else { panic!("{refused:?}") };
    cluster.run(10);
    make(&mut cluster, to, Change::Remove { node: leader });
    cluster.run(100);
    cluster.crash(leader);
    make(&mut cluster, to, add(NodeId(4)));
    cluster.join(NodeId(4));
    // The first question is lost. Of the founders, which are all that the joiner knows, nobody is left.
    cluster.cut.push((NodeId(4), to));
    cluster.run(20);
    cluster.cut.clear();
    cluster.run_until("it is told", 200, |cluster| standing(cluster, NodeId(4)) == Standing::Learner);
}

#[test]
fn five_become_three_and_five_again() {
    let (mut cluster, leader) = led_cluster(5, ProtocolSettings::default());
    for removed in followers(&cluster, leader).into_iter().take(2) {
        make(&mut cluster, leader, Change::Remove { node: removed });
        cluster.run(100);
        assert_eq!(standing(&cluster, removed), Standing::Removed { may_end: true });
        cluster.crash(removed);
    }
    for id in [NodeId(6), NodeId(7)] {
        add_running(&mut cluster, leader, id);
        cluster.run(20);
        make(&mut cluster, leader, Change::Promote { node: id });
    }
    cluster.propose(leader, "a");
    cluster.run_until("all five know", 100, |cluster| cluster.all_applied("a"));
    assert_eq!(cluster.replica(leader).membership().voters().count(), 5);
    assert_eq!((epoch(&mut cluster, leader), cluster.replica(leader).role()), (Epoch(6), Role::Leader));
}
