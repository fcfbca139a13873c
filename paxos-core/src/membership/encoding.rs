//! A membership as bytes: how it stands in the log, in snapshots and in messages.
//!
//! All numbers are little-endian:
//!
//! ```text
//! size
//!    1  version: 1 of the first format level, 2 of all others
//!    2  format level, in version 2; so it is in every later version, too
//!    8  epoch
//!   16  ballot under which it was first proposed, round and node
//!    2  quorums, of phase 1 and of phase 2
//!    1  count of members; each:
//!         8  id
//!         1  role: 1 voter, 2 learner
//!         1  priority
//!         2  length of the address, and the address in UTF-8
//!    4  count of removed members; each:
//!         8  id
//! ```
//!
//! So a cluster of the first level writes what programs that know no levels read, and they refuse all others.
//! A membership of a level that this program does not know is refused whatever else it holds.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{Content, Member, MemberRole, Members, Membership};
use crate::format_level::FormatLevel;
use crate::id::{Ballot, Epoch, NodeId};
use crate::quorum::Quorums;

const VERSION_WITHOUT_LEVEL: u8 = 1;
const VERSION: u8 = 2;
const ROLE_VOTER: u8 = 1;
const ROLE_LEARNER: u8 = 2;

/// The bytes are no membership.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct MalformedMembership;

impl std::fmt::Display for MalformedMembership {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("the bytes are no membership of this version")
    }
}

impl std::error::Error for MalformedMembership {}

impl Membership {
    /// The membership as bytes.
    #[must_use]
    #[expect(clippy::missing_panics_doc, reason = "every membership keeps within the bounds of the layout")]
    pub fn encode(&self) -> Bytes {
        let Content { epoch, ballot, members, quorums, format_level, removed, map: _, are_equals: _ } =
            &*self.0;
        let mut bytes = BytesMut::new();
        if is_told(*format_level) {
            bytes.put_u8(VERSION);
            bytes.put_u16_le(format_level.0);
        } else {
            bytes.put_u8(VERSION_WITHOUT_LEVEL);
        }
        bytes.put_u64_le(epoch.0);
        bytes.put_u64_le(ballot.round);
        bytes.put_u64_le(ballot.node.0);
        bytes.put_u8(small(quorums.prepare()));
        bytes.put_u8(small(quorums.accept()));
        bytes.put_u8(small(members.len()));
        for Member { id, role, address, priority } in members {
            bytes.put_u64_le(id.0);
            bytes.put_u8(match role {
                MemberRole::Voter => ROLE_VOTER,
                MemberRole::Learner => ROLE_LEARNER,
            });
            bytes.put_u8(*priority);
            bytes.put_u16_le(u16::try_from(address.len()).expect("an address has at most 260 bytes"));
            bytes.put_slice(address.as_bytes());
        }
        bytes.put_u32_le(u32::try_from(removed.len()).expect("at most 4096 members were removed"));
        for id in removed {
            bytes.put_u64_le(id.0);
        }
        bytes.freeze()
    }

    /// Parses bytes that come from a peer or a disk.
    ///
    /// # Errors
    ///
    /// [`MalformedMembership`] unless the bytes are exactly a membership that [`encode`](Membership::encode)
    /// could have given.
    pub fn decode(bytes: &[u8]) -> Result<Membership, MalformedMembership> {
        take(bytes).ok_or(MalformedMembership)
    }

    /// The format level that the bytes of a membership tell, also those of one that this program can't
    /// [`decode`](Membership::decode) because it does not know the level. `None` if they tell none.
    #[must_use]
    pub fn peek_format_level(mut bytes: &[u8]) -> Option<FormatLevel> {
        match bytes.try_get_u8().ok()? {
            0 => None,
            VERSION_WITHOUT_LEVEL => Some(FormatLevel::FIRST),
            VERSION.. => bytes.try_get_u16_le().ok().map(FormatLevel),
        }
    }
}

fn take(mut rest: &[u8]) -> Option<Membership> {
    let format_level = match rest.try_get_u8().ok()? {
        VERSION_WITHOUT_LEVEL => FormatLevel::FIRST,
        VERSION => Some(FormatLevel(rest.try_get_u16_le().ok()?))
            .filter(|level| is_told(*level) && level.is_known())?,
        _ => return None,
    };
    let epoch = Epoch(rest.try_get_u64_le().ok()?);
    let ballot = Ballot { round: rest.try_get_u64_le().ok()?, node: NodeId(rest.try_get_u64_le().ok()?) };
    let prepare = usize::from(rest.try_get_u8().ok()?);
    let accept = usize::from(rest.try_get_u8().ok()?);
    let mut members = Vec::new();
    for _ in 0..rest.try_get_u8().ok()? {
        members.push(take_member(&mut rest)?);
    }
    let mut removed = Vec::new();
    for _ in 0..rest.try_get_u32_le().ok()? {
        removed.push(NodeId(rest.try_get_u64_le().ok()?));
    }
    let voters = members.iter().filter(|member| member.role == MemberRole::Voter).count();
    let quorums = Quorums::flexible(voters, prepare, accept)?;
    let content = Content {
        epoch,
        ballot,
        members,
        quorums,
        format_level,
        removed,
        map: Members::new([]),
        are_equals: true,
    };
    rest.is_empty().then(|| content.checked().ok())?
}

/// Whether a membership of this level tells it, so that each has one encoding.
fn is_told(level: FormatLevel) -> bool {
    level > FormatLevel::FIRST
}

fn take_member(rest: &mut &[u8]) -> Option<Member> {
    let id = NodeId(rest.try_get_u64_le().ok()?);
    let role = match rest.try_get_u8().ok()? {
        ROLE_VOTER => MemberRole::Voter,
        ROLE_LEARNER => MemberRole::Learner,
        _ => return None,
    };
    let priority = rest.try_get_u8().ok()?;
    let length = usize::from(rest.try_get_u16_le().ok()?);
    let address = String::from_utf8(rest.split_off(..length)?.to_vec()).ok()?;
    Some(Member { id, role, address, priority })
}

fn small(count: usize) -> u8 {
    u8::try_from(count).expect("a membership has at most 64 members")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::membership::Change;
    use proptest::prelude::*;

    fn membership() -> Membership {
        let members = [1, 2, 3].map(|id| Member::voter(NodeId(id), format!("host-{id}:7000"))).to_vec();
        let founding = Membership::of(members).expect("these members fit");
        let ballot = Ballot { round: 9, node: NodeId(2) };
        let add = Change::AddLearner { node: NodeId(4), address: "host-4:7000".into() };
        let changed = founding.changed(&add, ballot).expect("4 is new");
        changed.changed(&Change::Remove { node: NodeId(1) }, ballot).expect("1 is a member")
    }

    #[test]
    fn what_is_encoded_is_decoded_again() {
        assert_eq!(Membership::decode(&membership().encode()), Ok(membership()));
    }

    #[test]
    fn a_membership_cut_short_or_with_more_behind_it_is_refused() {
        let bytes = membership().encode();
        for length in 0..bytes.len() {
            assert_eq!(Membership::decode(&bytes[..length]), Err(MalformedMembership), "cut to {length}");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(Membership::decode(&longer), Err(MalformedMembership));
        assert!(MalformedMembership.to_string().contains("no membership"));
    }

    fn finalized() -> Membership {
        let finalize = Change::Finalize { level: FormatLevel::NAMED };
        membership().changed(&finalize, Ballot::ZERO).expect("the level is known")
    }

    #[test]
    fn a_membership_of_the_first_level_is_what_programs_without_levels_read_and_others_are_not() {
        assert_eq!(membership().encode()[0], 1);
        let bytes = finalized().encode();
        assert_eq!(&bytes[..3], [2, 2, 0]);
        assert_eq!(Membership::decode(&bytes), Ok(finalized()));
        assert_eq!(Membership::peek_format_level(&bytes), Some(FormatLevel(2)));
        for length in 0..bytes.len() {
            assert_eq!(Membership::decode(&bytes[..length]), Err(MalformedMembership), "cut to {length}");
        }
    }

    #[test]
    fn a_membership_of_an_unknown_level_is_refused_and_its_level_is_told() {
        for (head, level) in [([2, 3, 0], 3), ([2, 1, 0], 1), ([2, 0, 0], 0), ([3, 0, 1], 256)] {
            let mut bytes = finalized().encode().to_vec();
            bytes[..3].copy_from_slice(&head);
            assert_eq!(Membership::decode(&bytes), Err(MalformedMembership));
            assert_eq!(Membership::peek_format_level(&bytes), Some(FormatLevel(level)));
        }
        assert_eq!(Membership::peek_format_level(&membership().encode()), Some(FormatLevel::FIRST));
        assert_eq!(Membership::peek_format_level(&[]), None);
    }

    #[test]
    fn a_membership_in_which_nobody_may_lead_is_refused() {
        const PRIORITY: usize = 28 + 8 + 1;
        let mut bytes = Membership::new(&[NodeId(1)]).expect("this member fits").encode().to_vec();
        assert_eq!(std::mem::replace(&mut bytes[PRIORITY], 0), Member::DEFAULT_PRIORITY);
        assert_eq!(Membership::decode(&bytes), Err(MalformedMembership));
    }

    proptest! {
        #[test]
        fn changed_bytes_give_an_equal_encoding_or_are_refused(at in 0_usize..200, to: u8, is_finalized: bool) {
            let mut bytes = if is_finalized { finalized() } else { membership() }.encode().to_vec();
            let at = at % bytes.len();
            bytes[at] = to;
            if let Ok(decoded) = Membership::decode(&bytes) {
                prop_assert_eq!(&decoded.encode()[..], &bytes[..]);
            }
        }
    }
}
