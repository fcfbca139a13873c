//! Steps made by hand, each with a single mistake: the observer must name the broken rule.

use bytes::Bytes;

use super::*;
use crate::Time;
use crate::message::{Accept, Accepted, Chosen, Heartbeat, HeartbeatAck, Prepare, Promise};
use crate::{Change, HardState, SnapshotMeta, WriteNumber};

const FIRST: Slot = Slot::FIRST;
const SECOND: Slot = Slot(2);

/// An observer of three nodes, and the numbers of the writes that they make.
struct Script {
    observer: Observer,
    written: u64,
}

impl Script {
    fn new() -> Script {
        let members = [NodeId(1), NodeId(2), NodeId(3)];
        let membership = Membership::new(&members).expect("the members are distinct");
        Script { observer: Observer::new(members.to_vec(), membership), written: 0 }
    }

    /// A node makes a write.
    fn writes(&mut self, node: usize, promised: Ballot, chosen: Slot, entries: Vec<(Slot, Entry)>) -> Write {
        self.written += 1;
        let write = Write::new(WriteNumber(self.written), HardState { promised, chosen }, entries);
        self.observer.on_write((node, 1), Epoch(0), |_| Epoch(0), &write);
        write
    }

    /// A node makes a write, and its disk syncs it.
    fn stores(&mut self, node: usize, promised: Ballot, chosen: Slot, entries: Vec<(Slot, Entry)>) {
        let write = self.writes(node, promised, chosen, entries);
        self.observer.on_durable(node, &write);
    }

    fn accepts(&mut self, node: usize, ballot: Ballot, slot: Slot, value: &Value) {
        self.stores(node, ballot, Slot::ZERO, vec![accepted(slot, ballot, value)]);
    }

    fn sends(&mut self, node: usize, body: Body) {
        self.observer.on_send(node, 1, &Message { epoch: Epoch(0), body });
    }

    /// Node 0 gets the promises of 0 and 1 for its first ballot, and has its first value chosen by them.
    fn chosen_in_first_slot() -> Script {
        let mut script = Script::new();
        let ballot = ballot(1, 0);
        for node in [0, 1] {
            script.stores(node, ballot, Slot::ZERO, Vec::new());
        }
        script.sends(0, Body::Prepare(Prepare { ballot, first: FIRST, handed_over: None }));
        script.sends(
            1,
            Body::Promise(Promise { ballot, first: FIRST, reports: Vec::new(), rest: None, time: None }),
        );
        script.sends(0, accept(ballot, FIRST, &value("x")));
        for node in [0, 1] {
            script.accepts(node, ballot, FIRST, &value("x"));
        }
        script.sends(1, Body::Accepted(Accepted { ballot, first: FIRST, last: FIRST }));
        assert_eq!(script.observer.violation, None, "so far all is well");
        script
    }

    #[track_caller]
    fn breaks(&self, rule: Rule) {
        assert_eq!(self.observer.violation.as_ref().map(|violation| violation.rule), Some(rule));
    }

    #[track_caller]
    fn is_well(&self) {
        assert_eq!(self.observer.violation, None);
    }
}

fn ballot(round: u64, node: u64) -> Ballot {
    Ballot { round, node: NodeId(node + 1) }
}

fn value(text: &'static str) -> Value {
    Value::batch(&[Bytes::from_static(text.as_bytes())])
}

fn accepted(slot: Slot, ballot: Ballot, value: &Value) -> (Slot, Entry) {
    (slot, Entry::Accepted { ballot, value: value.clone() })
}

fn accept(ballot: Ballot, slot: Slot, value: &Value) -> Body {
    Body::Accept(Accept { ballot, slot, value: value.clone(), chosen: Slot::ZERO })
}

fn recovered(promised: Ballot, entries: Vec<(Slot, Entry)>) -> Recovered {
    let hard_state = HardState { promised, chosen: Slot::ZERO };
    Recovered { hard_state, entries, ..Recovered::default() }
}

#[test]
fn what_is_right_breaks_no_rule() {
    let mut script = Script::chosen_in_first_slot();
    script.sends(
        0,
        Body::Heartbeat(Heartbeat {
            ballot: ballot(1, 0),
            chosen: FIRST,
            round: crate::HeartbeatRound(1),
            time: Time::NONE,
        }),
    );
    script.observer.on_apply(0, FIRST, &value("x"), 7);
    script.observer.on_apply(1, FIRST, &value("x"), 7);
    // Node 2 takes over and proposes the value that was reported to it.
    let higher = ballot(2, 2);
    for node in [1, 2] {
        script.stores(node, higher, Slot::ZERO, Vec::new());
    }
    script.sends(2, Body::Prepare(Prepare { ballot: higher, first: FIRST, handed_over: None }));
    script.sends(2, accept(higher, FIRST, &value("x")));
    script.accepts(2, higher, FIRST, &value("x"));
    script.is_well();
}

#[test]
fn two_values_chosen_in_a_slot() {
    let mut script = Script::chosen_in_first_slot();
    for node in [1, 2] {
        script.accepts(node, ballot(2, 2), FIRST, &value("y"));
    }
    script.breaks(Rule::OneValueChosen);
}

#[test]
fn two_values_proposed_under_a_ballot() {
    let mut script = Script::chosen_in_first_slot();
    script.sends(0, accept(ballot(1, 0), FIRST, &value("y")));
    script.breaks(Rule::OneValueProposed);
}

#[test]
fn a_proposal_that_no_quorum_of_promises_allows() {
    // Nodes 1 and 2 have promised, and node 1 has accepted another value.
    let mut script = Script::chosen_in_first_slot();
    for node in [1, 2] {
        script.stores(node, ballot(2, 2), Slot::ZERO, Vec::new());
    }
    script.sends(2, Body::Prepare(Prepare { ballot: ballot(2, 2), first: FIRST, handed_over: None }));
    script.sends(2, accept(ballot(2, 2), FIRST, &value("y")));
    script.breaks(Rule::P2c);
}

#[test]
fn a_proposal_without_a_quorum_of_promises() {
    let mut script = Script::chosen_in_first_slot();
    script.stores(2, ballot(2, 2), Slot::ZERO, Vec::new());
    script.sends(2, Body::Prepare(Prepare { ballot: ballot(2, 2), first: FIRST, handed_over: None }));
    script.sends(2, accept(ballot(2, 2), SECOND, &value("y")));
    script.breaks(Rule::P2c);
}

#[test]
fn a_lower_value_where_a_higher_one_was_accepted() {
    // Node 1 has accepted under 1.1, node 2 under 2.2: the promises of both allow only the latter's value.
    let mut script = Script::new();
    script.accepts(1, ballot(1, 0), FIRST, &value("x"));
    script.accepts(2, ballot(2, 1), FIRST, &value("y"));
    for node in [1, 2] {
        script.stores(node, ballot(3, 2), Slot::ZERO, Vec::new());
    }
    script.sends(2, Body::Prepare(Prepare { ballot: ballot(3, 2), first: FIRST, handed_over: None }));
    script.is_well();
    script.sends(2, accept(ballot(3, 2), FIRST, &value("x")));
    script.breaks(Rule::P2c);
}

#[test]
fn a_ballot_used_by_two_or_again_after_a_start() {
    let mut script = Script::chosen_in_first_slot();
    script.sends(1, Body::Prepare(Prepare { ballot: ballot(1, 0), first: FIRST, handed_over: None }));
    script.breaks(Rule::BallotsUsedOnce);

    let mut script = Script::chosen_in_first_slot();
    let body = Body::Prepare(Prepare { ballot: ballot(1, 0), first: FIRST, handed_over: None });
    script.observer.on_send(0, 2, &Message { epoch: Epoch(0), body });
    script.breaks(Rule::BallotsUsedOnce);

    let mut script = Script::chosen_in_first_slot();
    script.sends(1, accept(ballot(1, 0), SECOND, &value("y")));
    script.breaks(Rule::BallotsUsedOnce);
}

#[test]
fn an_acceptance_below_the_promise() {
    let mut script = Script::new();
    let promise = script.writes(1, ballot(2, 2), Slot::ZERO, Vec::new());
    // Not yet on the disk when the acceptance is made; both are synced as one.
    let entries = vec![accepted(FIRST, ballot(1, 0), &value("x"))];
    let _ = (promise, script.writes(1, ballot(2, 2), Slot::ZERO, entries));
    script.breaks(Rule::PromiseKept);
}

#[test]
fn a_leader_followed_after_a_higher_promise() {
    let mut script = Script::chosen_in_first_slot();
    let ack = || {
        Body::HeartbeatAck(HeartbeatAck {
            ballot: ballot(1, 0),
            round: crate::HeartbeatRound(1),
            chosen: Slot::ZERO,
        })
    };
    script.sends(1, ack());
    script.is_well();
    let _ = script.writes(1, ballot(2, 2), Slot::ZERO, Vec::new());
    script.sends(1, ack());
    script.breaks(Rule::PromiseKept);
}

#[test]
fn a_promise_that_goes_back() {
    let mut script = Script::chosen_in_first_slot();
    script.stores(1, Ballot::ZERO, Slot::ZERO, Vec::new());
    script.breaks(Rule::NothingTakenBack);
}

#[test]
fn an_acceptance_without_its_promise() {
    let mut script = Script::new();
    let entries = vec![accepted(FIRST, ballot(2, 0), &value("x"))];
    script.stores(1, ballot(1, 0), Slot::ZERO, entries);
    script.breaks(Rule::NothingTakenBack);
}

#[test]
fn a_disk_that_forgets() {
    let accepted = || vec![accepted(FIRST, ballot(1, 0), &value("x"))];
    let mut script = Script::chosen_in_first_slot();
    script.observer.on_recovered(1, &recovered(ballot(1, 0), accepted()));
    script.is_well();
    script.observer.on_recovered(1, &recovered(ballot(1, 0), Vec::new()));
    script.breaks(Rule::NothingTakenBack);

    let mut script = Script::chosen_in_first_slot();
    script.observer.on_recovered(1, &recovered(Ballot::ZERO, accepted()));
    script.breaks(Rule::NothingTakenBack);
}

#[test]
fn a_disk_that_holds_a_slot_only_in_its_snapshot() {
    let mut script = Script::chosen_in_first_slot();
    script.observer.on_apply(1, FIRST, &value("x"), 7);
    let meta = SnapshotMeta { slot: FIRST, size_bytes: 0, checksum: 0, membership: Membership::of_three() };
    script.observer.on_snapshot_stored(1, &meta);
    let with_snapshot = Recovered { snapshot: Some(meta), ..recovered(ballot(1, 0), Vec::new()) };
    script.observer.on_recovered(1, &with_snapshot);
    script.is_well();
}

#[test]
fn words_that_leave_before_they_are_durable() {
    let promise =
        |ballot| Body::Promise(Promise { ballot, first: FIRST, reports: Vec::new(), rest: None, time: None });
    let said = [
        promise(ballot(2, 2)),
        Body::Prepare(Prepare { ballot: ballot(2, 1), first: FIRST, handed_over: None }),
        Body::Accepted(Accepted { ballot: ballot(1, 0), first: FIRST, last: SECOND }),
        Body::Accepted(Accepted { ballot: ballot(2, 2), first: FIRST, last: FIRST }),
    ];
    for body in said {
        let mut script = Script::chosen_in_first_slot();
        if matches!(body, Body::Accepted(Accepted { ballot: later, .. }) if later == ballot(2, 2)) {
            // Whoever knows that a slot is chosen may say so under any ballot; an open slot is another
            // matter.
            script.accepts(2, ballot(1, 0), SECOND, &value("y"));
            script.sends(2, Body::Accepted(Accepted { ballot: ballot(2, 2), first: SECOND, last: SECOND }));
        } else {
            let _ = script.writes(1, ballot(2, 2), Slot::ZERO, Vec::new());
            script.sends(1, body);
        }
        script.breaks(Rule::DurableBeforeSent);
    }
}

#[test]
fn claims_of_what_is_not_chosen() {
    let leads = Body::Heartbeat(Heartbeat {
        ballot: ballot(1, 0),
        chosen: SECOND,
        round: crate::HeartbeatRound(1),
        time: Time::NONE,
    });
    let tells = Body::Chosen(Chosen { first: FIRST, values: vec![value("y")], chosen: FIRST });
    for body in [leads, tells] {
        let mut script = Script::chosen_in_first_slot();
        script.sends(0, body);
        script.breaks(Rule::OnlyChosenLearned);
    }
    let mut script = Script::chosen_in_first_slot();
    script.stores(2, Ballot::ZERO, Slot::ZERO, vec![(FIRST, Entry::Chosen { value: value("y") })]);
    script.breaks(Rule::OnlyChosenLearned);

    // Node 2 takes over a watermark above a slot that it has no value for.
    let mut script = Script::chosen_in_first_slot();
    script.stores(2, Ballot::ZERO, FIRST, Vec::new());
    script.breaks(Rule::OnlyChosenLearned);
}

#[test]
fn a_value_applied_that_is_not_chosen() {
    let mut script = Script::chosen_in_first_slot();
    script.observer.on_apply(0, FIRST, &value("y"), 7);
    script.breaks(Rule::AppliedInOrder);
}

#[test]
fn states_and_snapshots_that_differ() {
    let mut script = Script::chosen_in_first_slot();
    script.observer.on_apply(0, FIRST, &value("x"), 7);
    script.observer.on_apply(1, FIRST, &value("x"), 8);
    script.breaks(Rule::SameState);

    let mut script = Script::chosen_in_first_slot();
    let snapshot =
        |checksum| SnapshotMeta { slot: FIRST, size_bytes: 0, checksum, membership: Membership::of_three() };
    script.observer.on_snapshot(0, &snapshot(7), true);
    script.observer.on_snapshot(1, &snapshot(8), true);
    script.breaks(Rule::SnapshotIsState);
}

#[test]
fn a_command_applied_twice_and_one_that_is_lost() {
    let key = (SessionId { slot: FIRST, index: 0 }, 1);
    let outcome = Outcome::Applied { reply: Bytes::new() };
    let mut script = Script::chosen_in_first_slot();
    script.observer.on_outcome(FIRST, key, &outcome);
    script.observer.on_apply(0, FIRST, &value("x"), 7);
    script.observer.on_outcome(FIRST, key, &outcome); // Another node gets there.
    script.is_well();
    script.observer.on_acknowledged(key, &outcome);
    script.observer.on_replayed(7, &HashSet::from([key]));
    script.is_well();
    script.observer.on_outcome(SECOND, key, &outcome);
    script.breaks(Rule::AppliedOnce);

    let mut script = Script::chosen_in_first_slot();
    script.observer.on_acknowledged(key, &outcome);
    script.observer.on_replayed(7, &HashSet::new());
    script.breaks(Rule::Acknowledged);

    let mut script = Script::chosen_in_first_slot();
    script.observer.on_apply(0, FIRST, &value("x"), 7);
    script.observer.on_replayed(8, &HashSet::new());
    script.breaks(Rule::SameState);
}

/// The membership after the founding one, first proposed under the first ballot of node 0.
fn next_membership(change: &Change) -> Membership {
    Membership::of_three().changed(change, ballot(1, 0)).expect("the change fits")
}

impl Script {
    /// Node 0 has the next membership chosen in the second slot, by itself and node 1.
    fn enters_epoch(change: &Change) -> Script {
        let mut script = Script::chosen_in_first_slot();
        let next = Value::membership(&next_membership(change));
        script.sends(0, accept(ballot(1, 0), SECOND, &next));
        for node in [0, 1] {
            script.accepts(node, ballot(1, 0), SECOND, &next);
        }
        script.is_well();
        script
    }

    fn accepts_in(&mut self, epoch: u64, node: usize, ballot: Ballot, slot: Slot, value: &Value) {
        self.written += 1;
        let hard_state = HardState { promised: ballot, chosen: SECOND };
        let write = Write::new(WriteNumber(self.written), hard_state, vec![accepted(slot, ballot, value)]);
        self.observer.on_write((node, 1), Epoch(epoch), |_| Epoch(epoch), &write);
        self.observer.on_durable(node, &write);
    }

    fn sends_in(&mut self, epoch: u64, node: usize, body: Body) {
        self.observer.on_send(node, 1, &Message { epoch: Epoch(epoch), body });
    }
}

const THIRD: Slot = Slot(3);

#[test]
fn a_slot_is_decided_by_the_voters_of_its_epoch_and_what_they_accept_in_it() {
    let mut script = Script::enters_epoch(&Change::Demote { node: NodeId(3) });
    script.sends_in(1, 0, accept(ballot(1, 0), THIRD, &value("y")));
    script.accepts_in(1, 0, ballot(1, 0), THIRD, &value("y"));
    script.is_well();
    let claim = || {
        Body::Heartbeat(Heartbeat {
            ballot: ballot(1, 0),
            chosen: THIRD,
            round: crate::HeartbeatRound(1),
            time: Time::NONE,
        })
    };
    let proposal = script.observer.proposal(THIRD, ballot(1, 0), Epoch(1), &value("y"));
    proposal.accepted_by |= 1 << 2; // Node 2 has no vote any more.
    script.observer.proposal(THIRD, ballot(1, 0), Epoch(0), &value("y")).accepted_by |= 1 << 1;
    script.sends_in(1, 0, claim());
    script.breaks(Rule::OnlyChosenLearned);
}

#[test]
fn a_node_in_another_epoch_than_its_slots_say() {
    let mut script = Script::enters_epoch(&Change::Demote { node: NodeId(3) });
    script.observer.check_epoch(1, Epoch(1), SECOND);
    script.observer.check_epoch(2, Epoch(0), FIRST);
    script.is_well();
    script.observer.check_epoch(1, Epoch(0), SECOND);
    script.breaks(Rule::MembershipOfSlot);
}

#[test]
fn a_vote_of_a_node_that_has_none() {
    let mut script = Script::enters_epoch(&Change::Demote { node: NodeId(3) });
    script.sends_in(1, 2, Body::Prepare(Prepare { ballot: ballot(2, 2), first: THIRD, handed_over: None }));
    script.breaks(Rule::OnlyVotersVote);
}

#[test]
fn a_proposal_without_phase_1_in_its_epoch() {
    let mut script = Script::enters_epoch(&Change::Remove { node: NodeId(3) });
    let later = ballot(2, 1);
    for node in [0, 1] {
        script.stores(node, later, Slot::ZERO, Vec::new());
    }
    script.sends(1, Body::Prepare(Prepare { ballot: later, first: SECOND, handed_over: None }));
    script.is_well();
    script.sends_in(1, 1, accept(later, THIRD, &value("y")));
    script.breaks(Rule::P2c);
}

#[test]
fn a_change_before_a_value_of_ones_own_and_a_proposal_behind_one_that_is_not_chosen() {
    let next = Value::membership(&next_membership(&Change::Remove { node: NodeId(3) }));
    let mut script = Script::new();
    script.accepts(0, ballot(1, 0), FIRST, &next);
    script.breaks(Rule::OwnValueFirst);

    let mut script = Script::chosen_in_first_slot();
    script.accepts(0, ballot(1, 0), SECOND, &next);
    script.is_well();
    script.accepts(0, ballot(1, 0), THIRD, &value("y"));
    script.breaks(Rule::NothingBehindMembership);
}

#[test]
fn a_second_membership_behind_one_that_is_not_chosen() {
    let mut script = Script::chosen_in_first_slot();
    for (slot, node) in [(SECOND, 2), (THIRD, 3)] {
        script.is_well();
        let next = next_membership(&Change::Remove { node: NodeId(node) });
        script.accepts(0, ballot(1, 0), slot, &Value::membership(&next));
    }
    script.breaks(Rule::OneChangeAtATime);
}

#[test]
fn a_successor_that_misses_more_than_the_window() {
    let mut script = Script::chosen_in_first_slot();
    script.observer.on_take_over(0, 1, FIRST, 1);
    script.is_well();
    script.observer.on_take_over(0, 1, SECOND, 1);
    script.breaks(Rule::SuccessorIsComplete);
}

#[test]
fn a_removed_node_that_ends_before_a_quorum_knows_it() {
    let mut script = Script::enters_epoch(&Change::Remove { node: NodeId(3) });
    script.observer.on_end(2, Epoch(1));
    script.breaks(Rule::RemovedIsDispensable);
}
