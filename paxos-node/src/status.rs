//! What a node knows about itself.

use paxos_core::{Ballot, NodeId, Role, Slot};

/// A node's view of itself and of the log, as of some moment of the recent past.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Status {
    /// The node.
    pub node: NodeId,
    /// What it is doing.
    pub role: Role,
    /// Whom it takes for the leader, if anyone. May be mistaken; reads and writes never rely on it.
    pub leader: Option<NodeId>,
    /// The highest ballot it has promised.
    pub ballot: Ballot,
    /// Every slot up to here is known to be chosen.
    pub chosen: Slot,
    /// Every slot up to here is applied.
    pub applied: Slot,
    /// The highest chosen slot that any peer has told of: how far this node has to go.
    pub known_chosen: Slot,
    /// Set while this node makes up for damage to its log: the last slot of which it has lost what it had accepted. It
    /// accepts and applies meanwhile, but neither promises nor leads.
    pub repairs_through: Option<Slot>,
}

impl Status {
    /// How many slots are known to be chosen and not yet applied here.
    #[must_use]
    pub fn lag(&self) -> u64 {
        self.known_chosen.0.saturating_sub(self.applied.0)
    }

    /// Whether the node knows a leader, has applied all that it knows to be chosen, and misses nothing of its log.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.leader.is_some() && self.lag() == 0 && self.repairs_through.is_none()
    }
}
