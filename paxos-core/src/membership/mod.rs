//! The configuration of the cluster: its members, their quorums and its number, the epoch.
//!
//! A [`Membership`] is a value of the log. It takes effect for all slots behind its own, and whoever counts
//! quorums for a slot counts them among the voters of the membership that is in force there. The first one,
//! of epoch 0, founds the cluster; each one after it is made from the one before by a [`Change`].
//!
//! How many voters are enough is the matter of [`Quorums`].

mod change;
mod encoding;
mod members;

use std::sync::Arc;

pub use self::change::{Change, ChangeError};
pub use self::encoding::MalformedMembership;
pub(crate) use self::members::{MemberIndex, MemberSet, Members, PerMember};

use crate::config::error::{ConfigError, check};
use crate::format_level::FormatLevel;
use crate::id::{Ballot, Epoch, NodeId};
use crate::mutant::{Mutant, mutated};
use crate::quorum::Quorums;

/// The most members a configuration may have, voters and learners together.
pub const MAX_MEMBERS: usize = 64;

/// The longest address of a member, in bytes: a host name has up to 253, a port 5.
pub const MAX_ADDRESS_BYTES: usize = 260;

/// How many ids of removed members a cluster remembers. No more members can be removed then.
pub const MAX_REMOVED: usize = 4096;

/// A configuration of the cluster. Cheap to clone: clones share one content.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Membership(Arc<Content>);

#[derive(Clone, PartialEq, Eq, Debug)]
struct Content {
    epoch: Epoch,
    /// The ballot under which this membership was first proposed; [`Ballot::ZERO`] for a founding one.
    ballot: Ballot,
    /// In ascending order of ids.
    members: Vec<Member>,
    quorums: Quorums,
    /// What the log may hold behind this membership.
    format_level: FormatLevel,
    /// The ids of all members that were ever removed, in ascending order.
    removed: Vec<NodeId>,
    /// Ids and votes of `members`.
    map: Members,
    /// Whether all voters have the same priority.
    are_equals: bool,
}

/// One member of a configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Member {
    /// Its name for ever.
    pub id: NodeId,
    /// Whether it votes.
    pub role: MemberRole,
    /// Where its peers reach it, in the form that the transport understands. The protocol only makes sure
    /// that no two members share one. Empty where a transport needs none.
    pub address: String,
    /// A voter with a higher priority runs for leader sooner; with 0 it never does. Some voter has a higher
    /// one. A leader that finds its own to be 0 leads on only until another voter can take over.
    pub priority: u8,
}

/// What a member does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum MemberRole {
    /// Counts in quorums, and may lead.
    Voter,
    /// Gets all that is chosen, counts in no quorum, and never leads.
    Learner,
}

impl std::fmt::Display for MemberRole {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            MemberRole::Voter => "voter",
            MemberRole::Learner => "learner",
        })
    }
}

impl Member {
    /// The priority of a member for which none was chosen.
    pub const DEFAULT_PRIORITY: u8 = 1;

    /// A voter with the default priority.
    #[must_use]
    pub fn voter(id: NodeId, address: impl Into<String>) -> Member {
        Member { id, role: MemberRole::Voter, address: address.into(), priority: Member::DEFAULT_PRIORITY }
    }

    /// A learner with the default priority.
    #[must_use]
    pub fn learner(id: NodeId, address: impl Into<String>) -> Member {
        Member { role: MemberRole::Learner, ..Member::voter(id, address) }
    }

    /// The same member with another priority.
    #[must_use]
    pub fn with_priority(self, priority: u8) -> Member {
        Member { priority, ..self }
    }

    /// Whether it is a voter whose priority lets it lead.
    pub(crate) fn may_lead(&self) -> bool {
        self.role == MemberRole::Voter && self.priority > 0
    }
}

impl Membership {
    /// Voters without addresses, in any order, in epoch 0, with majorities as quorums.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if there are more than [`MAX_MEMBERS`], one is named twice, or one has the id 0.
    pub fn new(members: &[NodeId]) -> Result<Membership, ConfigError> {
        Membership::of(members.iter().map(|&id| Member::voter(id, "")).collect())
    }

    /// These members, in any order, in epoch 0, with majorities of the voters as quorums.
    ///
    /// # Errors
    ///
    /// As [`new`](Membership::new), and if an address is too long or that of two members, if learners have
    /// no voter to learn from, or if all voters have priority 0, as nobody could ever lead.
    pub fn of(mut members: Vec<Member>) -> Result<Membership, ConfigError> {
        members.sort_unstable_by_key(|member| member.id);
        let voters = members.iter().filter(|member| member.role == MemberRole::Voter).count();
        let content = Content {
            epoch: Epoch(0),
            ballot: Ballot::ZERO,
            map: Members::new([]),
            are_equals: true,
            quorums: Quorums::majority(voters),
            format_level: FormatLevel::FIRST,
            removed: Vec::new(),
            members,
        };
        content.checked()
    }

    /// The same members in another epoch. Replicas don't count votes of any other epoch than their own.
    #[must_use]
    pub fn in_epoch(self, epoch: Epoch) -> Membership {
        Membership(Arc::new(Content { epoch, ..Arc::unwrap_or_clone(self.0) }))
    }

    /// The same members with other quorums than majorities.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if the quorums were made for another number of voters.
    pub fn with_quorums(self, quorums: Quorums) -> Result<Membership, ConfigError> {
        check(quorums.fit(self.voters().count()), "the quorums are not for this number of members")?;
        Ok(Membership(Arc::new(Content { quorums, ..Arc::unwrap_or_clone(self.0) })))
    }

    /// The number of this configuration.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.0.epoch
    }

    /// The ballot under which this membership was first proposed. Whoever knows the membership has promised
    /// it, so its leader needs no phase 1 in the new epoch. [`Ballot::ZERO`] for a founding membership.
    #[must_use]
    pub fn ballot(&self) -> Ballot {
        self.0.ballot
    }

    /// The level that is finalized: what the log may hold behind this membership.
    #[must_use]
    pub fn format_level(&self) -> FormatLevel {
        self.0.format_level
    }

    /// The ids of all members, voters and learners, in ascending order.
    #[must_use]
    pub fn members(&self) -> &[NodeId] {
        self.0.map.ids()
    }

    /// All members in ascending order of ids.
    #[must_use]
    pub fn details(&self) -> &[Member] {
        &self.0.members
    }

    /// The ids of all voters in ascending order.
    pub fn voters(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.0.members.iter().filter(|member| member.role == MemberRole::Voter).map(|member| member.id)
    }

    /// The ids of all learners in ascending order.
    pub fn learners(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.0.members.iter().filter(|member| member.role == MemberRole::Learner).map(|member| member.id)
    }

    /// The member with this id.
    #[must_use]
    pub fn member(&self, id: NodeId) -> Option<&Member> {
        let position = self.0.members.binary_search_by_key(&id, |member| member.id).ok()?;
        Some(&self.0.members[position])
    }

    /// Whether `id` is a member that votes.
    #[must_use]
    pub fn is_voter(&self, id: NodeId) -> bool {
        self.member(id).is_some_and(|member| member.role == MemberRole::Voter)
    }

    /// Whether `id` is a voter whose priority lets it lead.
    #[must_use]
    pub fn may_lead(&self, id: NodeId) -> bool {
        self.member(id).is_some_and(Member::may_lead)
    }

    /// Whether `id` was a member once and was removed. It never comes back.
    #[must_use]
    pub fn was_removed(&self, id: NodeId) -> bool {
        self.0.removed.binary_search(&id).is_ok()
    }

    /// The ids of all members that were ever removed, in ascending order.
    #[must_use]
    pub fn removed(&self) -> &[NodeId] {
        &self.0.removed
    }

    /// How many voters make a quorum.
    #[must_use]
    pub fn quorums(&self) -> Quorums {
        self.0.quorums
    }

    /// Whether another voter has a higher priority than `id`.
    pub(crate) fn is_preceded(&self, id: NodeId) -> bool {
        if self.0.are_equals {
            return false;
        }
        let own = self.member(id).map_or(0, |member| member.priority);
        self.details().iter().any(|member| member.role == MemberRole::Voter && member.priority > own)
    }

    pub(crate) fn member_map(&self) -> &Members {
        &self.0.map
    }
}

impl Content {
    /// Checks what every membership promises, and builds the index.
    fn checked(mut self) -> Result<Membership, ConfigError> {
        let members = &self.members;
        check(members.is_sorted_by(|one, next| one.id < next.id), "a node is named twice among the members")?;
        check(members.iter().all(|member| member.id != NodeId(0)), "0 is not a node id; ids start at 1")?;
        check(members.len() <= MAX_MEMBERS, "there are more than 64 members")?;
        check(
            members.iter().all(|member| member.address.len() <= MAX_ADDRESS_BYTES),
            "a member's address is longer than 260 bytes",
        )?;
        let mut addresses: Vec<&str> = members.iter().map(|member| member.address.as_str()).collect();
        addresses.retain(|address| !address.is_empty());
        addresses.sort_unstable();
        let are_distinct = addresses.is_sorted_by(|one, next| one < next);
        check(are_distinct || mutated(Mutant::AddressSharedByTwo), "two members have the same address")?;
        let voters = members.iter().filter(|member| member.role == MemberRole::Voter).count();
        check(voters > 0 || members.is_empty(), "no member is a voter")?;
        let has_leader = members.iter().any(Member::may_lead);
        check(has_leader || members.is_empty(), "every voter has priority 0, and nobody could lead")?;
        check(
            self.quorums.fit(voters) || members.is_empty(),
            "the quorums are not for this number of members",
        )?;
        check(self.removed.is_sorted_by(|one, next| one < next), "a node is named twice among the removed")?;
        check(self.removed.len() <= MAX_REMOVED, "more than 4096 members were removed")?;
        check(
            members.iter().all(|member| self.removed.binary_search(&member.id).is_err()),
            "a member was removed before",
        )?;
        let mut priorities = members.iter().filter(|member| member.role == MemberRole::Voter);
        let first = priorities.next().map(|voter| voter.priority);
        self.are_equals = priorities.all(|voter| Some(voter.priority) == first);
        self.map = Members::new(members.iter().map(|member| (member.id, member.role == MemberRole::Voter)));
        Ok(Membership(Arc::new(self)))
    }
}

/// The epoch and the members, learners in brackets, and the format level if it is not the first one, for
/// traces and logs.
impl std::fmt::Display for Membership {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "epoch {}:", self.epoch())?;
        for member in self.details() {
            match member.role {
                MemberRole::Voter => write!(formatter, " {}", member.id)?,
                MemberRole::Learner => write!(formatter, " ({})", member.id)?,
            }
        }
        match self.format_level() {
            FormatLevel::FIRST => Ok(()),
            level => write!(formatter, ", format level {level}"),
        }
    }
}

#[cfg(test)]
impl Membership {
    /// The founding membership of tests for which its members do not matter: nodes 1, 2 and 3.
    pub(crate) fn of_three() -> Membership {
        Membership::new(&[1, 2, 3].map(NodeId)).expect("these members fit")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(members: &[u64]) -> &'static str {
        let members: Vec<NodeId> = members.iter().copied().map(NodeId).collect();
        Membership::new(&members).expect_err("these members do not fit").problem
    }

    fn problem_of(members: Vec<Member>) -> &'static str {
        Membership::of(members).expect_err("these members do not fit").problem
    }

    #[test]
    fn members_are_distinct_few_enough_and_have_names() {
        assert!(problem(&[1, 2, 2]).contains("twice"));
        assert!(problem(&[0, 1]).contains("ids start at 1"));
        let many: Vec<u64> = (1..=65).collect();
        assert!(problem(&many).contains("more than 64"));
    }

    #[test]
    fn no_two_members_share_an_address_and_none_is_too_long() {
        let twice = vec![Member::voter(NodeId(1), "a:1"), Member::learner(NodeId(2), "a:1")];
        assert!(problem_of(twice).contains("same address"));
        let long = vec![Member::voter(NodeId(1), "a".repeat(MAX_ADDRESS_BYTES + 1))];
        assert!(problem_of(long).contains("longer"));
    }

    #[test]
    fn some_voter_may_lead() {
        let never = |id| Member::voter(NodeId(id), "").with_priority(0);
        assert!(problem_of(vec![never(1), never(2)]).contains("nobody could lead"));
        assert!(problem_of(vec![never(1), Member::learner(NodeId(2), "")]).contains("nobody could lead"));
        let one_may = Membership::of(vec![never(1), Member::voter(NodeId(2), "")]).expect("node 2 may lead");
        assert!(one_may.may_lead(NodeId(2)) && !one_may.may_lead(NodeId(1)));
    }

    #[test]
    fn learners_are_members_without_a_vote() {
        assert!(problem_of(vec![Member::learner(NodeId(1), "")]).contains("no member is a voter"));
        let members = vec![Member::learner(NodeId(7), "c"), Member::voter(NodeId(3), "b").with_priority(4)];
        let membership = Membership::of(members).expect("these members fit");
        assert_eq!(membership.members(), [3, 7].map(NodeId));
        assert_eq!(membership.voters().collect::<Vec<_>>(), [NodeId(3)]);
        assert_eq!(membership.learners().collect::<Vec<_>>(), [NodeId(7)]);
        assert_eq!(membership.quorums(), Quorums::majority(1));
        assert_eq!(membership.member(NodeId(3)).map(|member| member.priority), Some(4));
        assert!(membership.is_voter(NodeId(3)) && !membership.is_voter(NodeId(7)));
        assert_eq!(membership.to_string(), "epoch 0: 3 (7)");
    }

    #[test]
    fn quorums_and_epoch_can_be_set() {
        let membership = Membership::new(&[NodeId(2), NodeId(1), NodeId(3)]).expect("these members fit");
        assert_eq!((membership.epoch(), membership.quorums()), (Epoch(0), Quorums::majority(3)));
        assert_eq!(membership.members(), [1, 2, 3].map(NodeId));
        let of_five = Quorums::flexible(5, 4, 2).expect("4 + 2 > 5");
        let error = membership.clone().with_quorums(of_five).expect_err("there are but three members");
        assert!(error.problem.contains("quorums"));
        let flexible = Quorums::flexible(3, 3, 1).expect("3 + 1 > 3");
        let changed = membership.in_epoch(Epoch(7)).with_quorums(flexible).expect("they are for three");
        assert_eq!((changed.epoch(), changed.quorums()), (Epoch(7), flexible));
    }
}
