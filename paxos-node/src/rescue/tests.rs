//! Rescues of disks that are made for the purpose.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use paxos_core::{Ballot, Entry, HardState, Member, Membership, NodeId, Slot, Value, Write, WriteNumber};
use paxos_storage::file::{self, FileSettings, FileStorage};
use paxos_storage::{Founding, FoundingId, Identity, Origin, Registry, Storage};

use super::*;

const OLD: FoundingId = FoundingId(9);

fn ballot(round: u64, node: u64) -> Ballot {
    Ballot { round, node: NodeId(node) }
}

fn members(count: u64) -> Membership {
    let member = |id| Member::voter(NodeId(id), format!("host-{id}:1"));
    Membership::of((1..=count).map(member).collect()).expect("these members fit")
}

fn command(text: &str) -> Value {
    Value::batch([&Bytes::copy_from_slice(text.as_bytes())])
}

fn accepted(round: u64, text: &str) -> Entry {
    Entry::Accepted { ballot: ballot(round, 1), value: command(text) }
}

struct Disks {
    parent: tempfile::TempDir,
    founding: Membership,
}

impl Disks {
    fn of(founding: Membership) -> Disks {
        Disks { parent: tempfile::tempdir().expect("a directory"), founding }
    }

    fn path(&self, node: u64) -> PathBuf {
        self.parent.path().join(format!("node-{node}"))
    }

    /// Makes the disk of a node with these entries from slot 1 on.
    fn make(&self, node: u64, promised: Ballot, chosen: u64, entries: Vec<Option<Entry>>) -> PathBuf {
        let directory = self.path(node);
        file::format(&directory, &Identity::new("tested", NodeId(node))).expect("it is new");
        let mut storage = opened(&directory);
        let founding = Founding { id: Some(OLD), membership: self.founding.clone() };
        let registry = Registry { founding: Some(founding), ..Registry::default() };
        storage.remember(&registry).expect("the disk works");
        storage.recover().expect("it is new");
        let hard_state = HardState { promised, chosen: Slot(chosen) };
        let entries = (1..).map(Slot).zip(entries).filter_map(|(slot, entry)| Some((slot, entry?)));
        let write = Write::new(WriteNumber(1), hard_state, entries.collect());
        let _durable = storage.persist(write).expect("the disk works");
        storage.prove_last_write().expect("the disk works");
        directory
    }
}

fn opened(directory: &Path) -> FileStorage {
    FileStorage::open(directory, FileSettings::default()).expect("it is a storage")
}

/// What a disk holds in each slot, and how much of that is chosen.
fn log_of(directory: &Path) -> (u64, Vec<(u64, Value)>, Registry) {
    let mut storage = opened(directory);
    let recovered = storage.recover().expect("it is whole");
    let values = recovered.entries.iter().map(|(slot, entry)| (slot.0, entry.value().clone()));
    (recovered.hard_state.chosen.0, values.collect(), storage.registry())
}

#[test]
fn the_log_goes_on_with_what_is_chosen_then_with_the_highest_proposals_and_the_lost_are_removed() {
    let disks = Disks::of(members(5));
    let texts = |texts: &[&str]| texts.iter().map(|text| Some(accepted(1, text))).collect::<Vec<_>>();
    let behind = {
        let mut entries = texts(&["a"]);
        entries.extend([None, None, Some(accepted(3, "newer")), None, Some(accepted(2, "f"))]);
        disks.make(1, ballot(7, 4), 1, entries)
    };
    let best = disks.make(2, ballot(3, 2), 3, texts(&["a", "b", "c", "older"]));
    let plan = plan(&[behind.clone(), best.clone()]).expect("three of five are lost");
    assert_eq!((plan.base, plan.kept_through, plan.adopted_through, plan.holes), (2, 3, 6, 1));
    assert_eq!((plan.lost.clone(), plan.old_epoch, plan.epoch, plan.last_slot), (vec![3, 4, 5], 0, 3, 9));
    assert!(plan.may_have_chosen_more, "three may have chosen anything");
    assert_eq!(plan.ballot, "8.2", "above all promises");

    assert_eq!(apply(&plan).expect("nothing has changed"), Outcome::Done);
    let (chosen, values, registry) = log_of(&best);
    assert_eq!(chosen, 9);
    let expected = [command("a"), command("b"), command("c"), command("newer"), Value::no_op(), command("f")];
    assert_eq!(values[..6].iter().map(|(_, value)| value.clone()).collect::<Vec<_>>(), expected);
    let last = values[8].1.as_membership().expect("it is one");
    assert_eq!((last.to_string().as_str(), last.removed()), ("epoch 3: 1 2", &[3, 4, 5].map(NodeId)[..]));
    let (chosen_behind, _, other) = log_of(&behind);
    assert_eq!(chosen_behind, 1, "it learns from the other node");
    for registry in [registry, other] {
        let founding = registry.founding.expect("it is founded");
        assert_eq!(founding.id.map(|id| id.to_string()), Some(plan.new_cluster_id.clone()));
        assert_eq!(founding.membership, members(5));
        assert_eq!(registry.origin, Some(Origin::Rescue { of: OLD }));
    }
    assert_eq!(apply(&plan).expect("it is done"), Outcome::AlreadyDone);
}

#[test]
fn a_plan_that_was_interrupted_anywhere_is_completed() {
    for done in 0..3 {
        let disks = Disks::of(members(4));
        let entries = || vec![Some(accepted(1, "a")), Some(accepted(1, "b"))];
        let directories =
            [disks.make(1, ballot(1, 1), 2, entries()), disks.make(2, ballot(1, 1), 1, entries())];
        let made = plan(&directories).expect("two of four are lost");
        let new = FoundingId(u128::from_str_radix(&made.new_cluster_id, 16).expect("it is a number"));
        // The first crash comes before the log is written, the second and third after it.
        if done >= 1 {
            assert_eq!(apply(&made).expect("nothing has changed"), Outcome::Done);
        }
        let founding = |id| Some(Founding { id: Some(id), membership: members(4) });
        match done {
            0 => {
                let mut storage = opened(&directories[0]);
                let origin = Some(Origin::Rescue { of: OLD });
                let registry = Registry { founding: founding(new), origin, ..storage.registry() };
                storage.remember(&registry).expect("the disk works");
            }
            1 => {
                let mut storage = opened(&directories[1]);
                let registry = Registry { founding: founding(OLD), origin: None, ..storage.registry() };
                storage.remember(&registry).expect("the disk works");
            }
            _ => {}
        }
        let expected = if done == 2 { Outcome::AlreadyDone } else { Outcome::Completed };
        assert_eq!(apply(&made).expect("it can be completed"), expected, "interrupted at {done}");
        assert_eq!(log_of(&directories[0]).0, 4, "interrupted at {done}");
        for directory in &directories {
            assert_eq!(log_of(directory).2.founding.and_then(|founding| founding.id), Some(new));
        }
    }
}

#[test]
fn a_disk_that_has_changed_since_the_plan_is_refused() {
    let disks = Disks::of(members(3));
    let directory = disks.make(1, ballot(1, 1), 1, vec![Some(accepted(1, "a"))]);
    let made = plan(std::slice::from_ref(&directory)).expect("two of three are lost");
    {
        let mut storage = opened(&directory);
        storage.recover().expect("it is whole");
        let hard_state = HardState { promised: ballot(2, 3), chosen: Slot(1) };
        let write = Write::new(WriteNumber(1), hard_state, Vec::new());
        let _durable = storage.persist(write).expect("the disk works");
    }
    let refused = apply(&made).expect_err("it has promised something since");
    assert!(matches!(refused, RescueError::Changed { .. }), "{refused}");
    assert_eq!(log_of(&directory).0, 1);
    // And a plan that somebody has altered.
    let mut altered = plan(&[directory]).expect("two of three are lost");
    altered.epoch += 1;
    assert!(matches!(apply(&altered), Err(RescueError::OtherPlan)));
}

#[test]
fn nothing_chosen_is_lost_if_each_quorum_has_a_node_that_is_left() {
    let disks = Disks::of(members(4));
    let directories: Vec<PathBuf> = (1..=2).map(|node| disks.make(node, ballot(1, 1), 0, vec![])).collect();
    let made = plan(&directories).expect("two of four are lost");
    assert!(!made.may_have_chosen_more, "three of four make a quorum");
}

#[test]
fn disks_that_do_not_fit_are_refused_with_the_reason() {
    let disks = Disks::of(members(3));
    let one = disks.make(1, ballot(1, 1), 0, vec![]);
    let two = disks.make(2, ballot(1, 1), 0, vec![]);
    let refused = |directories: &[&PathBuf]| {
        let directories: Vec<PathBuf> = directories.iter().copied().cloned().collect();
        plan(&directories).expect_err("they do not fit").to_string()
    };
    let not_lost = refused(&[&one, &two]);
    assert!(not_lost.contains("the majority is not lost"), "{not_lost}");
    assert!(matches!(plan(&[]), Err(RescueError::NoDisk)));
    let stranger = disks.make(7, ballot(1, 1), 0, vec![]);
    assert!(refused(&[&stranger]).contains("node 7 is no member"));
    let elsewhere = Disks::of(members(3));
    let copy = elsewhere.make(1, ballot(1, 1), 0, vec![]);
    assert!(refused(&[&one, &copy]).contains("are both of node 1"));
    // One that was founded apart, under the same name.
    let mut storage = opened(&copy);
    let founding = Some(Founding { id: Some(FoundingId(10)), membership: members(3) });
    storage.remember(&Registry { founding, ..storage.registry() }).expect("the disk works");
    let locked = refused(&[&copy]);
    assert!(locked.contains("in use") || locked.contains("open"), "its node runs: {locked}");
    drop(storage);
    assert!(refused(&[&two, &copy]).contains("rescue one at a time"));
    let new = elsewhere.path(9);
    file::format(&new, &Identity::new("tested", NodeId(9))).expect("it is new");
    assert!(refused(&[&new]).contains("belongs to no cluster"));
}

#[test]
fn learners_get_a_vote_if_no_voter_is_left() {
    let member = |id| Member::voter(NodeId(id), "").with_priority(2);
    let learner = Member::learner(NodeId(3), "").with_priority(0);
    let founding = Membership::of(vec![member(1), member(2), learner]).expect("these members fit");
    let disks = Disks::of(founding);
    let directory = disks.make(3, ballot(1, 1), 1, vec![Some(accepted(1, "a"))]);
    let made = plan(std::slice::from_ref(&directory)).expect("no voter is left");
    assert_eq!((made.members[0].id, made.members[0].role.as_str()), (3, "voter"));
    assert_eq!((made.members.len(), made.epoch), (1, 4), "promoted, given a priority, and two removed");
    assert_eq!(apply(&made).expect("nothing has changed"), Outcome::Done);
}
