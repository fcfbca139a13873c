//! Goes on with the nodes that are left of a cluster that has lost its majority for good.
//!
//! Without a majority nothing can be chosen, and nobody can know any more what was: the lost nodes may have
//! chosen values that none of the others has heard of. So a rescue is a decision of a person, who gives up
//! what only the lost nodes knew. It has two steps: [`plan()`] looks at the disks that are left, changes
//! nothing, and says what is kept and what may be lost; [`apply()`] makes it so.
//!
//! # What a rescue does
//!
//! The disk that knows most to be chosen is the one to go on from. What it knows to be chosen stays. In each
//! slot behind that in which one of the disks has accepted something, the proposal of the highest ballot
//! counts as chosen, as a new leader would propose it; a slot between without any becomes a no-op. Then
//! follow changes of the membership, one in a slot, that remove all lost members, as chosen values of the
//! log. So the remaining nodes are in a later epoch, and an id that was lost is never used again. All that is
//! written to that disk alone: the other nodes learn it from its node, like any node that was away.
//!
//! Each remaining disk also gets a new id of the founding. A lost node that comes back belongs to the old one
//! and is refused, whatever it knows and however many of them come.
//!
//! # What is guaranteed
//!
//! - A disk that has changed since the plan is refused: nothing is decided about what nobody has looked at.
//! - After a crash at any point the same plan can be applied again, and does what is left to do. A node that
//!   is started in between waits for a majority.
//! - Whoever applies a plan twice is told that it is done.
//!
//! Deliberately absent: rescues of running nodes, and of disks that may have lost a promise. Lost nodes that
//! are a majority can't be kept from going on among themselves: empty their disks before they start.

mod apply;
mod decide;
mod disk;
mod plan;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use paxos_core::{ChangeError, NodeId, Slot};

pub use self::apply::{Outcome, apply};
pub use self::plan::{DiskPlan, MemberPlan, PLAN_VERSION, Plan, plan};

/// Why a cluster can't be rescued with these disks.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RescueError {
    /// No disk was named.
    #[error("no disk is named")]
    NoDisk,
    /// The storage can't be opened or read. If its node runs, it must be stopped first.
    #[error(transparent)]
    Storage(#[from] paxos_storage::Error),
    /// The newest promise or META is lost.
    #[error("{}: its promise may be lost: leave this disk out, or restore a backup", directory.display())]
    Damaged {
        /// The directory.
        directory: PathBuf,
    },
    /// The storage belongs to no cluster, or one whose founding has no id.
    #[error("{}: it belongs to no cluster that is founded", directory.display())]
    NotFounded {
        /// The directory.
        directory: PathBuf,
    },
    /// Two storages are of one node.
    #[error("{} and {} are both of node {node}: leave the older copy out", one.display(), other.display())]
    SameNode {
        /// The node.
        node: NodeId,
        /// The first directory.
        one: PathBuf,
        /// The second.
        other: PathBuf,
    },
    /// Two storages belong to different clusters.
    #[error("{one}, but {other}: rescue one at a time")]
    OtherCluster {
        /// The first directory, and the name and id of its cluster.
        one: String,
        /// The same of the second.
        other: String,
    },
    /// A storage is not that of a member.
    #[error("{}: node {node} is no member of the cluster ({members}): leave this disk out", directory.display())]
    NoMember {
        /// The directory.
        directory: PathBuf,
        /// The node.
        node: NodeId,
        /// The members.
        members: String,
    },
    /// The nodes of these disks are a quorum.
    #[error(
        "the majority is not lost: these are {voters} of the voters ({members}), and {needed} are enough; start their \
         nodes, and replace the others while the cluster runs"
    )]
    NotLost {
        /// How many voters have a disk.
        voters: usize,
        /// How many are needed.
        needed: usize,
        /// The members.
        members: String,
    },
    /// The membership can't be changed as needed.
    #[error("the members can't be changed: {0}")]
    Change(ChangeError),
    /// A disk has changed since the plan was made.
    #[error(
        "{}: the disk of node {node} has changed since the plan was made; look at the disks again, and make a new plan",
        directory.display()
    )]
    Changed {
        /// The directory.
        directory: PathBuf,
        /// The node.
        node: NodeId,
    },
    /// The plan does not follow from the disks that it names.
    #[error("the plan does not fit the disks that it names: make a new one")]
    OtherPlan,
    /// What the log holds is no log of a correct node.
    #[error("{}: slot {slot} is chosen, and its value is missing", directory.display())]
    Missing {
        /// The directory.
        directory: PathBuf,
        /// The slot.
        slot: Slot,
    },
}
