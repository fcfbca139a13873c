//! Changes of the membership: what can be asked for, and what it makes of the members.

use super::{Content, MAX_ADDRESS_BYTES, MAX_MEMBERS, MAX_REMOVED, Member, MemberRole, Members, Membership};
use crate::format_level::FormatLevel;
use crate::id::{Ballot, Epoch, NodeId};
use crate::mutant::{Mutant, mutated};
use crate::quorum::Quorums;

/// A change of the membership. One at a time is made, each as a value of the log.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Change {
    /// A new member that learns. Its id must never have been a member's.
    AddLearner {
        /// Its id.
        node: NodeId,
        /// Where its peers reach it.
        address: String,
    },
    /// A learner gets a vote.
    Promote {
        /// The learner.
        node: NodeId,
    },
    /// A voter loses its vote and becomes a learner.
    Demote {
        /// The voter.
        node: NodeId,
    },
    /// A member is removed, and its id is never used again.
    Remove {
        /// The member.
        node: NodeId,
    },
    /// A member is reached elsewhere from now on.
    Move {
        /// The member.
        node: NodeId,
        /// Its new address.
        address: String,
    },
    /// A member gets another priority; with 0 it never leads.
    Prioritize {
        /// The member.
        node: NodeId,
        /// Its new priority.
        priority: u8,
    },
    /// The log may hold from now on what only programs know that read this level. The driver must have made
    /// sure that the programs of all members do: one that does not can't take part any more.
    Finalize {
        /// The new level.
        level: FormatLevel,
    },
}

impl Change {
    /// The member that the change is about, if it is about one.
    #[must_use]
    pub fn node(&self) -> Option<NodeId> {
        match self {
            Change::AddLearner { node, .. }
            | Change::Promote { node }
            | Change::Demote { node }
            | Change::Remove { node }
            | Change::Move { node, .. }
            | Change::Prioritize { node, .. } => Some(*node),
            Change::Finalize { .. } => None,
        }
    }
}

impl std::fmt::Display for Change {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Change::AddLearner { node, address } => write!(formatter, "add learner {node} at {address}"),
            Change::Promote { node } => write!(formatter, "promote {node}"),
            Change::Demote { node } => write!(formatter, "demote {node}"),
            Change::Remove { node } => write!(formatter, "remove {node}"),
            Change::Move { node, address } => write!(formatter, "move {node} to {address}"),
            Change::Prioritize { node, priority } => write!(formatter, "give {node} priority {priority}"),
            Change::Finalize { level } => write!(formatter, "finalize format level {level}"),
        }
    }
}

/// Why a change can't be made to a membership.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ChangeError {
    /// 0 is no node's id.
    NoId,
    /// The id was a member's that has been removed.
    WasRemoved {
        /// The id.
        node: NodeId,
    },
    /// The node is a member already.
    AlreadyMember {
        /// Its id.
        node: NodeId,
    },
    /// The node is no member.
    NotAMember {
        /// Its id.
        node: NodeId,
    },
    /// The member has this role already.
    HasRole {
        /// Its id.
        node: NodeId,
        /// The role.
        role: MemberRole,
    },
    /// Another member has this address.
    AddressTaken {
        /// The other member.
        by: NodeId,
    },
    /// The address is empty or longer than [`MAX_ADDRESS_BYTES`].
    AddressLength,
    /// No voter would be left.
    LastVoter,
    /// No voter with a priority above 0 would be left, so nobody could lead.
    NobodyMayLead,
    /// There are [`MAX_MEMBERS`] members.
    TooManyMembers,
    /// [`MAX_REMOVED`] members have been removed.
    TooManyRemoved,
    /// The format level is finalized already, or a higher one is.
    LevelFinalized {
        /// The level that is finalized.
        level: FormatLevel,
    },
    /// This program does not know the format level.
    LevelUnknown {
        /// The level that was asked for.
        level: FormatLevel,
    },
}

impl std::fmt::Display for ChangeError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ChangeError::NoId => formatter.write_str("0 is not a node id; ids start at 1"),
            ChangeError::WasRemoved { node } => {
                write!(formatter, "node {node} was removed, and an id is never used again")
            }
            ChangeError::AlreadyMember { node } => write!(formatter, "node {node} is a member already"),
            ChangeError::NotAMember { node } => write!(formatter, "node {node} is not a member"),
            ChangeError::HasRole { node, role } => write!(formatter, "node {node} is a {role} already"),
            ChangeError::AddressTaken { by } => write!(formatter, "the address is that of node {by}"),
            ChangeError::AddressLength => {
                write!(formatter, "an address must have 1 to {MAX_ADDRESS_BYTES} bytes")
            }
            ChangeError::LastVoter => formatter.write_str("no voter would be left"),
            ChangeError::NobodyMayLead => {
                formatter.write_str("no voter with a priority above 0 would be left, so nobody could lead")
            }
            ChangeError::TooManyMembers => write!(formatter, "there are {MAX_MEMBERS} members, the most"),
            ChangeError::TooManyRemoved => {
                write!(formatter, "{MAX_REMOVED} members have been removed, the most")
            }
            ChangeError::LevelFinalized { level } => {
                write!(formatter, "format level {level} is finalized already, and levels never go back")
            }
            ChangeError::LevelUnknown { level } => {
                write!(
                    formatter,
                    "this program knows format levels up to {}, not {level}",
                    FormatLevel::NEWEST
                )
            }
        }
    }
}

impl std::error::Error for ChangeError {}

impl Membership {
    /// The membership of the next epoch, with `change` made, as a leader first proposes it under `ballot`.
    ///
    /// Majorities stay majorities. Where the sizes of quorums differ, that of phase 2 is kept as far as
    /// there are so many voters, and phase 1 gets the smallest quorum that intersects it.
    ///
    /// # Errors
    ///
    /// [`ChangeError`] if the change does not fit this membership.
    #[expect(clippy::missing_panics_doc, reason = "each change checks what it could break")]
    pub fn changed(&self, change: &Change, ballot: Ballot) -> Result<Membership, ChangeError> {
        let Content { epoch, members, removed, quorums, format_level, .. } = &*self.0;
        let (mut members, mut removed) = (members.clone(), removed.clone());
        let mut format_level =
            if mutated(Mutant::LevelForgotten) { FormatLevel::FIRST } else { *format_level };
        let position = members.iter().position(|member| Some(member.id) == change.node());
        match change {
            Change::AddLearner { node, address } => {
                self.check_new(*node)?;
                self.check_address(*node, address)?;
                members.push(Member::learner(*node, address.clone()));
                members.sort_unstable_by_key(|member| member.id);
            }
            Change::Promote { node } => set_role(&mut members, position, *node, MemberRole::Voter)?,
            Change::Demote { node } => set_role(&mut members, position, *node, MemberRole::Learner)?,
            Change::Remove { node } => {
                let position = position.ok_or(ChangeError::NotAMember { node: *node })?;
                if removed.len() >= MAX_REMOVED {
                    return Err(ChangeError::TooManyRemoved);
                }
                members.remove(position);
                if !mutated(Mutant::RemovedForgotten) {
                    removed.push(*node);
                    removed.sort_unstable();
                }
            }
            Change::Move { node, address } => {
                let position = position.ok_or(ChangeError::NotAMember { node: *node })?;
                self.check_address(*node, address)?;
                members[position].address.clone_from(address);
            }
            Change::Prioritize { node, priority } => {
                let position = position.ok_or(ChangeError::NotAMember { node: *node })?;
                members[position].priority = *priority;
            }
            Change::Finalize { level } => {
                self.check_level(*level)?;
                format_level = *level;
            }
        }
        let voters = members.iter().filter(|member| member.role == MemberRole::Voter).count();
        if voters == 0 {
            return Err(ChangeError::LastVoter);
        }
        if !members.iter().any(Member::may_lead) {
            return Err(ChangeError::NobodyMayLead);
        }
        let quorums = quorums_for(*quorums, self.voters().count(), voters);
        let next = Content {
            epoch: Epoch(epoch.0 + 1),
            ballot,
            members,
            removed,
            quorums,
            format_level,
            map: Members::new([]),
            are_equals: true,
        };
        Ok(next.checked().expect("each change has checked what it could break"))
    }

    fn check_new(&self, node: NodeId) -> Result<(), ChangeError> {
        if node == NodeId(0) {
            Err(ChangeError::NoId)
        } else if self.was_removed(node) {
            Err(ChangeError::WasRemoved { node })
        } else if self.member(node).is_some() {
            Err(ChangeError::AlreadyMember { node })
        } else if self.members().len() >= MAX_MEMBERS {
            Err(ChangeError::TooManyMembers)
        } else {
            Ok(())
        }
    }

    fn check_level(&self, level: FormatLevel) -> Result<(), ChangeError> {
        if level <= self.format_level() {
            Err(ChangeError::LevelFinalized { level: self.format_level() })
        } else if !level.is_known() {
            Err(ChangeError::LevelUnknown { level })
        } else {
            Ok(())
        }
    }

    fn check_address(&self, node: NodeId, address: &str) -> Result<(), ChangeError> {
        if mutated(Mutant::AddressSharedByTwo) {
            return Ok(());
        }
        if address.is_empty() || address.len() > MAX_ADDRESS_BYTES {
            return Err(ChangeError::AddressLength);
        }
        match self.details().iter().find(|member| member.id != node && member.address == address) {
            Some(member) => Err(ChangeError::AddressTaken { by: member.id }),
            None => Ok(()),
        }
    }
}

fn set_role(
    members: &mut [Member],
    position: Option<usize>,
    node: NodeId,
    role: MemberRole,
) -> Result<(), ChangeError> {
    let member = &mut members[position.ok_or(ChangeError::NotAMember { node })?];
    if member.role == role {
        return Err(ChangeError::HasRole { node, role });
    }
    member.role = role;
    Ok(())
}

/// The quorums for `voters` after `before` for another number of voters.
fn quorums_for(before: Quorums, voters_before: usize, voters: usize) -> Quorums {
    if before == Quorums::majority(voters_before) {
        return Quorums::majority(voters);
    }
    let accept = before.accept().min(voters);
    Quorums::flexible(voters, voters + 1 - accept, accept).expect("the two sizes add up to one more than all")
}

#[cfg(test)]
mod tests {
    use super::*;

    const BALLOT: Ballot = Ballot { round: 3, node: NodeId(1) };

    fn three() -> Membership {
        Membership::of([1, 2, 3].map(|id| Member::voter(NodeId(id), format!("host-{id}"))).to_vec())
            .expect("these members fit")
    }

    fn made(membership: &Membership, change: &Change) -> Membership {
        membership.changed(change, BALLOT).unwrap_or_else(|error| panic!("{change}: {error}"))
    }

    fn refused(membership: &Membership, change: &Change) -> ChangeError {
        membership.changed(change, BALLOT).expect_err("the change does not fit")
    }

    fn add(node: u64) -> Change {
        Change::AddLearner { node: NodeId(node), address: format!("host-{node}") }
    }

    #[test]
    fn a_member_comes_as_a_learner_and_is_promoted() {
        let added = made(&three(), &add(4));
        assert_eq!(added.to_string(), "epoch 1: 1 2 3 (4)");
        assert_eq!((added.ballot(), added.quorums()), (BALLOT, Quorums::majority(3)));
        let promoted = made(&added, &Change::Promote { node: NodeId(4) });
        assert_eq!(promoted.to_string(), "epoch 2: 1 2 3 4");
        assert_eq!(promoted.quorums(), Quorums::majority(4));
        let demoted = made(&promoted, &Change::Demote { node: NodeId(1) });
        assert_eq!(demoted.to_string(), "epoch 3: (1) 2 3 4");
        let twice = refused(&demoted, &Change::Promote { node: NodeId(4) });
        assert_eq!(twice, ChangeError::HasRole { node: NodeId(4), role: MemberRole::Voter });
    }

    #[test]
    fn the_format_level_only_goes_up_and_stays_through_other_changes() {
        let finalize = |level| Change::Finalize { level: FormatLevel(level) };
        let finalized = made(&three(), &finalize(2));
        assert_eq!(finalized.to_string(), "epoch 1: 1 2 3, format level 2");
        assert_eq!(finalized.details(), three().details());
        let moved = made(&finalized, &Change::Remove { node: NodeId(3) });
        assert_eq!((moved.format_level(), three().format_level()), (FormatLevel(2), FormatLevel::FIRST));
        for level in [0, 1, 2] {
            let error = ChangeError::LevelFinalized { level: FormatLevel(2) };
            assert_eq!(refused(&finalized, &finalize(level)), error);
        }
        let next = FormatLevel(FormatLevel::NEWEST.0 + 1);
        let unknown = refused(&finalized, &finalize(next.0));
        assert_eq!(unknown, ChangeError::LevelUnknown { level: next });
        assert!(unknown.to_string().contains("up to 2, not 3"), "{unknown}");
    }

    #[test]
    fn an_id_is_used_once() {
        let removed = made(&three(), &Change::Remove { node: NodeId(2) });
        assert_eq!((removed.to_string().as_str(), removed.removed()), ("epoch 1: 1 3", &[NodeId(2)][..]));
        assert_eq!(refused(&removed, &add(2)), ChangeError::WasRemoved { node: NodeId(2) });
        assert_eq!(refused(&removed, &add(3)), ChangeError::AlreadyMember { node: NodeId(3) });
        assert_eq!(refused(&removed, &add(0)), ChangeError::NoId);
        let again = refused(&removed, &Change::Remove { node: NodeId(2) });
        assert_eq!(again, ChangeError::NotAMember { node: NodeId(2) });
    }

    #[test]
    fn an_address_belongs_to_one_member() {
        let elsewhere =
            |node: u64, address: &str| Change::Move { node: NodeId(node), address: address.into() };
        let moved = made(&three(), &elsewhere(2, "other"));
        assert_eq!(moved.member(NodeId(2)).map(|member| member.address.as_str()), Some("other"));
        made(&moved, &elsewhere(2, "other"));
        assert_eq!(refused(&moved, &elsewhere(3, "other")), ChangeError::AddressTaken { by: NodeId(2) });
        assert_eq!(refused(&moved, &elsewhere(3, "")), ChangeError::AddressLength);
        made(&moved, &Change::AddLearner { node: NodeId(4), address: "host-2".into() });
    }

    #[test]
    fn a_voter_always_stays() {
        let mut membership = three();
        for node in [1, 2] {
            membership = made(&membership, &Change::Remove { node: NodeId(node) });
        }
        assert_eq!(refused(&membership, &Change::Remove { node: NodeId(3) }), ChangeError::LastVoter);
        assert_eq!(refused(&membership, &Change::Demote { node: NodeId(3) }), ChangeError::LastVoter);
    }

    #[test]
    fn a_voter_that_may_lead_always_stays() {
        let never = |node: u64| Change::Prioritize { node: NodeId(node), priority: 0 };
        let one_left = made(&made(&three(), &never(1)), &never(2));
        assert_eq!(refused(&one_left, &never(3)), ChangeError::NobodyMayLead);
        assert_eq!(refused(&one_left, &Change::Remove { node: NodeId(3) }), ChangeError::NobodyMayLead);
        assert_eq!(
            refused(&one_left, &Change::Demote { node: NodeId(3) }).to_string(),
            "no voter with a priority above 0 would be left, so nobody could lead"
        );
    }

    #[test]
    fn flexible_quorums_keep_that_of_phase_2_and_still_intersect() {
        let flexible = Quorums::flexible(3, 2, 2).expect("2 + 2 > 3");
        assert_eq!(flexible, Quorums::majority(3), "of three, these are majorities");
        let sizes = |before: (usize, usize, usize), voters| {
            let quorums = Quorums::flexible(before.0, before.1, before.2).expect("these quorums intersect");
            let after = quorums_for(quorums, before.0, voters);
            (after.prepare(), after.accept())
        };
        assert_eq!(sizes((5, 4, 2), 6), (5, 2));
        assert_eq!(sizes((5, 4, 2), 4), (3, 2));
        assert_eq!(sizes((3, 1, 3), 2), (1, 2));
        assert_eq!(sizes((5, 3, 3), 4), (3, 3), "majorities stay majorities");
    }

    #[test]
    fn every_change_and_every_error_is_shown_in_words() {
        let priority = Change::Prioritize { node: NodeId(3), priority: 0 };
        assert_eq!(made(&three(), &priority).member(NodeId(3)).map(|member| member.priority), Some(0));
        assert_eq!(priority.to_string(), "give 3 priority 0");
        assert_eq!(add(4).to_string(), "add learner 4 at host-4");
        assert_eq!(Change::Promote { node: NodeId(4) }.to_string(), "promote 4");
        let error = ChangeError::AddressTaken { by: NodeId(2) };
        assert_eq!(error.to_string(), "the address is that of node 2");
        assert!(ChangeError::WasRemoved { node: NodeId(2) }.to_string().contains("never used again"));
    }
}
