//! Carries out a plan: on the disk to go on from first, then on the others.

use std::collections::BTreeSet;

use paxos_core::{Entry, HardState, NodeId, Slot, Write, WriteNumber};
use paxos_storage::{Founding, FoundingId, Origin, Registry, Storage};

use super::RescueError;
use super::decide::{Decision, decide};
use super::disk::Disk;
use super::plan::{PLAN_VERSION, Plan, open_all, planned};

/// What has become of a plan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// All of it was done now.
    Done,
    /// An earlier call was interrupted, and the rest was done now.
    Completed,
    /// Nothing was left to do.
    AlreadyDone,
}

/// How far a plan was carried out on a disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Progress {
    /// It has the new id.
    is_named: bool,
    /// Its log has the changes of the members. Only the disk to go on from gets them here.
    is_written: bool,
}

/// Carries out a plan, or what is left of it. The nodes of its disks must be stopped.
///
/// # Errors
///
/// [`RescueError::Changed`] if a disk has changed since the plan was made, and others. After an error of a
/// disk it can be called again.
pub fn apply(plan: &Plan) -> Result<Outcome, RescueError> {
    let (Some(old), Some(new)) = (id_of(&plan.cluster_id), id_of(&plan.new_cluster_id)) else {
        return Err(RescueError::OtherPlan);
    };
    if plan.version != PLAN_VERSION {
        return Err(RescueError::OtherPlan);
    }
    let directories: Vec<_> = plan.disks.iter().map(|disk| disk.directory.clone()).collect();
    let mut disks = open_all(&directories)?;
    let progress: Vec<Progress> = disks.iter().map(|disk| progress_on(disk, plan, new)).collect();
    let base =
        disks.iter().position(|disk| disk.node() == NodeId(plan.base)).ok_or(RescueError::OtherPlan)?;
    let is_begun = progress.iter().any(|progress| progress.is_named);
    if progress.iter().all(|progress| progress.is_named) && progress[base].is_written {
        return Ok(Outcome::AlreadyDone);
    }
    for (disk, progress) in disks.iter().zip(&progress) {
        check_unchanged(disk, plan, old, *progress)?;
    }
    if !progress[base].is_written {
        let decision = checked_decision(&mut disks, plan, old)?;
        rename(&mut disks[base], old, new)?;
        write(&mut disks[base], &decision)?;
    }
    for (disk, progress) in disks.iter_mut().zip(&progress) {
        if !progress.is_named {
            rename(disk, old, new)?;
        }
    }
    Ok(if is_begun { Outcome::Completed } else { Outcome::Done })
}

fn id_of(text: &str) -> Option<FoundingId> {
    u128::from_str_radix(text, 16).ok().map(FoundingId)
}

fn progress_on(disk: &Disk, plan: &Plan, new: FoundingId) -> Progress {
    let is_named = disk.founding.id == Some(new);
    Progress { is_named, is_written: is_named && disk.membership().epoch().0 >= plan.epoch }
}

/// Whether a disk is as it was when the plan was made, apart from what the plan itself has changed.
fn check_unchanged(disk: &Disk, plan: &Plan, old: FoundingId, progress: Progress) -> Result<(), RescueError> {
    let changed = || RescueError::Changed { directory: disk.directory.clone(), node: disk.node() };
    let planned = plan.disks.iter().find(|planned| planned.node == disk.node().0).ok_or_else(changed)?;
    let is_base = disk.node() == NodeId(plan.base);
    let is_done = progress.is_named && (progress.is_written || !is_base);
    let is_of_plan = disk.cluster() == plan.cluster && (progress.is_named || disk.founding.id == Some(old));
    if is_of_plan && (is_done || disk.digest() == planned.digest) { Ok(()) } else { Err(changed()) }
}

/// What to write, which must be what was planned: nothing else was looked at by a person.
fn checked_decision(disks: &mut [Disk], plan: &Plan, old: FoundingId) -> Result<Decision, RescueError> {
    for disk in disks.iter_mut() {
        let planned = plan.disks.iter().find(|planned| planned.node == disk.node().0);
        if planned.is_none_or(|planned| planned.digest != disk.digest()) {
            return Err(RescueError::Changed { directory: disk.directory.clone(), node: disk.node() });
        }
        // One of them may have its new id already.
        disk.founding.id = Some(old);
    }
    let decision = decide(disks)?;
    if planned(disks, &decision) == *plan { Ok(decision) } else { Err(RescueError::OtherPlan) }
}

/// Gives the founding of a disk its new id.
fn rename(disk: &mut Disk, old: FoundingId, new: FoundingId) -> Result<(), RescueError> {
    let founding = Founding { id: Some(new), membership: disk.founding.membership.clone() };
    let origin = Some(Origin::Rescue { of: old });
    let registry = Registry { founding: Some(founding), origin, ..disk.storage.registry() };
    Ok(disk.storage.remember(&registry)?)
}

/// Writes all that is decided, at once, to the log to go on from.
fn write(disk: &mut Disk, decision: &Decision) -> Result<(), RescueError> {
    let recovered = disk.storage.recover()?;
    let first = recovered.snapshot.as_ref().map_or(Slot::ZERO, |meta| meta.slot).next();
    let mut slot = first;
    let held: BTreeSet<_> = recovered.entries.iter().map(|(slot, _)| *slot).collect();
    while slot <= decision.kept_through {
        if !held.contains(&slot) {
            return Err(RescueError::Missing { directory: disk.directory.clone(), slot });
        }
        slot = slot.next();
    }
    let entries = decision.values.iter().map(|(slot, value)| (*slot, Entry::Chosen { value: value.clone() }));
    let hard_state = HardState { promised: decision.ballot, chosen: decision.last_slot() };
    let write = Write::new(WriteNumber(1), hard_state, entries.collect());
    let _durable = disk.storage.persist(write)?;
    Ok(disk.storage.prove_last_write()?)
}
