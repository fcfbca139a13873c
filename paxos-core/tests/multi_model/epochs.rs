//! What must hold while the membership changes.
//!
//! The rules of the front page hold in each epoch, among the voters of its membership: which of them have
//! accepted a value decides whether it is chosen, in each slot under the membership that is chosen before it.

use paxos_core::{Ballot, Epoch, Membership, Quorums, Slot, Value};
use stateright::Property;

use crate::model::{Bounds, MultiPaxos, State};
use crate::node::Node;

/// What is chosen in one slot, whether or not any node knows.
struct Decision<'a> {
    slot: Slot,
    epoch: Epoch,
    /// The membership that decides the slot.
    membership: Membership,
    /// The lowest ballot under which it is chosen.
    ballot: Ballot,
    value: &'a Value,
    /// Another value is chosen in the slot, too.
    is_contradicted: bool,
}

/// What is chosen, slot by slot, up to the first one in which nothing is.
fn decisions<'a>(model: &MultiPaxos, state: &'a State) -> Vec<Decision<'a>> {
    let mut decisions = Vec::new();
    let mut membership = model.founding.clone();
    for slot in (1..=model.bounds.last_slot.0).map(Slot) {
        let mut decided: Vec<(Ballot, &Value)> = decided(state, &membership, slot).collect();
        decided.sort_unstable_by_key(|(ballot, _)| *ballot);
        let Some(&(ballot, value)) = decided.first() else { break };
        let is_contradicted = decided.iter().any(|(_, other)| *other != value);
        let epoch = membership.epoch();
        decisions.push(Decision {
            slot,
            epoch,
            membership: membership.clone(),
            ballot,
            value,
            is_contradicted,
        });
        membership = membership_after(&membership, value);
    }
    decisions
}

/// The membership in force behind a slot in which `value` is chosen.
fn membership_after(before: &Membership, value: &Value) -> Membership {
    let next = value.as_membership().filter(|next| next.epoch() == before.epoch().next());
    next.unwrap_or_else(|| before.clone())
}

/// All memberships that have been in force, each at the place of its epoch.
fn memberships(model: &MultiPaxos, decisions: &[Decision<'_>]) -> Vec<Membership> {
    let mut memberships = vec![model.founding.clone()];
    for decision in decisions {
        let next = membership_after(&decision.membership, decision.value);
        if next.epoch() != decision.epoch {
            memberships.push(next);
        }
    }
    memberships
}

/// P2c of the paper, in each epoch: a proposal is made in an epoch that has begun, and there is a quorum of
/// promises among *its* voters that allows the value, given what they have accepted in the epoch. The ballot
/// with which an epoch begins is promised by whoever enters it, so nobody may have accepted anything below
/// it.
fn is_constrained_by_a_quorum_of_its_epoch(memberships: &[Membership], state: &State) -> bool {
    memberships_of_proposals(memberships, state).all(|(membership, (ballot, slot, value))| {
        let Some(membership) = membership else { return false };
        let epoch = membership.epoch();
        let highest = |node: &&'static Node| {
            let below = node.facts.votes_in.range((epoch, slot, Ballot::ZERO)..(epoch, slot, ballot));
            below.map(|(_, _, accepted)| *accepted).next_back()
        };
        let voters = state.nodes.iter().filter(|node| membership.is_voter(node.facts.id));
        if epoch > Epoch(0) && membership.ballot() == ballot {
            return voters.into_iter().all(|voter| highest(voter).is_none());
        }
        let promised: Vec<Option<Ballot>> =
            voters.filter(|voter| voter.facts.promise_told >= ballot).map(highest).collect();
        promised.iter().any(|bound| {
            let is_value = |bound: Ballot| {
                let mut earlier = state.nodes.iter().flat_map(|node| node.facts.proposals_in(epoch));
                earlier.any(|(below, same, held)| below == bound && same == slot && held == value)
            };
            let quorum = promised.iter().filter(|held| *held <= bound).count();
            quorum >= membership.quorums().prepare() && bound.is_none_or(is_value)
        })
    })
}

/// Every proposal, with the membership of its epoch, if that has begun.
fn memberships_of_proposals<'a>(
    memberships: &'a [Membership],
    state: &'a State,
) -> impl Iterator<Item = (Option<&'a Membership>, (Ballot, Slot, &'a Value))> {
    state.nodes.iter().flat_map(move |node| {
        node.facts.proposals_with_epochs().map(move |(epoch, proposal)| {
            let place = usize::try_from(epoch.0).unwrap_or(usize::MAX);
            (memberships.get(place), proposal)
        })
    })
}

/// The proposals in `slot` that a quorum of the membership has accepted.
fn decided<'a>(
    state: &'a State,
    membership: &Membership,
    slot: Slot,
) -> impl Iterator<Item = (Ballot, &'a Value)> {
    let needed = Quorums::majority(membership.voters().count()).accept();
    let proposals = state.nodes.iter().flat_map(|node| node.facts.proposals_in(membership.epoch()));
    let is_accepted = move |ballot: Ballot| {
        let accepts =
            |node: &&&Node| membership.is_voter(node.facts.id) && node.facts.votes.contains(&(slot, ballot));
        state.nodes.iter().filter(accepts).count() >= needed
    };
    let decided = proposals.filter(move |(ballot, proposed, _)| *proposed == slot && is_accepted(*ballot));
    decided.map(|(ballot, _, value)| (ballot, value))
}

/// P2b of the paper, in the epoch of each slot: every proposal above the ballot under which a value is
/// chosen has that value.
fn keeps_what_is_chosen(decisions: &[Decision<'_>], state: &State) -> bool {
    decisions.iter().all(|decision| {
        let mut proposals = state.nodes.iter().flat_map(|node| node.facts.proposals_in(decision.epoch));
        proposals.all(|(ballot, slot, value)| {
            slot != decision.slot || ballot < decision.ballot || value == decision.value
        })
    })
}

fn applies_what_is_chosen(decisions: &[Decision<'_>], state: &State) -> bool {
    let is_chosen = |(slot, value): (&Slot, &Value)| {
        decisions.iter().any(|decision| decision.slot == *slot && decision.value == value)
    };
    state.nodes.iter().all(|node| node.facts.applied.iter().all(is_chosen))
}

pub(crate) fn properties(bounds: &Bounds) -> Vec<Property<MultiPaxos>> {
    let mut properties = vec![
        Property::always("agreement", |_, state: &State| state.agrees()),
        Property::always(
            "in each epoch, one value is chosen and kept, and no other applied",
            |model, state| {
                let decisions = decisions(model, state);
                decisions.iter().all(|decision| !decision.is_contradicted)
                    && keeps_what_is_chosen(&decisions, state)
                    && applies_what_is_chosen(&decisions, state)
            },
        ),
        Property::always("P2c in each epoch", |model, state| {
            let memberships = memberships(model, &decisions(model, state));
            is_constrained_by_a_quorum_of_its_epoch(&memberships, state)
        }),
        Property::always("one value for each ballot and slot", |_, state: &State| state.proposes_once()),
        Property::always("who has promised accepts nothing below", |_, state: &State| {
            state.nodes.iter().all(|node| !node.facts.promise_broken)
        }),
        Property::always("every disk can be started from", |_, state: &State| {
            state.nodes.iter().all(|node| !node.facts.disk_was_senseless)
        }),
        Property::sometimes("a slot of the last epoch is applied", |model: &MultiPaxos, state: &State| {
            let last = Epoch(model.bounds.epochs_begun().min(model.bounds.last_slot.0 - 1));
            let is_last = |decision: &Decision<'_>| decision.epoch == last;
            let is_applied = |slot| state.nodes.iter().any(|node| node.facts.applied.contains_key(slot));
            is_applied(&model.bounds.last_slot) && decisions(model, state).iter().any(is_last)
        }),
    ];
    // The second leader finds the membership of the first.
    let has_rival = bounds.campaigns.iter().any(|candidate| *candidate != bounds.campaigns[0]);
    if has_rival && bounds.changes.iter().any(|(node, _, _)| *node == bounds.campaigns[0]) {
        properties.push(Property::sometimes(
            "a leader runs phase 1 in the second epoch",
            |_, state: &State| {
                let prepares = |node: &&Node| node.facts.prepares_in(Epoch(1));
                state.nodes.iter().any(prepares)
            },
        ));
    }
    properties
}
