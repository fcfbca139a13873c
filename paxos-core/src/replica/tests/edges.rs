//! Limits: the last value that is accepted and the first that is not. And the accessors of a replica.

use bytes::Bytes;

use super::cluster::Cluster;
use super::scripts::{answers, followers, led_cluster};
use crate::message::{Accept, Heartbeat, Prepare, Promise, Reject, Trimmed};
use crate::{
    Ballot, Body, Config, Entry, Epoch, HardState, Input, Membership, Message, NodeId, Output,
    ProtocolSettings, RecoverError, Recovered, Refusal, Replica, Role, Slot, SnapshotMeta, Time, Value,
};

fn step(replica: &mut Replica, input: Input) -> Vec<Output> {
    let mut outputs = Vec::new();
    replica.step(input, &mut outputs);
    outputs
}

/// Steps, and makes every write durable at once.
pub(super) fn step_durably(replica: &mut Replica, input: Input) -> Vec<Output> {
    let mut outputs = step(replica, input);
    let mut done = 0;
    while done < outputs.len() {
        if let Output::Persist(write) = &outputs[done] {
            let durable = write.clone().into_durable();
            outputs.extend(step(replica, Input::Durable(durable)));
        }
        done += 1;
    }
    outputs
}

fn alone(settings: ProtocolSettings, recovered: Recovered) -> Result<Replica, RecoverError> {
    let alone = Membership::new(&[NodeId(1)]).expect("the members are distinct");
    let config = Config::new(NodeId(1), alone, settings).expect("the settings fit together");
    Replica::new(config, recovered, 1)
}

#[test]
fn who_is_alone_leads_and_talks_to_nobody() {
    let mut replica =
        alone(ProtocolSettings::default(), Recovered::default()).expect("an empty disk is in order");
    let mut outputs = Vec::new();
    while replica.role() != Role::Leader {
        outputs.extend(step_durably(&mut replica, Input::Tick));
    }
    let commands = vec![Bytes::from_static(b"a")];
    outputs.extend(step_durably(&mut replica, Input::Propose { commands }));
    assert!(!outputs.iter().any(Output::is_message), "{outputs:?}");
    assert_eq!((replica.applied(), replica.chosen(), replica.known_chosen()), (Slot(1), Slot(1), Slot(1)));
    assert!(replica.log_bytes() > 64, "a slot and its value take some memory");
}

#[test]
fn a_role_is_shown_in_lower_case_and_messages_are_known_as_such() {
    assert_eq!(
        [Role::Follower, Role::Candidate, Role::Leader].map(|role| role.to_string()).join(" "),
        "follower candidate leader"
    );
    let message = Message { epoch: Epoch(0), body: Body::Trimmed(Trimmed { below: Slot(1) }) };
    assert!(Output::Broadcast { message: message.clone() }.is_message());
    assert!(Output::Send { to: NodeId(1), message }.is_message());
}

#[test]
fn the_longest_command_is_taken_and_a_longer_one_refused() {
    let (mut cluster, leader) =
        led_cluster(3, ProtocolSettings { command_bytes: 10, ..ProtocolSettings::default() });
    let refused = |replica: &mut Replica, length: usize| {
        let outputs = step(replica, Input::Propose { commands: vec![Bytes::from(vec![0; length])] });
        outputs.iter().any(|output| {
            matches!(output, Output::Refused { reason: Refusal::TooLong { limit_bytes: 10 }, .. })
        })
    };
    assert!(!refused(cluster.replica(leader), 10));
    assert!(refused(cluster.replica(leader), 11));
}

#[test]
fn an_entry_that_the_snapshot_covers_is_left_out() {
    let value = Value::batch(&[Bytes::from_static(b"a")]);
    let entries = [4, 5, 6].map(|slot| (Slot(slot), Entry::Chosen { value: value.clone() })).to_vec();
    let snapshot =
        Some(SnapshotMeta { slot: Slot(5), size_bytes: 0, checksum: 0, membership: Membership::of_three() });
    let hard_state = HardState { promised: Ballot { round: 1, node: NodeId(1) }, chosen: Slot(5) };
    let recovered = Recovered { hard_state, snapshot, entries, ..Recovered::default() };
    let replica = alone(ProtocolSettings::default(), recovered).expect("a log may reach below its snapshot");
    assert_eq!((replica.chosen(), replica.applied()), (Slot(6), Slot(5)));
}

#[test]
fn what_no_storage_can_have_kept_is_refused() {
    let value = Value::batch(&[Bytes::from_static(b"a")]);
    let accepted =
        |round| Entry::Accepted { ballot: Ballot { round, node: NodeId(1) }, value: value.clone() };
    let problem = |chosen, promised, entries| {
        let hard_state = HardState { promised: Ballot { round: promised, node: NodeId(1) }, chosen };
        let recovered = Recovered { hard_state, entries, ..Recovered::default() };
        alone(ProtocolSettings::default(), recovered).err()
    };
    let two = |one, other| vec![(Slot(one), accepted(1)), (Slot(other), accepted(1))];
    assert_eq!(problem(Slot(0), 1, two(1, 2)), None);
    assert_eq!(problem(Slot(0), 1, two(2, 1)), Some(RecoverError::OutOfOrder { slot: Slot(1) }));
    assert_eq!(problem(Slot(0), 1, two(2, 2)), Some(RecoverError::OutOfOrder { slot: Slot(2) }));
    let above = vec![(Slot(1), accepted(2))];
    assert_eq!(problem(Slot(0), 1, above), Some(RecoverError::AcceptedAbovePromise { slot: Slot(1) }));
    assert_eq!(problem(Slot(3), 1, two(1, 3)), Some(RecoverError::MissingChosen { slot: Slot(2) }));
    let recovered = Recovered { incomplete_through: Slot(2), ..Recovered::default() };
    let lonely = RecoverError::NobodyToRepairFrom { through: Slot(2) };
    assert_eq!(alone(ProtocolSettings::default(), recovered).err(), Some(lonely));
}

#[test]
fn only_members_of_the_same_epoch_are_heard() {
    let mut cluster = Cluster::new(3, 1, ProtocolSettings::default());
    let prepare = |node| {
        Body::Prepare(Prepare { ballot: Ballot { round: 9, node }, first: Slot(1), handed_over: None })
    };
    for (from, epoch) in [(NodeId(4), Epoch(0)), (NodeId(1), Epoch(0)), (NodeId(2), Epoch(1))] {
        let message = Message { epoch, body: prepare(from) };
        cluster.step(NodeId(1), Input::Receive { from, message });
        assert_eq!(cluster.replica(NodeId(1)).promised(), Ballot::ZERO, "from {from} in epoch {epoch}");
    }
    answers(&mut cluster, NodeId(1), NodeId(2), prepare(NodeId(2)));
    assert_eq!(cluster.replica(NodeId(1)).promised(), Ballot { round: 9, node: NodeId(2) });
}

#[test]
fn a_follower_that_lags_knows_how_far_the_others_are() {
    let (mut cluster, leader) = led_cluster(3, ProtocolSettings::default());
    let [away, _] = followers(&cluster, leader)[..] else { panic!("two of three follow") };
    cluster.cut_both_ways(leader, away);
    for command in ["a", "b", "c"] {
        cluster.propose(leader, command);
        cluster.settle();
    }
    cluster.cut.clear();
    // Before what it asks for has come.
    let ballot = cluster.replica(leader).promised();
    let heartbeat = Body::Heartbeat(Heartbeat {
        ballot,
        chosen: Slot(3),
        round: crate::HeartbeatRound(100),
        time: Time::NONE,
    });
    answers(&mut cluster, away, leader, heartbeat);
    let replica = cluster.replica(away);
    assert_eq!((replica.known_chosen(), replica.chosen()), (Slot(3), Slot(0)));
    cluster.run(20);
    assert_eq!(cluster.replica(away).chosen(), Slot(3));
}

#[test]
fn the_same_prepare_again_is_answered_again() {
    let mut cluster = Cluster::new(3, 1, ProtocolSettings::default());
    let prepare = Body::Prepare(Prepare {
        ballot: Ballot { round: 9, node: NodeId(2) },
        first: Slot(1),
        handed_over: None,
    });
    assert_eq!(answers(&mut cluster, NodeId(1), NodeId(2), prepare.clone()), [], "the disk comes first");
    cluster.settle();
    let again = answers(&mut cluster, NodeId(1), NodeId(2), prepare);
    assert!(matches!(again[..], [Body::Promise(_)]), "{again:?}");
}

#[test]
fn a_promise_to_another_ends_a_following() {
    let (mut cluster, leader) = led_cluster(3, ProtocolSettings::default());
    let [follower, rival] = followers(&cluster, leader)[..] else { panic!("two of three follow") };
    assert_eq!(cluster.replica(follower).leader(), Some(leader));
    let ballot = Ballot { round: 99, node: rival };
    answers(
        &mut cluster,
        follower,
        rival,
        Body::Prepare(Prepare { ballot, first: Slot(1), handed_over: None }),
    );
    assert_ne!(cluster.replica(follower).leader(), Some(leader));
}

#[test]
fn accepting_above_the_promise_raises_it() {
    let mut cluster = Cluster::new(3, 1, ProtocolSettings::default());
    let (low, high) = (Ballot { round: 2, node: NodeId(2) }, Ballot { round: 9, node: NodeId(3) });
    for ballot in [low, high] {
        let accept =
            Body::Accept(Accept { ballot, slot: Slot(1), value: Value::no_op(), chosen: Slot::ZERO });
        answers(&mut cluster, NodeId(1), ballot.node, accept);
        cluster.settle();
        assert_eq!(cluster.replica(NodeId(1)).promised(), ballot);
    }
    let accept =
        Body::Accept(Accept { ballot: low, slot: Slot(2), value: Value::no_op(), chosen: Slot::ZERO });
    let rejected = answers(&mut cluster, NodeId(1), low.node, accept);
    assert_eq!(rejected, [Body::Reject(Reject { ballot: low, promised: high })]);
}

#[test]
fn a_promise_with_much_to_report_comes_in_parts() {
    let value = Value::batch(&[Bytes::from(vec![0; 100])]);
    let ballot = Ballot { round: 1, node: NodeId(3) };
    let entries =
        [1, 2, 3].map(|slot| (Slot(slot), Entry::Accepted { ballot, value: value.clone() })).to_vec();
    let each = value.size_bytes() + size_of::<(Slot, Entry)>();
    let part = |chunk_bytes: usize, first: u64| {
        let hard_state = HardState { promised: ballot, chosen: Slot(0) };
        let recovered = Recovered { hard_state, entries: entries.clone(), ..Recovered::default() };
        let members = [1, 2, 3].map(NodeId);
        let config = Config::new(
            NodeId(1),
            Membership::new(&members).expect("they are distinct"),
            ProtocolSettings { chunk_bytes, ..ProtocolSettings::default() },
        );
        let mut replica = Replica::new(config.expect("the settings fit together"), recovered, 1)
            .expect("this is what an acceptor leaves");
        let prepare = Body::Prepare(Prepare {
            ballot: Ballot { round: 9, node: NodeId(2) },
            first: Slot(first),
            handed_over: None,
        });
        let message = Message { epoch: Epoch(0), body: prepare };
        let outputs = step_durably(&mut replica, Input::Receive { from: NodeId(2), message });
        let promise = outputs.into_iter().find_map(|output| match output {
            Output::Send {
                message: Message { body: Body::Promise(Promise { reports, rest, .. }), .. },
                ..
            } => Some((reports.into_iter().map(|(slot, _)| slot.0).collect::<Vec<_>>(), rest)),
            _ => None,
        });
        promise.expect("nothing stands against a promise")
    };
    // What does not fit begins the next part; one entry always fits.
    assert_eq!(part(0, 1), (vec![1], Some(Slot(2))));
    assert_eq!(part(each - 1, 1), (vec![1], Some(Slot(2))));
    assert_eq!(part(each, 1), (vec![1, 2], Some(Slot(3))));
    assert_eq!(part(2 * each, 1), (vec![1, 2, 3], None));
    assert_eq!(part(0, 3), (vec![3], None));
}
