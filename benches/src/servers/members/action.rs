//! What is done to a cluster while its clients write.

use serde::Serialize;

/// One thing that is done, or nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Action {
    Nothing,
    Add,
    Promote,
    RemoveFollower,
    Transfer,
    ReplaceLeader,
    TerminateLeader,
    RemoveLeader,
}

impl Action {
    /// In the order in which a round goes through them.
    pub(super) const ALL: [Action; 8] = [
        Action::Nothing,
        Action::Add,
        Action::Promote,
        Action::RemoveFollower,
        Action::Transfer,
        Action::ReplaceLeader,
        Action::TerminateLeader,
        Action::RemoveLeader,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Action::Nothing => "nothing",
            Action::Add => "add a learner",
            Action::Promote => "promote it",
            Action::RemoveFollower => "remove a follower",
            Action::Transfer => "transfer leadership",
            Action::ReplaceLeader => "replace the leader",
            Action::TerminateLeader => "SIGTERM to the leader",
            Action::RemoveLeader => "remove the leader",
        }
    }

    /// Whether the leader is gone afterwards, so that no client may write through it.
    pub(super) fn ends_leader(self) -> bool {
        matches!(self, Action::ReplaceLeader | Action::TerminateLeader | Action::RemoveLeader)
    }
}
