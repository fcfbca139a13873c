//! The members of the cluster in the answers to operators and to `/status`.

use paxos_core::Membership;
use serde::{Deserialize, Serialize};

use crate::status::Status;

/// A member, as far as the node that answers knows.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MemberReport {
    /// Its id.
    pub id: u64,
    /// `voter` or `learner`.
    pub role: String,
    /// Where its peers reach it.
    pub address: String,
    /// A voter with a higher priority runs for leader sooner; with 0 it never leads.
    pub priority: u8,
    /// How many chosen slots it does not know yet. Only the leader knows.
    pub lag_slots: Option<u64>,
    /// The bytes of these slots' values, if the leader knows:
    /// [`MemberProgress::lag_bytes`](crate::MemberProgress::lag_bytes).
    #[serde(default)]
    pub lag_bytes: Option<u64>,
    /// Whether the leader has heard from it lately. Only the leader knows.
    pub is_heard: Option<bool>,
    /// The newest format level that its program reads; none if it was not heard lately, or if the node that
    /// answers is from before there were levels.
    #[serde(default)]
    pub newest_level: Option<u16>,
}

impl MemberReport {
    /// The members that `status` shows.
    #[must_use]
    pub fn all(status: &Status) -> Vec<MemberReport> {
        let members = status.membership.iter().flat_map(Membership::details);
        let report = |member: &paxos_core::Member| {
            let progress = status.progress.iter().find(|progress| progress.node == member.id);
            MemberReport {
                id: member.id.0,
                role: member.role.to_string(),
                address: member.address.clone(),
                priority: member.priority,
                lag_slots: status.lag_of(member.id),
                lag_bytes: progress.and_then(|progress| progress.lag_bytes),
                is_heard: progress.map(|progress| progress.is_heard),
                newest_level: status.newest_level_of(member.id).map(|level| level.0),
            }
        };
        members.map(report).collect()
    }

    /// Whether it votes.
    #[must_use]
    pub fn is_voter(&self) -> bool {
        self.role == "voter"
    }
}
