//! Steps made by hand, each right but for one thing: the observer must name the rule that is broken.

use bytes::Bytes;

use super::*;
use crate::{Epoch, HardState, NodeId, Options, SnapshotMeta, WriteNumber};

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
        let config =
            Config::new(NodeId(1), &members, Options::default()).expect("three members fit together");
        Script { observer: Observer::new(&config), written: 0 }
    }

    /// A node makes a write.
    fn writes(&mut self, node: usize, promised: Ballot, chosen: Slot, entries: Vec<(Slot, Entry)>) -> Write {
        self.written += 1;
        let write = Write::new(WriteNumber(self.written), HardState { promised, chosen }, entries);
        self.observer.on_write(node, &write);
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
        script.sends(0, Body::Prepare { ballot, first: FIRST });
        script.sends(1, Body::Promise { ballot, first: FIRST, reports: Vec::new(), rest: None });
        script.sends(0, accept(ballot, FIRST, &value("x")));
        for node in [0, 1] {
            script.accepts(node, ballot, FIRST, &value("x"));
        }
        script.sends(1, Body::Accepted { ballot, first: FIRST, last: FIRST });
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
    Body::Accept { ballot, slot, value: value.clone(), chosen: Slot::ZERO }
}

fn recovered(promised: Ballot, entries: Vec<(Slot, Entry)>) -> Recovered {
    let hard_state = HardState { promised, chosen: Slot::ZERO };
    Recovered { hard_state, entries, ..Recovered::default() }
}

#[test]
fn what_is_right_breaks_no_rule() {
    let mut script = Script::chosen_in_first_slot();
    script.sends(0, Body::Heartbeat { ballot: ballot(1, 0), chosen: FIRST, round: crate::HeartbeatRound(1) });
    script.observer.on_apply(0, FIRST, &value("x"), 7);
    script.observer.on_apply(1, FIRST, &value("x"), 7);
    // Node 2 takes over and proposes the value that it is told of.
    let higher = ballot(2, 2);
    for node in [1, 2] {
        script.stores(node, higher, Slot::ZERO, Vec::new());
    }
    script.sends(2, Body::Prepare { ballot: higher, first: FIRST });
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
    script.sends(2, Body::Prepare { ballot: ballot(2, 2), first: FIRST });
    script.sends(2, accept(ballot(2, 2), FIRST, &value("y")));
    script.breaks(Rule::P2c);
}

#[test]
fn a_proposal_without_a_quorum_of_promises() {
    let mut script = Script::chosen_in_first_slot();
    script.stores(2, ballot(2, 2), Slot::ZERO, Vec::new());
    script.sends(2, Body::Prepare { ballot: ballot(2, 2), first: FIRST });
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
    script.sends(2, Body::Prepare { ballot: ballot(3, 2), first: FIRST });
    script.is_well();
    script.sends(2, accept(ballot(3, 2), FIRST, &value("x")));
    script.breaks(Rule::P2c);
}

#[test]
fn a_ballot_used_by_two_or_again_after_a_start() {
    let mut script = Script::chosen_in_first_slot();
    script.sends(1, Body::Prepare { ballot: ballot(1, 0), first: FIRST });
    script.breaks(Rule::BallotsUsedOnce);

    let mut script = Script::chosen_in_first_slot();
    let body = Body::Prepare { ballot: ballot(1, 0), first: FIRST };
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
    let ack = || Body::HeartbeatAck { ballot: ballot(1, 0), round: crate::HeartbeatRound(1) };
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
    script.observer.on_snapshot_stored(1, FIRST);
    let meta = SnapshotMeta { slot: FIRST, size_bytes: 0, checksum: 0 };
    let with_snapshot = Recovered { snapshot: Some(meta), ..recovered(ballot(1, 0), Vec::new()) };
    script.observer.on_recovered(1, &with_snapshot);
    script.is_well();
}

#[test]
fn words_that_leave_before_they_are_durable() {
    let promise = |ballot| Body::Promise { ballot, first: FIRST, reports: Vec::new(), rest: None };
    let said = [
        promise(ballot(2, 2)),
        Body::Prepare { ballot: ballot(2, 1), first: FIRST },
        Body::Accepted { ballot: ballot(1, 0), first: FIRST, last: SECOND },
        Body::Accepted { ballot: ballot(2, 2), first: FIRST, last: FIRST },
    ];
    for body in said {
        let mut script = Script::chosen_in_first_slot();
        if matches!(body, Body::Accepted { ballot: later, .. } if later == ballot(2, 2)) {
            // Whoever knows that a slot is chosen may say so under any ballot; an open slot is another matter.
            script.accepts(2, ballot(1, 0), SECOND, &value("y"));
            script.sends(2, Body::Accepted { ballot: ballot(2, 2), first: SECOND, last: SECOND });
        } else {
            let _ = script.writes(1, ballot(2, 2), Slot::ZERO, Vec::new());
            script.sends(1, body);
        }
        script.breaks(Rule::DurableBeforeSent);
    }
}

#[test]
fn claims_of_what_is_not_chosen() {
    let leads = Body::Heartbeat { ballot: ballot(1, 0), chosen: SECOND, round: crate::HeartbeatRound(1) };
    let tells = Body::Chosen { first: FIRST, values: vec![value("y")], chosen: FIRST };
    for body in [leads, tells] {
        let mut script = Script::chosen_in_first_slot();
        script.sends(0, body);
        script.breaks(Rule::OnlyChosenLearned);
    }
    let mut script = Script::chosen_in_first_slot();
    script.stores(2, Ballot::ZERO, Slot::ZERO, vec![(FIRST, Entry::Chosen { value: value("y") })]);
    script.breaks(Rule::OnlyChosenLearned);

    // Node 2 takes a watermark for a slot that it knows nothing of.
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
    script.observer.on_snapshot(0, FIRST, 7);
    script.observer.on_snapshot(1, FIRST, 8);
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
