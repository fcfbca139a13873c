//! Short runs without random faults; each test name is a sentence about the protocol.

use super::cluster::{Cluster, Faults};
use crate::message::{Accept, Consent, Prepare, Probe, Promise, Reject};
use crate::{
    AnnounceChosen, Ballot, Body, Epoch, Input, Message, NodeId, PhaseOne, ProtocolSettings, ReadMode,
    Refusal, Role, Slot,
};

pub(super) fn led_cluster(size: u64, settings: ProtocolSettings) -> (Cluster, NodeId) {
    let mut cluster = Cluster::new(size, 1, settings);
    cluster.run_until("somebody leads and all know", 1000, |cluster| {
        let leader = cluster.leader();
        leader.is_some()
            && cluster
                .nodes
                .values()
                .all(|node| node.replica.as_ref().and_then(crate::Replica::leader) == leader)
    });
    let leader = cluster.leader().expect("run_until has seen one");
    (cluster, leader)
}

pub(super) fn followers(cluster: &Cluster, leader: NodeId) -> Vec<NodeId> {
    cluster.ids().into_iter().filter(|id| *id != leader).collect()
}

fn count(cluster: &Cluster, kind: fn(&Body) -> bool) -> usize {
    cluster.sent.iter().filter(|(_, _, body)| kind(body)).count()
}

fn lease() -> ProtocolSettings {
    ProtocolSettings {
        reads: ReadMode::Lease { lease_ticks: 40, drift_ticks: 4 },
        ..ProtocolSettings::default()
    }
}

#[test]
fn a_stable_leader_needs_one_round_trip_and_one_sync_on_each_node() {
    let (mut cluster, leader) = led_cluster(3, ProtocolSettings::default());
    cluster.sent.clear();
    cluster.syncs = 0;
    cluster.propose(leader, "a");
    cluster.settle();
    assert_eq!(count(&cluster, |body| matches!(body, Body::Accept(_))), 2);
    assert_eq!(count(&cluster, |body| matches!(body, Body::Accepted(_))), 2);
    assert_eq!((cluster.sent.len(), cluster.syncs), (4, 3), "nothing else is sent or synced");
    assert_eq!(cluster.node(leader).applied, Slot(1));
}

#[test]
fn a_leader_that_tells_at_once_has_its_peers_apply_without_another_command() {
    for (announce_chosen, applied) in
        [(AnnounceChosen::Piggybacked, Slot(0)), (AnnounceChosen::AtOnce, Slot(1))]
    {
        let (mut cluster, leader) =
            led_cluster(3, ProtocolSettings { announce_chosen, ..ProtocolSettings::default() });
        cluster.propose(leader, "a");
        cluster.settle();
        for follower in followers(&cluster, leader) {
            assert_eq!(cluster.node(follower).applied, applied, "{announce_chosen:?}");
        }
    }
}

#[test]
fn who_prepares_is_a_candidate_unless_it_leads_already() {
    let mut cluster = Cluster::new(3, 1, ProtocolSettings::default());
    for id in cluster.ids() {
        cluster.node(id).is_disk_stuck = true;
    }
    let is_candidate = |cluster: &Cluster| {
        cluster
            .nodes
            .values()
            .any(|node| node.replica.as_ref().map(crate::Replica::role) == Some(Role::Candidate))
    };
    cluster.run_until("somebody waits for promises", 1000, is_candidate);
    assert_eq!(cluster.leader(), None);

    let (mut cluster, leader) =
        led_cluster(3, ProtocolSettings { phase_one: PhaseOne::EveryValue, ..ProtocolSettings::default() });
    cluster.propose(leader, "a");
    cluster.settle();
    cluster.propose(leader, "b");
    assert_eq!(cluster.replica(leader).role(), Role::Leader, "a full round is no election");
    assert!(!cluster.all_applied("b"));
}

#[test]
fn full_rounds_run_phase_one_before_every_value() {
    let (mut cluster, leader) =
        led_cluster(3, ProtocolSettings { phase_one: PhaseOne::EveryValue, ..ProtocolSettings::default() });
    cluster.propose(leader, "a");
    cluster.settle();
    cluster.sent.clear();
    cluster.syncs = 0;
    cluster.propose(leader, "b");
    cluster.settle();
    assert_eq!(count(&cluster, |body| matches!(body, Body::Prepare(_))), 2);
    assert_eq!(count(&cluster, |body| matches!(body, Body::Promise(_))), 2);
    assert_eq!(count(&cluster, |body| matches!(body, Body::Accept(_))), 2);
    assert_eq!(count(&cluster, |body| matches!(body, Body::Accepted(_))), 2);
    assert_eq!((cluster.sent.len(), cluster.syncs), (8, 6));
    cluster.run(10);
    assert!(cluster.all_applied("a") && cluster.all_applied("b"));
}

#[test]
fn a_lone_lost_accept_is_sent_again_without_a_later_proposal() {
    let (mut cluster, leader) = led_cluster(3, ProtocolSettings::default());
    cluster.faults = Faults { lost: 100, ..Faults::default() };
    cluster.propose(leader, "a");
    cluster.settle();
    cluster.faults = Faults::default();
    cluster.run_until("the command is applied everywhere", 100, |cluster| cluster.all_applied("a"));
}

#[test]
fn a_hole_is_filled_with_a_no_op_at_takeover() {
    let (mut cluster, leader) =
        led_cluster(3, ProtocolSettings { eager_commands: 9, ..ProtocolSettings::default() });
    let others = followers(&cluster, leader);
    // The accept of the first slot reaches no node, that of the second reaches one follower.
    cluster.faults.lost = 100;
    cluster.propose(leader, "lost");
    cluster.settle();
    cluster.faults.lost = 0;
    cluster.cut_both_ways(leader, others[0]);
    cluster.propose(leader, "kept");
    cluster.node(leader).is_disk_stuck = true;
    cluster.settle();
    cluster.crash(leader);
    cluster.cut.clear();
    cluster.run_until("the next leader finds the second slot", 1000, |cluster| cluster.all_applied("kept"));
    let first = cluster.applied.get(&Slot(1)).cloned().expect("slots are applied in order");
    assert!(first.is_no_op(), "nobody who lives has accepted anything in slot 1");
}

#[test]
fn nothing_is_claimed_before_it_is_durable() {
    let (mut cluster, leader) = led_cluster(3, ProtocolSettings::default());
    for id in cluster.ids() {
        cluster.node(id).is_disk_stuck = true;
    }
    cluster.sent.clear();
    cluster.propose(leader, "a");
    cluster.settle();
    assert_eq!(count(&cluster, |body| matches!(body, Body::Accept(_))), 2, "accepts do not wait");
    assert_eq!(count(&cluster, |body| matches!(body, Body::Accepted(_))), 0);
    assert_eq!(cluster.node(leader).applied, Slot::ZERO);
    let one = followers(&cluster, leader)[0];
    cluster.node(one).is_disk_stuck = false;
    cluster.settle();
    assert_eq!(cluster.node(leader).applied, Slot::ZERO, "one acceptance is no quorum");
    cluster.node(leader).is_disk_stuck = false;
    cluster.settle();
    assert_eq!(cluster.node(leader).applied, Slot(1));
}

#[test]
fn a_follower_that_alone_has_lost_the_leader_does_not_depose_it() {
    let (mut cluster, leader) = led_cluster(3, ProtocolSettings::default());
    let others = followers(&cluster, leader);
    let ballot = cluster.replica(leader).promised();
    cluster.cut_both_ways(leader, others[0]);
    cluster.run(1000);
    assert_eq!(cluster.leader(), Some(leader));
    for id in cluster.ids() {
        assert_eq!(cluster.replica(id).promised(), ballot, "no ballot was used");
    }
}

#[test]
fn a_leader_that_hears_nobody_steps_down_although_it_is_heard() {
    let (mut cluster, leader) = led_cluster(3, ProtocolSettings::default());
    for other in followers(&cluster, leader) {
        cluster.cut.push((other, leader));
    }
    cluster.run_until("another one leads", 2000, |cluster| cluster.leader().is_some_and(|id| id != leader));
    let next = cluster.leader().expect("seen just now");
    cluster.propose(next, "a");
    cluster.run_until("the others go on", 100, |cluster| cluster.applied.len() == 1);
}

#[test]
fn only_the_hub_can_lead_when_all_other_links_are_cut() {
    let (mut cluster, leader) = led_cluster(5, ProtocolSettings::default());
    let others = followers(&cluster, leader);
    let hub = others[0];
    for one in cluster.ids() {
        for other in cluster.ids() {
            if one < other && one != hub && other != hub {
                cluster.cut_both_ways(one, other);
            }
        }
    }
    cluster.run_until("the hub leads", 3000, |cluster| cluster.leader() == Some(hub));
    cluster.propose(hub, "a");
    cluster.run_until("all go on through the hub", 200, |cluster| cluster.all_applied("a"));
}

#[test]
fn a_deposed_leader_answers_no_read() {
    for settings in [ProtocolSettings::default(), lease()] {
        let (mut cluster, leader) = led_cluster(3, settings);
        for other in followers(&cluster, leader) {
            cluster.cut_both_ways(leader, other);
        }
        cluster.run(40); // any lease is over, but the old leader has not yet noticed
        cluster.read(leader);
        cluster.run(2000);
        assert_eq!(cluster.node(leader).reads_done, 0);
        let next = cluster.leader().expect("the other two have a quorum");
        assert_ne!(next, leader);
        cluster.read(next);
        cluster.run(50);
        assert_eq!(cluster.node(next).reads_done, 1);
    }
}

#[test]
fn reads_that_wait_share_one_round_of_heartbeats() {
    let (mut cluster, leader) = led_cluster(3, ProtocolSettings::default());
    cluster.sent.clear();
    for _ in 0..100 {
        cluster.read(leader);
    }
    cluster.settle();
    assert_eq!(cluster.node(leader).reads_done, 100);
    let rounds = count(&cluster, |body| matches!(body, Body::Heartbeat(_))) / 2;
    assert_eq!(rounds, 2, "one for the first read, one for all that came meanwhile");
}

#[test]
fn a_lease_read_sends_nothing() {
    let (mut cluster, leader) = led_cluster(3, lease());
    cluster.run(10);
    cluster.sent.clear();
    cluster.read(leader);
    assert_eq!((cluster.node(leader).reads_done, cluster.sent.len()), (1, 0));
}

#[test]
fn a_follower_waits_out_a_lease_even_after_a_restart() {
    let (mut cluster, leader) = led_cluster(3, lease());
    let others = followers(&cluster, leader);
    let (restarted, rival) = (others[0], others[1]);
    cluster.crash(restarted);
    cluster.start(restarted);
    let promises_to_rival = |cluster: &mut Cluster| {
        let ballot = Ballot { round: 99, node: rival };
        let body = Body::Prepare(Prepare { ballot, first: Slot(1), handed_over: None });
        let message = Message { epoch: Epoch(0), body };
        cluster.sent.clear();
        cluster.step(restarted, Input::Receive { from: rival, message });
        cluster.settle();
        count(cluster, |body| matches!(body, Body::Promise(_))) > 0
    };
    for other in cluster.ids() {
        cluster.cut.push((other, restarted));
    }
    for _ in 0..40 {
        assert!(!promises_to_rival(&mut cluster), "the lease may still hold");
        cluster.tick();
    }
    cluster.tick();
    assert!(promises_to_rival(&mut cluster), "the lease is over");
}

#[test]
fn a_follower_forwards_commands_and_hears_at_once_that_they_are_chosen() {
    let (mut cluster, leader) = led_cluster(3, ProtocolSettings::default());
    let follower = followers(&cluster, leader)[0];
    cluster.propose(follower, "a");
    cluster.settle();
    assert_eq!(cluster.node(follower).applied, Slot(1), "no heartbeat had to pass");
    cluster.read(follower);
    cluster.settle();
    assert_eq!(cluster.node(follower).reads_done, 1);
}

#[test]
fn a_node_that_was_away_past_the_trimmed_log_comes_back_by_snapshot() {
    let settings = ProtocolSettings { retained_bytes: 0, chunk_bytes: 300, ..ProtocolSettings::default() };
    let (mut cluster, leader) = led_cluster(3, settings);
    let away = followers(&cluster, leader)[0];
    cluster.crash(away);
    for number in 0..50 {
        cluster.propose(leader, &format!("command {number}"));
        cluster.tick();
    }
    for id in followers(&cluster, away) {
        cluster.save_snapshot(id);
    }
    cluster.propose(leader, "after the snapshot");
    cluster.run(10);
    cluster.start(away);
    cluster.run_until("it has caught up", 500, |cluster| cluster.all_applied("after the snapshot"));
    assert!(cluster.node(away).disk_snapshot_slot() >= Slot(50));
}

#[test]
fn a_candidate_that_lags_behind_every_snapshot_fetches_one_before_it_leads() {
    let settings = ProtocolSettings { retained_bytes: 0, ..ProtocolSettings::default() };
    let (mut cluster, leader) = led_cluster(3, settings);
    let others = followers(&cluster, leader);
    cluster.crash(others[0]);
    for number in 0..20 {
        cluster.propose(leader, &format!("command {number}"));
        cluster.tick();
    }
    cluster.save_snapshot(others[1]);
    cluster.save_snapshot(leader);
    cluster.crash(leader);
    cluster.start(others[0]);
    cluster.run_until("one of the two leads", 4000, |cluster| cluster.leader().is_some());
    let next = cluster.leader().expect("seen just now");
    cluster.propose(next, "later");
    cluster.run_until("both have everything", 500, |cluster| cluster.all_applied("later"));
}

#[test]
fn what_does_not_fit_is_refused_and_not_queued() {
    let settings = ProtocolSettings {
        queue_bytes: 4000,
        command_bytes: 2000,
        window_slots: 1,
        ..ProtocolSettings::default()
    };
    let (mut cluster, leader) = led_cluster(3, settings);
    cluster.faults.lost = 100;
    let big = "x".repeat(1500);
    let mut refused = Vec::new();
    for commands in [vec![big.clone(); 6], vec!["x".repeat(2001)]] {
        let commands = commands.into_iter().map(bytes::Bytes::from).collect();
        let mut outputs = Vec::new();
        cluster.replica(leader).step(Input::Propose { commands }, &mut outputs);
        refused.extend(outputs.into_iter().filter_map(|output| match output {
            crate::Output::Refused { commands, reason } => Some((commands.len(), reason)),
            _ => None,
        }));
    }
    assert_eq!(refused, [(4, Refusal::Overloaded), (1, Refusal::TooLong { limit_bytes: 2000 })]);
}

/// The answer of `node` to a message from `from`; no other message is delivered.
pub(super) fn answers(cluster: &mut Cluster, node: NodeId, from: NodeId, body: Body) -> Vec<Body> {
    cluster.sent.clear();
    cluster.step(node, Input::Receive { from, message: Message { epoch: Epoch(0), body } });
    cluster
        .sent
        .drain(..)
        .filter(|(sender, to, _)| (*sender, *to) == (node, from))
        .map(|(_, _, body)| body)
        .collect()
}

#[test]
fn nothing_below_a_promise_is_accepted() {
    let mut cluster = Cluster::new(3, 1, ProtocolSettings::default());
    let (one, two, three) = (NodeId(1), NodeId(2), NodeId(3));
    let (low, high) = (Ballot { round: 1, node: two }, Ballot { round: 2, node: three });
    answers(
        &mut cluster,
        one,
        three,
        Body::Prepare(Prepare { ballot: high, first: Slot(1), handed_over: None }),
    );
    let value = crate::Value::no_op();
    let accept = Body::Accept(Accept { ballot: low, slot: Slot(1), value, chosen: Slot::ZERO });
    let rejected = answers(&mut cluster, one, two, accept);
    assert_eq!(rejected, [Body::Reject(Reject { ballot: low, promised: high })]);
    let rejected = answers(
        &mut cluster,
        one,
        two,
        Body::Prepare(Prepare { ballot: low, first: Slot(1), handed_over: None }),
    );
    assert_eq!(rejected, [Body::Reject(Reject { ballot: low, promised: high })]);
}

#[test]
fn a_promise_waits_for_the_disk() {
    let mut cluster = Cluster::new(3, 1, ProtocolSettings::default());
    let (one, two) = (NodeId(1), NodeId(2));
    cluster.node(one).is_disk_stuck = true;
    let prepare =
        Body::Prepare(Prepare { ballot: Ballot { round: 1, node: two }, first: Slot(1), handed_over: None });
    assert_eq!(answers(&mut cluster, one, two, prepare), []);
    cluster.settle();
    assert_eq!(cluster.sent.len(), 0);
    cluster.node(one).is_disk_stuck = false;
    cluster.settle();
    assert!(matches!(cluster.sent[..], [(_, _, Body::Promise(_))]));
}

#[test]
fn repeated_questions_are_answered_once_when_a_stuck_disk_comes_back() {
    let mut cluster = Cluster::new(3, 1, ProtocolSettings::default());
    let (one, two) = (NodeId(1), NodeId(2));
    cluster.node(one).is_disk_stuck = true;
    let ballot = Ballot { round: 1, node: two };
    let value = crate::Value::no_op();
    for _ in 0..50 {
        answers(&mut cluster, one, two, Body::Prepare(Prepare { ballot, first: Slot(1), handed_over: None }));
        let accept = Body::Accept(Accept { ballot, slot: Slot(1), value: value.clone(), chosen: Slot::ZERO });
        answers(&mut cluster, one, two, accept);
    }
    cluster.node(one).is_disk_stuck = false;
    cluster.sent.clear();
    cluster.settle();
    let to_two: Vec<&Body> = cluster
        .sent
        .iter()
        .filter(|(from, to, _)| (*from, *to) == (one, two))
        .map(|(_, _, body)| body)
        .collect();
    assert!(
        matches!(to_two[..], [Body::Promise(Promise { ballot: promised, .. }), Body::Accepted(_)] if *promised == ballot),
        "{to_two:?}"
    );
}

#[test]
fn of_the_reported_values_that_with_the_highest_ballot_is_proposed() {
    let mut cluster = Cluster::new(5, 1, ProtocolSettings::default());
    let one = NodeId(1);
    cluster.faults = Faults { lost: 100, ..Faults::default() };
    let ballot = loop {
        cluster.tick();
        let probe = cluster.sent.iter().find_map(|(from, _, body)| match body {
            Body::Probe(Probe { ballot }) if *from == one => Some(*ballot),
            _ => None,
        });
        if let Some(ballot) = probe {
            break ballot;
        }
    };
    for peer in [2, 3] {
        answers(
            &mut cluster,
            one,
            NodeId(peer),
            Body::Consent(Consent { ballot, promised: Ballot { round: 9, node: NodeId(4) } }),
        );
    }
    cluster.settle();
    let ballot = cluster.replica(one).promised();
    assert_eq!(ballot, Ballot { round: 10, node: one }, "the ballot goes above all that was heard of");
    let report = |round, text: &'static str| {
        let value = crate::Value::batch(&[bytes::Bytes::from_static(text.as_bytes())]);
        let accepted = crate::Entry::Accepted { ballot: Ballot { round, node: NodeId(4) }, value };
        Body::Promise(Promise {
            ballot,
            first: Slot(1),
            reports: vec![(Slot(1), accepted)],
            rest: None,
            time: None,
        })
    };
    answers(&mut cluster, one, NodeId(2), report(7, "newer"));
    cluster.sent.clear();
    cluster.step(
        one,
        Input::Receive { from: NodeId(3), message: Message { epoch: Epoch(0), body: report(5, "older") } },
    );
    let proposed = cluster.sent.iter().find_map(|(_, _, body)| match body {
        Body::Accept(Accept { value, .. }) => value.commands().next(),
        _ => None,
    });
    assert_eq!(proposed.as_deref(), Some(&b"newer"[..]));
}
