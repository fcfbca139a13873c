//! Multi-Paxos, every state of it within bounds: three or four real [`Replica`](paxos_core::Replica)s, one to
//! three slots, one to three ballots, one crash, and messages that are lost, doubled and overtaken in all
//! possible ways.
//!
//! # What it shows
//!
//! *Agreement*: no two replicas ever apply different values in a slot, and none does so after a crash. The
//! other properties are the steps of the argument. *What is applied is chosen*, so two values applied were
//! two values chosen, at ballots `m` and `n`. A ballot has *one value in each slot*, so these differ; say, `m
//! < n`. *Every two quorums meet*, so some acceptor has accepted `m` and has promised `n`; and *who has
//! promised accepts nothing below*, not even after a crash, so it accepted `m` before it promised `n`. Its
//! promise reported that, or a later proposal with the same value, and `n` had to carry that value: *P2c*.
//! So `m` and `n` carry the same value: *one value is chosen*.
//!
//! An acceptance counts as soon as it is on the acceptor's disk or is sent to others, whether or not a leader
//! ever receives it. The mutants show that the model can fail: each breaks a step of the argument, and
//! agreement.
//!
//! # What is bounded, and why nothing is missed within the bounds
//!
//! - *Messages*: a message stays under way for ever, so it may arrive at any time, any number of times, or
//!   never. Nothing is sent again. Answers to heartbeats, forwarded commands and reads always get lost, as
//!   any message may. So do rejects, heartbeats and fetched values, except in the runs that name them.
//! - *Elections*: probe and consent promise nothing, so a node may always find a peer that consents: more
//!   than the protocol allows. Of ballots only their order matters. So each run names the owners of its
//!   ballots from the lowest on, and the round of a ballot is its position. Up to the names of nodes, every
//!   run with two ballots is one of `[1, 1]` and `[1, 2]`. They may be tried in any order of time. A node
//!   learns of lower ballots of others from the consent, but of its own only from its disk: so it is the disk
//!   that keeps it from using one twice.
//! - *Commands*: each proposal of a fresh value has a value of its own, until all slots are proposed in.
//! - *Time* is no part of a state: a leader may be missed, and a heartbeat be due, at any time. That nothing
//!   else depends on what is left out is checked for every state that was reached in two ways, by taking
//!   both.
//! - *Disks*: a write is synced before anything else happens, or never, and then neither are later ones,
//!   until the node crashes (or does not: then it has crashed for good). A later sync adds nothing: what
//!   waits for it is a message to others, which may be late anyway, or an acceptance that a leader counts, as
//!   if the others had answered late. The model with syncs at any time checks this with one slot.
//! - *One crash*, at any time, of any node that the run names.
//!
//! # Changes of the membership
//!
//! In some models leaders change the membership, and the slots may be of different epochs: a learner is
//! promoted while it crashes; a leader is removed that goes on; of two would-be leaders each removes another
//! node, so that both new memberships have a quorum of their own; and a fourth node takes the place of one of
//! three. The rules are in `epochs`. They are counted in each slot among the voters that are chosen for it:
//! what is chosen, and P2c, which rests on a quorum of the voters of the epoch that a proposal is made in.
//! These models are bounded further: a leader proposes one command, and its changes before that; and in some
//! a node that has missed a membership may fetch it from any node that knows it, as heartbeats get lost.
//!
//! # What is left out
//!
//! Snapshots, reads and leases, the limits of the window, and phase 1 for every value. The simulation covers
//! these.
//!
//! # How many states there are
//!
//! `cargo test -p paxos-core --test multi_model -- --nocapture` prints it, and with `--ignored` for the runs
//! that take minutes on two cores.
//!
//! | slots | ballots | may crash | besides | states |
//! |---|---|---|---|---|
//! | 1 | 1, 2 | anybody | | 31 473 |
//! | 1 | 1, 2 | anybody | syncs at any time | 202 597 |
//! | 1 | 1, 2 | anybody | rejects, heartbeats | 1 568 660 |
//! | 1 | 1, 1 | anybody | rejects, heartbeats | 826 358 |
//! | 1 | 1, 2, 3 | anybody | | 1 479 432 |
//! | 2 | 1, 2 | nobody | promises in parts | 950 146 |
//! | 2 | 1, 2 | 3 | | 3 633 141 |
//! | 2 | 1, 2 | nobody | 1 removes 3, 2 removes 1 | 744 261 |
//! | 2 | 1, 2 | 3 | 1 promotes 3 | 710 521 |
//! | 2 | 1, 2 | nobody | 2 removes 1; nothing is fetched | 70 723 |
//! | 3 | 1 | anybody | 4 takes the place of 3; nothing is fetched | 70 521 |
//! | 3 | 1, 2 | 4 | 4 takes the place of 3; nothing is fetched | 739 646 |
//! | 2 | 1, 2 | nobody | 1 promotes 4, 2 removes 3; nothing is fetched | 117 325 |
//! | 2 | 1, 2 | 2 | 1 removes 3, 2 removes 1; ignored | 4 288 158 |
//! | 2 | 1, 2 | anybody | ignored: 80 to 150 s | 18 894 906 |
//! | 2 | 1, 1 | anybody | ignored: 50 s | 9 966 880 |
//! | 1 | 1, 1, 1 | anybody | ignored: 10 s | 811 772 |
//! | 1 | 1, 1, 2 | anybody | ignored: 15 s | 1 193 742 |
//! | 1 | 1, 2, 1 | anybody | ignored: 15 s | 1 244 652 |
//! | 1 | 1, 2, 2 | anybody | ignored: 15 s | 1 273 522 |
//! | 1 | 1, 2 | anybody | chosen values are asked for; ignored: 35 s | 4 847 151 |

mod catalogue;
mod epochs;
mod model;
mod node;
mod protocol_state;
mod running;
mod syncs;

use std::collections::BTreeSet;
use std::time::Instant;

use paxos_core::sim::Mutant;
use paxos_core::{Change, Epoch, NodeId, Slot};
use stateright::{Checker, HasDiscoveries, Model};

use crate::model::{Bounds, MultiPaxos, Syncs};

/// The nodes, of which the fourth takes part in some models only.
pub(crate) const NODES: [u64; 4] = [1, 2, 3, 4];

/// Two leaders, one slot, anybody may crash, and only the messages that no value can be chosen without.
const SMALLEST: Bounds = Bounds {
    last_slot: Slot(1),
    nodes: 3,
    campaigns: &[1, 2],
    victims: &[1, 2, 3],
    syncs: Syncs::AtOnce,
    rejects: false,
    heartbeats: false,
    fetches: false,
    chunk_bytes: 1 << 20,
    learners: &[],
    changes: &[],
    mutant: None,
};
const SYNCS_AT_ANY_TIME: Bounds = Bounds { syncs: Syncs::Separate, ..SMALLEST };
const ONE_LEADER_TWICE: Bounds = Bounds { campaigns: &[1, 1], ..SMALLEST };
const WITH_REJECTS_AND_HEARTBEATS: Bounds = Bounds { rejects: true, heartbeats: true, ..SMALLEST };
const WITH_FETCHES: Bounds = Bounds { fetches: true, ..SMALLEST };
/// Slot 1 may hold a membership, and slot 2 is then of the epoch that it begins. So that this takes no third
/// slot, leaders change the membership before a value of their own is chosen. Safety does not rest on that
/// rule: a membership counts only once all slots before it are chosen.
const TWO_REMOVALS: Bounds = Bounds {
    last_slot: Slot(2),
    fetches: true,
    changes: &[
        (1, Epoch(0), Change::Remove { node: NodeId(3) }),
        (2, Epoch(0), Change::Remove { node: NodeId(1) }),
    ],
    mutant: Some(Mutant::ChangeBeforeOwnValue),
    ..SMALLEST
};
const PROMOTION: Bounds = Bounds {
    learners: &[3],
    changes: &[(1, Epoch(0), Change::Promote { node: NodeId(3) })],
    victims: &[3],
    ..TWO_REMOVALS
};
/// Node 4 takes the place of node 3: it is a learner, gets a vote, and then node 3 is removed. Slot 1 is
/// decided by 1, 2 and 3, slot 2 by all four, and slot 3 by 1, 2 and 4.
const REPLACEMENT: Bounds = Bounds {
    last_slot: Slot(3),
    nodes: 4,
    campaigns: &[1],
    learners: &[4],
    changes: &[
        (1, Epoch(0), Change::Promote { node: NodeId(4) }),
        (1, Epoch(1), Change::Remove { node: NodeId(3) }),
    ],
    victims: &[1, 2, 3, 4],
    fetches: false,
    ..TWO_REMOVALS
};
const TWO_SLOTS: Bounds = Bounds { last_slot: Slot(2), ..SMALLEST };

#[test]
fn one_slot_is_agreed_upon_whenever_disks_sync() {
    check("one_slot_is_agreed_upon_whenever_disks_sync", SMALLEST, 30_000);
    check("one_slot_is_agreed_upon_whenever_disks_sync", SYNCS_AT_ANY_TIME, 200_000);
}

#[test]
fn one_slot_is_agreed_upon_under_rejects_and_heartbeats() {
    let name = "one_slot_is_agreed_upon_under_rejects_and_heartbeats";
    check(name, WITH_REJECTS_AND_HEARTBEATS, 1_500_000);
    check(name, Bounds { campaigns: &[1, 1], ..WITH_REJECTS_AND_HEARTBEATS }, 800_000);
}

#[test]
fn one_slot_is_agreed_upon_under_three_leaders() {
    let bounds = Bounds { campaigns: &[1, 2, 3], ..SMALLEST };
    check("one_slot_is_agreed_upon_under_three_leaders", bounds, 1_400_000);
}

#[test]
fn two_slots_are_agreed_upon_if_promises_come_in_parts() {
    let bounds = Bounds { chunk_bytes: 0, victims: &[], ..TWO_SLOTS };
    check("two_slots_are_agreed_upon_if_promises_come_in_parts", bounds, 900_000);
}

#[test]
fn two_slots_are_agreed_upon_if_the_third_node_crashes() {
    let bounds = Bounds { victims: &[3], ..TWO_SLOTS };
    check("two_slots_are_agreed_upon_if_the_third_node_crashes", bounds, 3_600_000);
}

#[test]
fn two_leaders_remove_different_members() {
    check("two_leaders_remove_different_members", Bounds { victims: &[], ..TWO_REMOVALS }, 740_000);
}

#[test]
fn a_learner_is_promoted_while_it_crashes() {
    check("a_learner_is_promoted_while_it_crashes", PROMOTION, 700_000);
}

#[test]
fn one_of_three_is_replaced_while_anybody_crashes() {
    check("one_of_three_is_replaced_while_anybody_crashes", REPLACEMENT, 70_000);
}

#[test]
fn one_of_three_is_replaced_under_two_leaders_by_a_node_that_crashes() {
    let name = "one_of_three_is_replaced_under_two_leaders_by_a_node_that_crashes";
    check(name, Bounds { campaigns: &[1, 2], victims: &[4], ..REPLACEMENT }, 730_000);
}

#[test]
fn one_of_three_is_replaced_by_two_leaders() {
    let bounds = Bounds {
        last_slot: Slot(2),
        campaigns: &[1, 2],
        changes: &[
            (1, Epoch(0), Change::Promote { node: NodeId(4) }),
            (2, Epoch(1), Change::Remove { node: NodeId(3) }),
        ],
        victims: &[],
        ..REPLACEMENT
    };
    check("one_of_three_is_replaced_by_two_leaders", bounds, 116_900);
}

#[test]
#[ignore = "takes minutes"]
fn two_leaders_remove_different_members_and_the_common_one_crashes() {
    let name = "two_leaders_remove_different_members_and_the_common_one_crashes";
    check(name, Bounds { victims: &[2], ..TWO_REMOVALS }, 4_200_000);
}

#[test]
fn a_leader_is_removed_and_goes_on_not_knowing_it() {
    let changes = &[(2, Epoch(0), Change::Remove { node: NodeId(1) })];
    let bounds = Bounds { changes, victims: &[], fetches: false, ..TWO_REMOVALS };
    check("a_leader_is_removed_and_goes_on_not_knowing_it", bounds, 70_000);
}

#[test]
#[ignore = "takes minutes"]
fn two_slots_are_agreed_upon_whoever_crashes() {
    let name = "two_slots_are_agreed_upon_whoever_crashes";
    check(name, TWO_SLOTS, 18_500_000);
    check(name, Bounds { campaigns: &[1, 1], ..TWO_SLOTS }, 5_000_000);
}

#[test]
#[ignore = "takes minutes"]
fn one_slot_is_agreed_upon_under_every_succession_of_three_ballots() {
    let name = "one_slot_is_agreed_upon_under_every_succession_of_three_ballots";
    for campaigns in [&[1, 1, 1], &[1, 1, 2], &[1, 2, 1], &[1, 2, 2]] {
        check(name, Bounds { campaigns, ..SMALLEST }, 800_000);
    }
}

#[test]
#[ignore = "takes minutes"]
fn one_slot_is_agreed_upon_if_anybody_asks_for_chosen_values() {
    check("one_slot_is_agreed_upon_if_anybody_asks_for_chosen_values", WITH_FETCHES, 4_500_000);
}

/// Explores every state and checks the properties.
fn check(name: &str, bounds: Bounds, at_least_states: usize) {
    let again =
        format!("cargo test -p paxos-core --test multi_model {name} -- --include-ignored --nocapture");
    let started = Instant::now();
    let model = MultiPaxos::new(bounds);
    let catalogue = model.catalogue;
    let checker = model.checker().threads(2).spawn_dfs().join();
    let (states, deep) = (checker.unique_state_count(), checker.max_depth());
    println!("{bounds:?}: {states} states, {deep} steps deep, {:?}", started.elapsed());
    for (property, path) in checker.discoveries() {
        let rule = checker.model().property(property);
        let steps: Vec<String> = path.into_actions().iter().map(|action| format!("{action:?}")).collect();
        let is_rule = matches!(rule.expectation, stateright::Expectation::Always);
        assert!(!is_rule, "\"{property}\" is broken ({again}):\n{}", steps.join("\n"));
    }
    checker.assert_properties();
    assert!(states >= at_least_states, "{states} states are too few ({again})");
    let compared = catalogue.compare_histories(&bounds);
    println!(
        "{} states of nodes, {compared} steps taken in two ways, {:?}",
        catalogue.nodes(),
        started.elapsed()
    );
    assert!(compared > 1_000, "nearly every state can be reached in two ways ({again})");
}

/// Each mutant breaks the step of the argument that is named with it, and agreement.
#[test]
fn a_mutant_of_a_replica_is_found_out() {
    const PROMISE: &str = "who has promised accepts nothing below";
    const ONE_VALUE: &str = "one value for each ballot and slot";
    const APPLIED: &str = "what is applied is chosen";
    let parts = Bounds { chunk_bytes: 0, victims: &[], ..TWO_SLOTS };
    let fetches = Bounds { victims: &[], ..WITH_FETCHES };
    let mutants = [
        (Mutant::PrepareBelowPromise, PROMISE, SMALLEST),
        (Mutant::AcceptBelowPromise, PROMISE, SMALLEST),
        (Mutant::PromiseNotRaised, PROMISE, SMALLEST),
        (Mutant::PromiseNotWritten, PROMISE, SMALLEST),
        (Mutant::SendBeforeSync, PROMISE, SMALLEST),
        (Mutant::PromiseForgottenAtRestart, PROMISE, SMALLEST),
        (Mutant::PrepareBeforeSync, ONE_VALUE, ONE_LEADER_TWICE),
        (Mutant::OldBallotReused, ONE_VALUE, ONE_LEADER_TWICE),
        (Mutant::PromiseForgetsAccepted, "P2c", SMALLEST),
        (Mutant::PromiseOmitsChosen, "P2c", SMALLEST),
        (Mutant::PromiseCutShort, "P2c", parts),
        (Mutant::PromiseOfOlderBallotCounts, "P2c", ONE_LEADER_TWICE),
        (Mutant::AcceptanceNotWritten, "P2c", SMALLEST),
        (Mutant::OwnAcceptedIgnored, "P2c", SMALLEST),
        (Mutant::ReportsIgnored, "P2c", SMALLEST),
        (Mutant::TakeoverMissesReported, "P2c", SMALLEST),
        (Mutant::PrepareQuorumOffByOne, "P2c", SMALLEST),
        (Mutant::AcceptQuorumOffByOne, APPLIED, SMALLEST),
        (Mutant::AcceptedCountsTwice, APPLIED, SMALLEST),
        (Mutant::OwnAcceptanceBeforeSync, APPLIED, SMALLEST),
        (Mutant::AcceptedTakenForChosenAtRestart, APPLIED, SMALLEST),
        (Mutant::ChosenAnnouncedEarly, APPLIED, SMALLEST),
        (Mutant::WatermarkOfAnyBallot, APPLIED, WITH_REJECTS_AND_HEARTBEATS),
        (Mutant::LearnKeepsOwnValue, APPLIED, fetches),
        (Mutant::FetchServesUnchosen, APPLIED, fetches),
    ];
    for (mutant, step, bounds) in mutants {
        let started = Instant::now();
        let broken = BTreeSet::from([step, "agreement"]);
        let model = MultiPaxos::new(Bounds { mutant: Some(mutant), ..bounds });
        let checker =
            model.checker().finish_when(HasDiscoveries::AllOf(broken.clone())).threads(2).spawn_bfs().join();
        let examples = broken.iter().map(|&property| (property, checker.discovery(property)));
        let examples: Vec<_> =
            examples.map(|(property, path)| (property, path.map(|path| path.into_actions().len()))).collect();
        println!(
            "{mutant:?}: broken after steps {examples:?}, {} states, {:?}",
            checker.unique_state_count(),
            started.elapsed()
        );
        assert!(examples.iter().all(|(_, steps)| steps.is_some()), "{mutant:?} must break {examples:?}");
    }
}
