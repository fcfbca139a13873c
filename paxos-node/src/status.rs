//! What a node shows of itself.

use std::sync::Arc;
use std::time::Duration;

use paxos_core::{Ballot, Epoch, FormatLevel, Membership, NodeId, Role, Slot, Standing};
use paxos_storage::FoundingId;
use paxos_transport::{CertificateStatus, PeerStatus};

use crate::runtime::introductions::Nodes;

/// A node whose wall clock differs from the cluster's time by more than this, beside the round trip to the
/// leader, says so in its log.
pub const CLOCK_TOLERANCE: Duration = Duration::from_millis(500);

/// A node's view of itself and of the log, a moment ago.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Status {
    /// The node.
    pub node: NodeId,
    /// Its role in the protocol.
    pub role: Role,
    /// The node that it takes for the leader, if any. It may be mistaken; neither reads nor writes rely on
    /// it.
    pub leader: Option<NodeId>,
    /// The membership in force, as far as it knows; `None` before it has recovered.
    pub membership: Option<Membership>,
    /// What it is in that membership; `None` before it has recovered.
    pub standing: Option<Standing>,
    /// The membership that its cluster was founded with; `None` while it belongs to none.
    pub founding_membership: Option<Membership>,
    /// The format levels that programs of nodes read: of this one, and of the peers that it hears.
    pub known_levels: Arc<[KnownLevels]>,
    /// If it leads: how far the members are. Empty otherwise.
    pub progress: Arc<[MemberProgress]>,
    /// The highest ballot it has promised.
    pub ballot: Ballot,
    /// Every slot up to here is known to be chosen.
    pub chosen: Slot,
    /// Every slot up to here is applied.
    pub applied: Slot,
    /// The highest slot that any peer has reported as chosen: this node has to catch up to it.
    pub known_chosen: Slot,
    /// The founding of the cluster that it is a member of; `None` while it belongs to none, or if the
    /// founding has no name yet.
    pub founding: Option<FoundingId>,
    /// Whether it is a member of a cluster, so that it may promise and accept values.
    pub is_founded: bool,
    /// While it is not: the nodes that it still has to meet, or that still have to meet each other, before
    /// the cluster is founded.
    pub waiting_for: Vec<NodeId>,
    /// Peers that this node refuses, or that refuse it; the log says why.
    pub refused: Vec<NodeId>,
    /// Set while this node repairs damage to its log: the last slot for which it has lost what it had
    /// accepted. Meanwhile it accepts and applies, but neither promises nor leads.
    pub repairs_through: Option<Slot>,
    /// Peers whose state differs from that of this node, though both have applied the same slots.
    pub diverged: Vec<NodeId>,
    /// Whether there are such peers, and no majority of the members, this node included, has this node's
    /// state: it may be the one that is wrong.
    pub is_in_doubt: bool,
    /// A digest of the state, as of a slot that may lie a little behind `applied`.
    pub digest: Digest,
    /// By how many milliseconds the node's wall clock is ahead of the [cluster's time](crate::guide::time), a
    /// second ago or less; negative if it is behind, `None` if the node knows no leader. It is too high by
    /// the delay of the last heartbeat.
    pub clock_ahead_ms: Option<i64>,
    /// How many messages and connections of peers could not be decoded since this node was started. Anything
    /// but 0 means that a node is faulty, or of a version that this one does not know.
    pub misunderstood: u64,
    /// Set while the node recovers what its storage holds: it takes part in nothing yet.
    pub recovering: Option<Recovering>,
    /// How its peers are connected, a second ago or less.
    pub peers: Arc<[PeerStatus]>,
    /// When the certificates end by which it and its peers know each other.
    pub certificates: Arc<[CertificateStatus]>,
}

/// How far a member is, as far as the leader knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct MemberProgress {
    /// The member.
    pub node: NodeId,
    /// Every slot up to here is known to it to be chosen.
    pub chosen: Slot,
    /// The bytes of the chosen values after that slot, as far as the leader has applied them, rounded up by
    /// what it applied within a tick, or, for a member far behind, by two parts in a hundred; `None` if the
    /// member lags from before the snapshot that the leader was started with or has caught up by.
    pub lag_bytes: Option<u64>,
    /// Whether the leader has heard from it within an election timeout.
    pub is_heard: bool,
}

/// The format levels that the program of a node reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct KnownLevels {
    /// The node.
    pub node: NodeId,
    /// The oldest level.
    pub oldest: FormatLevel,
    /// The newest level.
    pub newest: FormatLevel,
}

/// A digest of the state after a slot: nodes with digests of the same slot have equal ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Digest {
    /// Every slot up to here was applied to the state, and no other.
    pub slot: Slot,
    /// The result of [`StateMachine::digest`](crate::StateMachine::digest).
    pub value: u64,
}

/// How far the recovery of a node has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Recovering {
    /// It has not begun to read anything.
    Starting,
    /// It asks members of a running cluster who the members are, and none has answered yet.
    Joining,
    /// It reads its log.
    Log {
        /// How much of it, if the storage tells.
        percent: Option<u8>,
    },
    /// It restores the state from its newest snapshot.
    Snapshot {
        /// How many bytes it has read.
        done_bytes: u64,
        /// How many bytes the snapshot has.
        size_bytes: u64,
    },
}

impl std::fmt::Display for Recovering {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Recovering::Starting => formatter.write_str("starting"),
            Recovering::Joining => formatter.write_str("asking who the members are: none has answered yet"),
            Recovering::Log { percent: None } => formatter.write_str("replaying the log"),
            Recovering::Log { percent: Some(percent) } => {
                write!(formatter, "replaying the log: {percent} %")
            }
            Recovering::Snapshot { done_bytes, size_bytes } => {
                let percent = u128::from(*done_bytes) * 100 / u128::from(*size_bytes).max(1);
                write!(formatter, "reading the snapshot: {} %", percent.min(100))
            }
        }
    }
}

impl Status {
    /// How many slots are known to be chosen and not applied here yet.
    #[must_use]
    pub fn lag(&self) -> u64 {
        self.known_chosen.0.saturating_sub(self.applied.0)
    }

    /// The epoch of the membership in force, as far as the node knows.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.membership.as_ref().map_or(Epoch(0), Membership::epoch)
    }

    /// The format level that the cluster has finalized, as far as the node knows.
    #[must_use]
    pub fn format_level(&self) -> FormatLevel {
        self.membership.as_ref().map_or(FormatLevel::FIRST, Membership::format_level)
    }

    /// The newest format level that the program of a member reads, if that is known.
    #[must_use]
    pub fn newest_level_of(&self, node: NodeId) -> Option<FormatLevel> {
        self.known_levels.iter().find(|known| known.node == node).map(|known| known.newest)
    }

    /// How many chosen slots a member does not know yet, if this node leads.
    #[must_use]
    pub fn lag_of(&self, node: NodeId) -> Option<u64> {
        let progress = self.progress.iter().find(|progress| progress.node == node)?;
        Some(self.chosen.0.saturating_sub(progress.chosen.0))
    }

    /// Whether the node is a member of a cluster, knows a leader, has applied everything that it knows to be
    /// chosen, and repairs nothing.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.why_not_ready().is_none()
    }

    /// What keeps the node from being ready, in words.
    #[must_use]
    pub fn why_not_ready(&self) -> Option<String> {
        if let Some(recovering) = self.recovering {
            return Some(recovering.to_string());
        }
        if !self.is_founded {
            let reason = "belongs to no cluster yet";
            return Some(match &self.waiting_for[..] {
                [] => String::from(reason),
                nodes => format!("{reason}: waiting to meet {}", Nodes(nodes)),
            });
        }
        match self.standing {
            Some(Standing::Removed { .. }) => return Some(String::from("was removed from the cluster")),
            Some(Standing::Outsider) => return Some(String::from("was not added to the cluster yet")),
            _ => {}
        }
        if self.is_in_doubt {
            return Some(format!("its state differs from that of {}", Nodes(&self.diverged)));
        }
        if self.leader.is_none() {
            return Some(String::from("no leader"));
        }
        match (self.lag(), self.repairs_through) {
            (0, None) => None,
            (0, Some(through)) => Some(format!("learning anew what was lost, through slot {through}")),
            (1, _) => Some(String::from("catching up: 1 slot")),
            (slots, _) => Some(format!("catching up: {slots} slots")),
        }
    }
}

impl Status {
    /// What keeps the node from having started, in words: as [`why_not_ready`](Status::why_not_ready), but
    /// without what only nodes could change that are not there. A node has started once it has recovered,
    /// even if it is alone; but while a quorum is connected it has to have a leader and to catch up first.
    ///
    /// So nodes can be started one after the other, each when the one before has started. It does not mean
    /// that the node serves clients.
    #[must_use]
    pub fn why_not_started(&self) -> Option<String> {
        let reason = self.why_not_ready()?;
        let lacks_others = self.recovering.is_none()
            && match self.standing {
                _ if !self.is_founded => !self.waiting_for.is_empty(),
                Some(Standing::Voter | Standing::Learner) => !self.is_in_doubt && !self.reaches_quorum(),
                _ => false,
            };
        (!lacks_others).then_some(reason)
    }

    /// Whether a quorum of voters is connected, this node included, and not refused.
    fn reaches_quorum(&self) -> bool {
        let Some(membership) = &self.membership else { return false };
        let is_reached = |voter: &NodeId| {
            let is_connected = self.peers.iter().any(|status| status.peer == *voter && status.is_connected);
            *voter == self.node || (is_connected && !self.refused.contains(voter))
        };
        let quorums = membership.quorums();
        membership.voters().filter(is_reached).count() >= quorums.prepare().max(quorums.accept())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A founded member of three, connected with these others.
    fn connected(others: &[u64]) -> Status {
        let membership = Membership::new(&[NodeId(1), NodeId(2), NodeId(3)]).expect("they are distinct");
        let standing = Some(Standing::Voter);
        let peers = others.iter().map(|peer| PeerStatus::new(NodeId(*peer), true)).collect();
        let membership = Some(membership);
        Status { node: NodeId(1), membership, standing, peers, is_founded: true, ..Status::default() }
    }

    #[test]
    fn a_node_that_has_recovered_has_started_though_the_others_are_not_there() {
        assert_eq!(connected(&[]).why_not_started(), None);
        let new = Status { waiting_for: vec![NodeId(3)], is_founded: false, ..connected(&[2]) };
        assert_eq!(new.why_not_started(), None, "the third founder may be started next");
        assert_eq!(
            Status { refused: vec![NodeId(2)], ..connected(&[2]) }.why_not_started(),
            None,
            "a peer that was refused makes no quorum"
        );
    }

    #[test]
    fn a_node_has_not_started_while_it_waits_for_nobody_who_is_away() {
        assert_eq!(connected(&[2]).why_not_started().as_deref(), Some("no leader"));
        let lags = Status { leader: Some(NodeId(2)), known_chosen: Slot(2), ..connected(&[2]) };
        assert_eq!(lags.why_not_started().as_deref(), Some("catching up: 2 slots"));
        let recovering = Status { recovering: Some(Recovering::Starting), ..connected(&[]) };
        assert_eq!(recovering.why_not_started().as_deref(), Some("starting"));
        let doubts = Status { is_in_doubt: true, diverged: vec![NodeId(2)], ..connected(&[]) };
        assert!(doubts.why_not_started().is_some(), "a person is needed");
        let outsider = Status { standing: Some(Standing::Outsider), ..connected(&[]) };
        assert_eq!(outsider.why_not_started().as_deref(), Some("was not added to the cluster yet"));
    }

    #[test]
    fn what_a_node_that_recovers_waits_for_is_told_with_its_progress() {
        let told = |recovering| Status { recovering: Some(recovering), ..Status::default() }.why_not_ready();
        for (recovering, words) in [
            (Recovering::Starting, "starting"),
            (Recovering::Log { percent: None }, "replaying the log"),
            (Recovering::Log { percent: Some(40) }, "replaying the log: 40 %"),
            (Recovering::Snapshot { done_bytes: 12, size_bytes: 100 }, "reading the snapshot: 12 %"),
            (Recovering::Snapshot { done_bytes: 0, size_bytes: 0 }, "reading the snapshot: 0 %"),
        ] {
            assert_eq!(told(recovering).as_deref(), Some(words));
        }
    }

    #[test]
    fn a_node_that_has_recovered_tells_what_it_lacks() {
        let mut status = Status { is_founded: true, ..Status::default() };
        assert_eq!(status.why_not_ready().as_deref(), Some("no leader"));
        status.leader = Some(NodeId(1));
        status.known_chosen = Slot(1234);
        assert_eq!(status.why_not_ready().as_deref(), Some("catching up: 1234 slots"));
        status.applied = Slot(1233);
        assert_eq!(status.why_not_ready().as_deref(), Some("catching up: 1 slot"));
        status.applied = Slot(1234);
        assert!(status.is_ready());
    }
}
