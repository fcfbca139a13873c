//! A plan: what the disks hold, what is kept and lost, and what is to be written.

use std::path::{Path, PathBuf};

use paxos_core::Membership;
use paxos_storage::{FoundingId, Origin, Storage};
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use super::RescueError;
use super::decide::{Decision, decide};
use super::disk::Disk;

/// The version of plans. Others are refused.
pub const PLAN_VERSION: u32 = 1;

/// How a cluster is to be rescued.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Plan {
    /// [`PLAN_VERSION`].
    pub version: u32,
    /// The name of the cluster.
    pub cluster: String,
    /// Its id, as 32 hexadecimal digits.
    pub cluster_id: String,
    /// The id under which the remaining nodes go on.
    pub new_cluster_id: String,
    /// The node on whose disk the log goes on.
    pub base: u64,
    /// Through this slot, what is known to be chosen is kept.
    pub kept_through: u64,
    /// From there through this slot, what was accepted counts as chosen.
    pub adopted_through: u64,
    /// How many of these slots become no-ops, as no disk holds anything for them.
    pub holes: u64,
    /// Whether the lost nodes may have chosen anything of which no disk knows.
    pub may_have_chosen_more: bool,
    /// The slot of the last change of the members.
    pub last_slot: u64,
    /// The ballot of these changes.
    pub ballot: String,
    /// The epoch before.
    pub old_epoch: u64,
    /// The epoch that begins.
    pub epoch: u64,
    /// The remaining members.
    pub members: Vec<MemberPlan>,
    /// The members that are given up. Their ids are never used again.
    pub lost: Vec<u64>,
    /// The disks.
    pub disks: Vec<DiskPlan>,
}

/// A member that remains.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MemberPlan {
    /// Its id.
    pub id: u64,
    /// `voter` or `learner`.
    pub role: String,
    /// Where its peers reach it. Empty if that is not known.
    pub address: String,
}

/// What is known of a disk.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DiskPlan {
    /// The directory.
    pub directory: PathBuf,
    /// Its node.
    pub node: u64,
    /// The id of the storage.
    pub storage: String,
    /// What the node has promised.
    pub promised: String,
    /// Through this slot it knows that all is chosen.
    pub chosen_through: u64,
    /// The last slot in which it has accepted anything.
    pub accepted_through: u64,
    /// The slot of its newest snapshot.
    pub snapshot: Option<u64>,
    /// The epoch that it knows to be in force, and its members, learners in brackets.
    pub members: String,
    /// Damage, in words.
    pub damage: Vec<String>,
    /// A digest of all that.
    pub digest: String,
}

/// Looks at the disks that are left of a cluster, and plans how to go on with them. Their nodes must be
/// stopped. Changes nothing.
///
/// # Errors
///
/// [`RescueError`] if that can't be done, or need not.
pub fn plan(directories: &[PathBuf]) -> Result<Plan, RescueError> {
    let disks = open_all(directories)?;
    let first = disks.first().ok_or(RescueError::NoDisk)?;
    for disk in &disks[1..] {
        check_same_cluster(first, disk)?;
    }
    let decision = decide(&disks)?;
    Ok(planned(&disks, &decision))
}

/// Locks and reads all disks, which must be of different nodes.
pub(super) fn open_all(directories: &[PathBuf]) -> Result<Vec<Disk>, RescueError> {
    let mut disks: Vec<Disk> = Vec::new();
    for directory in directories {
        // The plan may be applied from another directory.
        let directory = std::path::absolute(directory).unwrap_or_else(|_| directory.clone());
        let disk = Disk::open(Path::new(&directory))?;
        if let Some(same) = disks.iter().find(|other| other.node() == disk.node()) {
            let (one, other) = (same.directory.clone(), disk.directory.clone());
            return Err(if same.cluster() == disk.cluster() && same.founding.id == disk.founding.id {
                RescueError::SameNode { node: disk.node(), one, other }
            } else {
                other_cluster(same, &disk)
            });
        }
        disks.push(disk);
    }
    Ok(disks)
}

fn check_same_cluster(one: &Disk, other: &Disk) -> Result<(), RescueError> {
    if one.cluster() == other.cluster() && one.founding.id == other.founding.id {
        return Ok(());
    }
    Err(other_cluster(one, other))
}

fn other_cluster(one: &Disk, other: &Disk) -> RescueError {
    let told = |disk: &Disk| {
        let id = disk.founding.id.map(|id| id.to_string()).unwrap_or_default();
        let rescued = match disk.registry.origin {
            Some(Origin::Rescue { of }) => format!(", rescued from {of}"),
            _ => String::new(),
        };
        format!("{} belongs to cluster {} ({id}{rescued})", disk.directory.display(), disk.cluster())
    };
    RescueError::OtherCluster { one: told(one), other: told(other) }
}

/// The plan of a decision.
pub(super) fn planned(disks: &[Disk], decision: &Decision) -> Plan {
    let Decision { membership, before, .. } = decision;
    let base = &disks[decision.base];
    let old = base.founding.id.unwrap_or(FoundingId(0));
    let member = |member: &paxos_core::Member| MemberPlan {
        id: member.id.0,
        role: member.role.to_string(),
        address: member.address.clone(),
    };
    let is_lost = |node: &&paxos_core::NodeId| membership.member(**node).is_none();
    Plan {
        version: PLAN_VERSION,
        cluster: base.cluster().to_owned(),
        cluster_id: old.to_string(),
        new_cluster_id: new_id(old, membership, base).to_string(),
        base: base.node().0,
        kept_through: decision.kept_through.0,
        adopted_through: decision.adopted_through.0,
        holes: decision.holes,
        may_have_chosen_more: decision.may_have_chosen_more,
        last_slot: decision.last_slot().0,
        ballot: decision.ballot.to_string(),
        old_epoch: before.epoch().0,
        epoch: membership.epoch().0,
        members: membership.details().iter().map(member).collect(),
        lost: before.members().iter().filter(is_lost).map(|node| node.0).collect(),
        disks: disks.iter().map(disk_plan).collect(),
    }
}

fn disk_plan(disk: &Disk) -> DiskPlan {
    let inspection = &disk.inspection;
    let snapshot = inspection.snapshots.iter().find(|snapshot| snapshot.is_whole);
    DiskPlan {
        directory: disk.directory.clone(),
        node: disk.node().0,
        storage: disk.storage.identity().storage().to_string(),
        promised: inspection.promised.to_string(),
        chosen_through: inspection.chosen.0,
        accepted_through: disk.accepted_through().0,
        snapshot: snapshot.map(|snapshot| snapshot.slot.0),
        members: disk.membership().to_string(),
        damage: inspection.damage.iter().map(ToString::to_string).collect(),
        digest: disk.digest(),
    }
}

/// The id under which the remaining nodes go on: the same one however often this plan is applied.
fn new_id(old: FoundingId, membership: &Membership, base: &Disk) -> FoundingId {
    let mut digest = Context::new(&SHA256);
    digest.update(b"rescue");
    digest.update(&old.0.to_le_bytes());
    digest.update(&membership.encode());
    digest.update(base.digest().as_bytes());
    let digest = digest.finish();
    let (first, _) = digest.as_ref().split_first_chunk().expect("SHA-256 has more than 16 bytes");
    FoundingId(u128::from_be_bytes(*first).max(1)) // On disk 0 means that there is none.
}
