//! Tells clients why a node can take no part at present.

use std::fmt;

use paxos_core::NodeId;

use super::levels::are_of_levels;
use super::{Introductions, Peer, PeerRefusal};

/// The reason for which a node knows that it can't serve clients. Its log says more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum KeptOut {
    /// It belongs to no cluster yet: it has not met some founders, or they have not met each other.
    WaitsFor {
        /// One of the nodes that it waits for.
        node: NodeId,
        /// How many more there are.
        others: usize,
    },
    /// Its storage is new, and its peers have a cluster that has not admitted it yet.
    NotLetIn {
        /// One of the peers that have not.
        node: NodeId,
        /// How many more there are.
        others: usize,
    },
    /// It refuses, or is refused by, so many peers that the others are no quorum.
    Refused {
        /// One of them.
        node: NodeId,
        /// How many more there are.
        others: usize,
        /// What is wrong between this node and that one.
        because: RefusedFor,
    },
}

/// The reason for which one of two nodes refuses the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum RefusedFor {
    /// Settings that must be equal differ.
    Settings,
    /// The program of one of them does not know the format level of the cluster.
    FormatLevel,
    /// One of them has come back with another disk.
    OtherDisk,
    /// They belong to clusters of one name that were founded apart.
    OtherFounding,
    /// One of them runs on a copy of its data.
    Copy,
    /// One of them has the storage of another node.
    SharedStorage,
    /// One of them counted as lost when their cluster was rescued, and was removed.
    GivenUp,
}

impl fmt::Display for KeptOut {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            KeptOut::WaitsFor { node, others } => write!(
                formatter,
                "the cluster is not founded yet, and this node waits to meet {}",
                Many(node, others)
            ),
            KeptOut::NotLetIn { node, others } => {
                write!(
                    formatter,
                    "this node is new to the cluster and not let in yet by {}",
                    Many(node, others)
                )
            }
            KeptOut::Refused { node, others, because } => write!(
                formatter,
                "this node and {} do not listen to each other, as {because}; its log tells more",
                Many(node, others)
            ),
        }
    }
}

impl fmt::Display for RefusedFor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            RefusedFor::Settings => "settings differ that must be equal",
            RefusedFor::FormatLevel => "the program of one does not know the format level of the cluster",
            RefusedFor::OtherDisk => "one has come back with another disk",
            RefusedFor::OtherFounding => "their clusters were founded apart",
            RefusedFor::Copy => "one runs on a copy of its data",
            RefusedFor::SharedStorage => "one has the storage of another node",
            RefusedFor::GivenUp => "one was removed when the cluster was rescued without it",
        })
    }
}

impl std::error::Error for KeptOut {}

/// A node, and how many more there are.
struct Many(NodeId, usize);

impl fmt::Display for Many {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Many(node, 0) => write!(formatter, "node {node}"),
            Many(node, others) => write!(formatter, "node {node} and {others} more"),
        }
    }
}

impl From<&PeerRefusal> for RefusedFor {
    fn from(refusal: &PeerRefusal) -> RefusedFor {
        match refusal {
            PeerRefusal::Settings(differences) if are_of_levels(differences) => RefusedFor::FormatLevel,
            PeerRefusal::Settings(_) => RefusedFor::Settings,
            PeerRefusal::OtherDisk { .. } => RefusedFor::OtherDisk,
            PeerRefusal::OtherFounding => RefusedFor::OtherFounding,
            PeerRefusal::Copy { .. } => RefusedFor::Copy,
            PeerRefusal::SharedStorage => RefusedFor::SharedStorage,
            PeerRefusal::GivenUp { .. } => RefusedFor::GivenUp,
        }
    }
}

impl Introductions {
    /// Why this node knows that it can take no part now; anything takes `quorum` members.
    ///
    /// While a founding takes its normal course that is not known yet: only after some time does a node log
    /// which nodes it waits for.
    pub(crate) fn kept_out(&self, quorum: usize) -> Option<KeptOut> {
        let refused: Vec<(NodeId, &PeerRefusal)> =
            self.members().filter_map(|(node, peer)| Some((*node, self.refusal_between(peer)?))).collect();
        let reachable = 1 + self.members().count() - refused.len();
        if let Some((node, refusal)) = refused.first().filter(|_| reachable < quorum) {
            let (others, because) = (refused.len() - 1, RefusedFor::from(*refusal));
            return Some(KeptOut::Refused { node: *node, others, because });
        }
        let missing = self.missing();
        // A refused founder keeps the others waiting until somebody mends it.
        let is_known = self.has_told_waiting() || refused.iter().any(|(node, _)| missing.contains(node));
        if !is_known {
            return None;
        }
        let (node, others) = (*missing.first()?, missing.len() - 1);
        let is_founded_elsewhere = self.peers.values().any(Peer::is_founded);
        Some(if is_founded_elsewhere {
            KeptOut::NotLetIn { node, others }
        } else {
            KeptOut::WaitsFor { node, others }
        })
    }

    /// Why one of this node and a peer refuses the other.
    fn refusal_between<'a>(&self, peer: &'a Peer) -> Option<&'a PeerRefusal> {
        if peer.is_introduced() { None } else { peer.refusal(self.now_ticks) }
    }
}
