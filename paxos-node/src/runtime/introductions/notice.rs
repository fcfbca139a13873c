//! Notices about peers, to be logged for whoever runs the node.

use std::fmt;

use paxos_core::NodeId;
use paxos_storage::FoundingId;

use super::frame::{Difference, PeerRefusal};
use super::levels::are_of_levels;

/// Something to be logged once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Notice {
    /// This node refuses a peer.
    Refuses { peer: NodeId, refusal: PeerRefusal },
    /// A peer refuses this node.
    RefusedBy { peer: NodeId, refusal: PeerRefusal },
    /// Both listen to each other again.
    Admitted { peer: NodeId },
    /// A node that is no member says hello.
    Stranger { node: NodeId, was_removed: bool },
    /// The cluster is not founded: this node has not met some founders, or they have not met each other.
    WaitsForFounders { missing: Vec<NodeId>, is_founded_elsewhere: bool },
    /// The node has become a member of a cluster.
    Founded { id: Option<FoundingId>, members: Vec<NodeId> },
}

impl Notice {
    /// Whether nobody has to do anything about it.
    pub(crate) fn is_routine(&self) -> bool {
        matches!(self, Notice::Founded { .. })
    }

    /// Whether it is about a node that refuses another one.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Notice::Refuses { .. } | Notice::RefusedBy { .. } | Notice::Stranger { .. })
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::Refuses { peer, refusal } => {
                write!(formatter, "node {peer} is refused: ")?;
                explain(formatter, refusal, &format!("node {peer}"), "this node")
            }
            Notice::RefusedBy { peer, refusal } => {
                write!(formatter, "node {peer} refuses this node: ")?;
                explain(formatter, refusal, "this node", &format!("node {peer}"))
            }
            Notice::Admitted { peer } => write!(formatter, "node {peer} is let in again"),
            Notice::Stranger { node, was_removed: false } => write!(
                formatter,
                "node {node} says hello and is refused: it is no member; start all nodes with the same members"
            ),
            Notice::Stranger { node, was_removed: true } => write!(
                formatter,
                "node {node} says hello and is refused: it was removed from this cluster; stop it, and have its machine join \
                 under a new id"
            ),
            Notice::WaitsForFounders { missing, is_founded_elsewhere: false } => write!(
                formatter,
                "waiting to meet {}: a new cluster is founded when all its nodes have met; start them, or found the cluster \
                 without them, by name",
                Nodes(missing)
            ),
            Notice::WaitsForFounders { missing, is_founded_elsewhere: true } => write!(
                formatter,
                "the storage of this node is new, and its peers have a cluster already: it takes part once more than half \
                 of them have let it in; {} have not",
                Nodes(missing)
            ),
            Notice::Founded { members, .. } => {
                write!(formatter, "this node is now a member of the cluster of {}", Nodes(members))
            }
        }
    }
}

fn explain(
    formatter: &mut fmt::Formatter<'_>,
    refusal: &PeerRefusal,
    refused: &str,
    refusing: &str,
) -> fmt::Result {
    match refusal {
        PeerRefusal::Settings(differences) if are_of_levels(differences) => {
            let told = differences.first().map(|one| (&*one.refused, &*one.refusing)).unwrap_or_default();
            write!(
                formatter,
                "the format level is {} with {refused} and {} with {refusing}, and the program of each node must know the level \
                 that the cluster has finalized; start another version of the program where it does not",
                told.0, told.1
            )
        }
        PeerRefusal::Settings(differences) => {
            for Difference { name, refusing: theirs, refused: its } in differences {
                write!(
                    formatter,
                    "{name} is {} with {refused} and {} with {refusing}, ",
                    Value(its),
                    Value(theirs)
                )?;
            }
            formatter.write_str("and must be equal on all nodes; start the one that is wrong anew")
        }
        PeerRefusal::OtherDisk { known } => write!(
            formatter,
            "{refused} has come back with another disk, and {refusing} knows it by storage {known}: a node that has lost its disk may \
             have forgotten promises; give it its old disk back, or replace it by a node with a new id"
        ),
        PeerRefusal::OtherFounding => write!(
            formatter,
            "{refused} belongs to a cluster of the same name that was founded apart from that of {refusing}: one of them has \
             the wrong data"
        ),
        PeerRefusal::Copy { known } => write!(
            formatter,
            "{refused} runs on a copy of its data: {refusing} knows it by another or a later start (number {}); only one of \
             the copies may run, and it must be the newest",
            known.number
        ),
        PeerRefusal::GivenUp { epoch } => write!(
            formatter,
            "{refused} was removed in epoch {epoch}, when the cluster was rescued without it: what only {refused} knows is \
             given up; empty its data directory, and let it join under a new id"
        ),
        PeerRefusal::SharedStorage => {
            write!(formatter, "the storage of {refused} is also that of another node; give each its own")
        }
    }
}

struct Value<'a>(&'a str);

impl fmt::Display for Value<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.0.is_empty() { "not set" } else { self.0 })
    }
}

/// Lists nodes in a sentence.
pub(crate) struct Nodes<'a>(pub(crate) &'a [NodeId]);

impl fmt::Display for Nodes<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.0.len() == 1 { "node " } else { "nodes " })?;
        for (index, node) in self.0.iter().enumerate() {
            let separator = match index {
                0 => "",
                last if last + 1 == self.0.len() => " and ",
                _ => ", ",
            };
            write!(formatter, "{separator}{node}")?;
        }
        Ok(())
    }
}
