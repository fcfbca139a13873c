//! Phase 1 of a new leader, promise by promise.

use bytes::Bytes;

use super::candidacy::Alone;
use crate::message::{Accept, Consent, Prepare, Promise};
use crate::{Ballot, Body, Entry, NodeId, ReadMode, Role, Slot, Value};

pub(super) fn value(name: &'static str) -> Value {
    Value::batch(&[Bytes::from_static(name.as_bytes())])
}

fn accepted(slot: u64, round: u64, name: &'static str) -> (Slot, Entry) {
    (Slot(slot), Entry::Accepted { ballot: Ballot { round, node: NodeId(5) }, value: value(name) })
}

fn chosen(slot: u64, name: &'static str) -> (Slot, Entry) {
    (Slot(slot), Entry::Chosen { value: value(name) })
}

fn promise(ballot: Ballot, reports: &[(Slot, Entry)]) -> Body {
    Body::Promise(Promise { ballot, first: Slot(1), reports: reports.to_vec(), rest: None, time: None })
}

/// A candidate whose ballot is above all reported ballots.
fn candidate() -> (Alone, Ballot) {
    let mut alone = Alone::new(1, ReadMode::QuorumRound);
    alone.hear(
        5,
        Body::Consent(Consent { ballot: Ballot::ZERO, promised: Ballot { round: 90, node: NodeId(5) } }),
    );
    let ballot = alone.until_candidate();
    assert_eq!(ballot, Ballot { round: 91, node: NodeId(1) });
    (alone, ballot)
}

/// The proposals in these messages, with their slots.
pub(super) fn proposals(spoken: &[(Option<NodeId>, Body)]) -> Vec<(u64, Value)> {
    let proposal = |(_, body): &(_, Body)| match body {
        Body::Accept(Accept { slot, value, .. }) => Some((slot.0, value.clone())),
        _ => None,
    };
    spoken.iter().filter_map(proposal).collect()
}

#[test]
fn in_each_slot_the_value_of_the_highest_reported_ballot_is_proposed_again() {
    let one = [accepted(1, 3, "a"), accepted(2, 7, "b"), accepted(4, 5, "d")];
    let other = [accepted(1, 4, "A"), accepted(2, 6, "B")];
    for (first, second) in [(&one[..], &other[..]), (&other[..], &one[..])] {
        let (mut alone, ballot) = candidate();
        assert_eq!(alone.hear(2, promise(ballot, first)), [], "two promises of five are no quorum");
        let spoken = alone.hear(3, promise(ballot, second));
        let expected = [(1, value("A")), (2, value("b")), (3, Value::no_op()), (4, value("d"))];
        assert_eq!(proposals(&spoken), expected);
        assert_eq!(alone.replica.role(), Role::Leader);
    }
}

#[test]
fn what_the_new_leader_has_accepted_itself_counts_like_a_report() {
    for (reported_round, expected) in [(6, "own"), (8, "reported")] {
        let mut alone = Alone::new(1, ReadMode::QuorumRound);
        let ballot = Ballot { round: 7, node: NodeId(4) };
        alone
            .hear(4, Body::Accept(Accept { ballot, slot: Slot(1), value: value("own"), chosen: Slot::ZERO }));
        alone.hear(5, Body::Consent(Consent { ballot, promised: Ballot { round: 90, node: NodeId(5) } }));
        let ballot = alone.until_candidate();
        alone.hear(2, promise(ballot, &[accepted(1, reported_round, "reported")]));
        let spoken = alone.hear(3, promise(ballot, &[]));
        assert_eq!(proposals(&spoken), [(1, value(expected))]);
    }
}

#[test]
fn what_is_reported_as_chosen_is_not_proposed_again() {
    let (mut alone, ballot) = candidate();
    alone.hear(2, promise(ballot, &[chosen(1, "a"), accepted(2, 3, "b")]));
    let spoken = alone.hear(3, promise(ballot, &[accepted(3, 3, "c")]));
    assert_eq!(proposals(&spoken), [(2, value("b")), (3, value("c"))]);
    assert_eq!(alone.replica.chosen(), Slot(1));
}

#[test]
fn a_promise_counts_once_and_only_for_its_ballot_and_slots() {
    let (mut alone, ballot) = candidate();
    alone.hear(2, promise(ballot, &[]));
    let older = Ballot { round: 90, ..ballot };
    let later = Body::Promise(Promise { ballot, first: Slot(2), reports: vec![], rest: None, time: None });
    for (from, wrong) in [(2, promise(ballot, &[])), (3, promise(older, &[])), (3, later)] {
        assert_eq!(alone.hear(from, wrong.clone()), [], "from {from}: {wrong:?}");
        assert_eq!(alone.replica.role(), Role::Candidate, "from {from}: {wrong:?}");
    }
    alone.hear(3, promise(ballot, &[]));
    assert_eq!(alone.replica.role(), Role::Leader);
}

#[test]
fn a_promise_that_no_acceptor_can_have_given_does_not_count() {
    let (mut alone, ballot) = candidate();
    alone.hear(2, promise(ballot, &[]));
    let own = Entry::Accepted { ballot, value: value("a") };
    let in_parts = |rest, reports: &[(Slot, Entry)]| {
        Body::Promise(Promise {
            ballot,
            first: Slot(2),
            reports: reports.to_vec(),
            rest: Some(Slot(rest)),
            time: None,
        })
    };
    let first = Body::Promise(Promise {
        ballot,
        first: Slot(1),
        reports: vec![chosen(1, "a")],
        rest: Some(Slot(2)),
        time: None,
    });
    for wrong in [
        promise(ballot, &[accepted(2, 3, "b"), accepted(1, 3, "a")]),
        promise(ballot, &[accepted(1, 3, "b"), accepted(1, 3, "a")]),
        promise(ballot, &[accepted(0, 3, "a")]),
        promise(ballot, &[(Slot(1), own)]),
        promise(ballot, &[accepted(1, 92, "a")]),
    ] {
        assert_eq!(alone.hear(3, wrong.clone()), [], "{wrong:?}");
        assert_eq!(alone.replica.role(), Role::Candidate, "{wrong:?}");
    }
    let asked = alone.hear(3, first);
    assert_eq!(
        asked,
        [(Some(NodeId(3)), Body::Prepare(Prepare { ballot, first: Slot(2), handed_over: None }))]
    );
    for wrong in [in_parts(5, &[]), in_parts(3, &[chosen(3, "c")]), in_parts(5, &[chosen(1, "a")])] {
        assert_eq!(alone.hear(3, wrong.clone()), [], "{wrong:?}");
    }
    assert_eq!(alone.hear(3, in_parts(5, &[chosen(4, "d")])).len(), 1, "this part is well formed");
}
