//! Multi-Paxos, every state of it within bounds: three real [`Replica`](paxos_core::Replica)s, one or two slots, two or
//! three ballots, one crash, and messages that are lost, doubled and overtaken in all possible ways.
//!
//! # What it shows
//!
//! *Agreement*: no two replicas ever apply different values in a slot, and none does so after a crash. The other
//! properties are the steps of the argument. *What is applied is chosen*, so two values applied were two values chosen,
//! at ballots `m` and `n`. A ballot has *one value in each slot*, so these differ; say, `m < n`. *Every two quorums
//! meet*, so some acceptor has accepted `m` and has promised `n`; and *who has promised accepts nothing below*, not even
//! after a crash, so it accepted `m` before it promised `n`. Its promise told of that, or of a later proposal with the
//! same value, and `n` had to carry that value: *P2c*. So `m` and `n` carry the same value: *one value is chosen*.
//!
//! An acceptance counts from when it rests on the acceptor's disk or others are told of it, whichever comes first, and
//! whether or not a leader ever hears of it. The mutants show that the model can fail: each is found by the step of the
//! argument that it breaks, and by two replicas that apply different values.
//!
//! # What is bounded, and why nothing is missed within the bounds
//!
//! - *Messages*: what is sent stays on its way for ever, so it may arrive at any time, any number of times, or never.
//!   Nothing is sent again. Answers to heartbeats, forwarded commands and reads always get lost, which any message may.
//!   So do rejects, heartbeats and chosen values that are asked for, in those runs that say nothing of them.
//! - *Elections*: probe and consent promise nothing, so a node may always find a peer that consents: more than the
//!   protocol allows. What matters of ballots is their order. So each run names the owners of its ballots from the
//!   lowest on, each ballot has its position for its round, and up to the names of nodes every run with two ballots is
//!   one of `[1, 1]` and `[1, 2]`. They may be tried in any order of time. A node learns of lower ballots of others
//!   from the consent, of its own only from its disk: so it does not use one twice *because* it has stored it.
//! - *Commands*: each proposal of a fresh value has a value of its own, until all slots are proposed in.
//! - *Time* is no part of a state: a leader may be missed, and a heartbeat be due, at any time. That nothing else
//!   depends on what is left out is checked for every state that was reached in two ways, by taking both.
//! - *Disks*: a write is synced before anything else happens, or never, and then neither are later ones, until the node
//!   crashes (or does not: then it has crashed for good). A sync that comes later is no different: all that waits for
//!   it is something that others hear of (and then hear of late, as with any message) or that a leader counts (as if
//!   it had heard late from the others). That this is so is checked with one slot, by the model with syncs at any time.
//! - *One crash*, at any time, of any node that the run names.
//!
//! Left out: snapshots, reads and leases, the limits of the window, and phase 1 for every value. Of these the
//! simulation takes care.
//!
//! # How many states there are
//!
//! `cargo test -p paxos-core --test multi_model -- --nocapture` prints it, and with `--ignored` for the runs that take
//! minutes on two cores.
//!
//! | slots | ballots | who may crash | besides | states |
//! |---|---|---|---|---|
//! | 1 | 1, 2 | anybody | | 31 113 |
//! | 1 | 1, 2 | anybody | syncs at any time | 202 597 |
//! | 1 | 1, 2 | anybody | rejects, heartbeats | 1 542 532 |
//! | 1 | 1, 1 | anybody | rejects, heartbeats | 826 358 |
//! | 1 | 1, 2, 3 | anybody | | 1 456 884 |
//! | 2 | 1, 2 | nobody | promises in parts | 1 227 682 |
//! | 2 | 1, 2 | 3 | | 4 194 573 |
//! | 2 | 1, 2 | anybody | ignored: 80 to 150 s | 18 894 906 |
//! | 2 | 1, 1 | anybody | ignored: 50 s | 9 966 880 |
//! | 1 | 1, 1, 1 | anybody | ignored: 10 s | 809 556 |
//! | 1 | 1, 1, 2 | anybody | ignored: 15 s | 1 166 582 |
//! | 1 | 1, 2, 1 | anybody | ignored: 15 s | 1 229 652 |
//! | 1 | 1, 2, 2 | anybody | ignored: 15 s | 1 263 078 |
//! | 1 | 1, 2 | anybody | chosen values are asked for; ignored: 35 s | 4 847 151 |

mod catalogue;
mod model;
mod node;
mod protocol_state;
mod running;
mod syncs;

use std::collections::BTreeSet;
use std::time::Instant;

use paxos_core::Slot;
use paxos_core::sim::Mutant;
use stateright::{Checker, HasDiscoveries, Model};

use crate::catalogue::Catalogue;
use crate::model::{Bounds, MultiPaxos, Syncs};

pub(crate) const MEMBERS: [u64; 3] = [1, 2, 3];

/// Two leaders, one slot, anybody may crash, and only the messages that no value can be chosen without.
const SMALLEST: Bounds = Bounds {
    last_slot: Slot(1),
    campaigns: &[1, 2],
    victims: &MEMBERS,
    syncs: Syncs::AtOnce,
    rejects: false,
    heartbeats: false,
    fetches: false,
    chunk_bytes: 1 << 20,
    mutant: None,
};
const SYNCS_AT_ANY_TIME: Bounds = Bounds { syncs: Syncs::Separate, ..SMALLEST };
const ONE_LEADER_TWICE: Bounds = Bounds { campaigns: &[1, 1], ..SMALLEST };
const WITH_REJECTS_AND_HEARTBEATS: Bounds = Bounds { rejects: true, heartbeats: true, ..SMALLEST };
const WITH_FETCHES: Bounds = Bounds { fetches: true, ..SMALLEST };
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
    check("two_slots_are_agreed_upon_if_promises_come_in_parts", bounds, 1_200_000);
}

#[test]
fn two_slots_are_agreed_upon_if_the_third_node_crashes() {
    let bounds = Bounds { victims: &[3], ..TWO_SLOTS };
    check("two_slots_are_agreed_upon_if_the_third_node_crashes", bounds, 4_000_000);
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

/// Looks at every state and judges it.
fn check(name: &str, bounds: Bounds, at_least_states: usize) {
    let again =
        format!("cargo test -p paxos-core --test multi_model {name} -- --include-ignored --nocapture");
    let started = Instant::now();
    let catalogue: &'static Catalogue = Box::leak(Box::default());
    let checker = MultiPaxos { bounds, catalogue }.checker().threads(2).spawn_dfs().join();
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

/// Each mutant breaks the step of the argument that stands with it, and agreement.
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
        let model = MultiPaxos {
            bounds: Bounds { mutant: Some(mutant), ..bounds },
            catalogue: Box::leak(Box::default()),
        };
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
