//! What a driver asks for beside commands and reads: changes of the membership and handovers, and why they
//! are refused.

use crate::id::{Epoch, NodeId};
use crate::membership::{Change, ChangeError};

/// The driver's name for a request to change the membership, or to hand leadership over.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct RequestId(pub u64);

/// A request to change the membership.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChangeRequest {
    /// The driver's name for it.
    pub request: RequestId,
    /// What is to be changed.
    pub change: Change,
    /// If given, the change is made only in this epoch.
    pub if_epoch: Option<Epoch>,
    /// Makes the change even if no quorum of the new voters is heard from, or if the learner to promote lags
    /// behind. The cluster may then be without a quorum.
    pub is_forced: bool,
}

/// Why the membership is not changed.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ChangeRefusal {
    /// Another replica leads, or none that is known here.
    NotLeader {
        /// The leader, if one is known.
        leader: Option<NodeId>,
    },
    /// Another change is under way.
    UnderWay {
        /// What is changed.
        change: Change,
    },
    /// Leadership is being handed over.
    HandingOver {
        /// To this node.
        to: NodeId,
    },
    /// The leader would lose its vote, or get priority 0. It hands leadership over first: ask its successor.
    LeaderHandsOver {
        /// The successor.
        to: NodeId,
    },
    /// The leader would lose its vote, or get priority 0, and no voter is fit to lead in its place.
    NobodyElseLeads,
    /// The present epoch is not the one that the request expects.
    OtherEpoch {
        /// The present epoch.
        epoch: Epoch,
    },
    /// The change does not fit the membership.
    Impossible(ChangeError),
    /// The leader has not heard from the learner to promote.
    NotHeard {
        /// The learner.
        node: NodeId,
    },
    /// The learner to promote does not know enough of what is chosen yet.
    LearnerLags {
        /// How many chosen slots it does not know.
        slots: u64,
        /// How many it may miss.
        limit_slots: u64,
    },
    /// Fewer of the new voters are heard from than make a quorum.
    NoLiveQuorum {
        /// How many are heard from.
        live: usize,
        /// How many are needed.
        needed: usize,
    },
    /// This replica does not lead any more. The change may still be made by the next leader.
    Lost,
}

impl std::fmt::Display for ChangeRefusal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ChangeRefusal::NotLeader { leader: Some(leader) } => write!(formatter, "node {leader} leads"),
            ChangeRefusal::NotLeader { leader: None } => formatter.write_str("no leader is known"),
            ChangeRefusal::UnderWay { change } => write!(formatter, "another change is under way: {change}"),
            ChangeRefusal::HandingOver { to } => {
                write!(formatter, "leadership is being handed over to node {to}")
            }
            ChangeRefusal::LeaderHandsOver { to } => {
                write!(formatter, "the leader could not lead any more, and hands over to node {to} first")
            }
            ChangeRefusal::NobodyElseLeads => {
                formatter.write_str("the leader could not lead any more, and no other voter is fit to lead")
            }
            ChangeRefusal::OtherEpoch { epoch } => write!(formatter, "the epoch is {epoch}"),
            ChangeRefusal::Impossible(error) => error.fmt(formatter),
            ChangeRefusal::NotHeard { node } => {
                write!(formatter, "the leader does not hear from node {node}")
            }
            ChangeRefusal::LearnerLags { slots, limit_slots } => {
                write!(formatter, "the learner is {slots} slots behind, more than {limit_slots}")
            }
            ChangeRefusal::NoLiveQuorum { live, needed } => {
                write!(formatter, "of the new voters {live} are heard from, and a quorum is {needed}")
            }
            ChangeRefusal::Lost => formatter.write_str("leadership was lost before the change was made"),
        }
    }
}

/// Why leadership is not handed over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum HandoverRefusal {
    /// Another replica leads, or none that is known here.
    NotLeader {
        /// The leader, if one is known.
        leader: Option<NodeId>,
    },
    /// This replica runs phase 1: ask again.
    NotYet,
    /// The membership is being changed: ask again when that has ended.
    ChangeUnderWay,
    /// Leadership is already being handed over.
    UnderWay {
        /// To this node.
        to: NodeId,
    },
    /// The node is no voter.
    NotAVoter {
        /// The node.
        node: NodeId,
    },
    /// The node's priority is 0.
    NeverLeads {
        /// The node.
        node: NodeId,
    },
    /// The leader does not hear from the node.
    NotHeard {
        /// The node.
        node: NodeId,
    },
    /// The node does not know enough of what is chosen.
    Lags {
        /// The node.
        node: NodeId,
        /// How many chosen slots it does not know.
        slots: u64,
        /// How many it may miss.
        limit_slots: u64,
    },
    /// No other voter is fit to lead.
    NobodyElse,
    /// The node has declined.
    Declined {
        /// The node.
        node: NodeId,
    },
    /// The node was not heard from as a leader in time. This replica leads on.
    NotInTime {
        /// The node.
        node: NodeId,
    },
    /// This replica does not lead any more, and no other leader was heard from in time.
    Lost,
}

impl std::fmt::Display for HandoverRefusal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            HandoverRefusal::NotLeader { leader: Some(leader) } => write!(formatter, "node {leader} leads"),
            HandoverRefusal::NotLeader { leader: None } => formatter.write_str("no leader is known"),
            HandoverRefusal::NotYet => formatter.write_str("the leader is in phase 1; ask again"),
            HandoverRefusal::ChangeUnderWay => {
                formatter.write_str("the membership is being changed; ask again")
            }
            HandoverRefusal::UnderWay { to } => {
                write!(formatter, "leadership is already being handed over to node {to}")
            }
            HandoverRefusal::NotAVoter { node } => write!(formatter, "node {node} is no voter"),
            HandoverRefusal::NeverLeads { node } => {
                write!(formatter, "node {node} has priority 0 and never leads")
            }
            HandoverRefusal::NotHeard { node } => {
                write!(formatter, "the leader does not hear from node {node}")
            }
            HandoverRefusal::Lags { node, slots, limit_slots } => {
                write!(formatter, "node {node} is {slots} slots behind, more than {limit_slots}")
            }
            HandoverRefusal::NobodyElse => formatter.write_str("no other voter is fit to lead"),
            HandoverRefusal::Declined { node } => write!(formatter, "node {node} has declined"),
            HandoverRefusal::NotInTime { node } => {
                write!(formatter, "node {node} did not take over in time; the leader goes on")
            }
            HandoverRefusal::Lost => formatter.write_str("leadership was lost, and no successor is known"),
        }
    }
}
