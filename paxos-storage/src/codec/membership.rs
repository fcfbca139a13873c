//! A membership on disk: the bytes of [`Membership::encode`], described elsewhere by length and checksum.

use bytes::{Buf, BufMut};
use paxos_core::{FormatLevel, MAX_ADDRESS_BYTES, MAX_MEMBERS, MAX_REMOVED, Membership};

use super::DecodeError;

/// The longest encoding of a membership, in bytes: with all members, the longest addresses, and as many
/// removed members as are remembered.
pub(crate) const MAX_MEMBERSHIP_BYTES: usize =
    30 + MAX_MEMBERS * (12 + MAX_ADDRESS_BYTES) + 4 + MAX_REMOVED * size_of::<u64>();

/// Length and checksum of an encoded membership.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct MembershipSum {
    size_bytes: u32,
    checksum: u32,
}

impl MembershipSum {
    /// The length of a sum in META.
    pub(crate) const BYTES: usize = 8;

    pub(crate) fn of(encoded: &[u8]) -> MembershipSum {
        assert!(encoded.len() <= MAX_MEMBERSHIP_BYTES, "the parts of a membership are bounded");
        let size_bytes = u32::try_from(encoded.len()).expect("far below 4 GiB");
        MembershipSum { size_bytes, checksum: crc32c::crc32c(encoded) }
    }

    /// The length of the encoded membership.
    pub(crate) fn size_bytes(self) -> usize {
        self.size_bytes as usize
    }

    /// The membership at the start of `bytes`, if it is the one that was summed up.
    pub(crate) fn decode(self, bytes: &[u8]) -> Option<Membership> {
        let encoded = bytes.get(..self.size_bytes())?;
        (crc32c::crc32c(encoded) == self.checksum).then(|| Membership::decode(encoded).ok())?
    }

    /// The membership whose encoding is `bytes`, which have a right checksum of their own.
    pub(crate) fn read(self, bytes: &[u8]) -> Result<Membership, DecodeError> {
        let membership = self.decode(bytes).filter(|_| bytes.len() == self.size_bytes());
        membership.ok_or_else(|| match Membership::peek_format_level(bytes) {
            Some(level) if level > FormatLevel::NEWEST => DecodeError::UnknownLevel(level),
            _ => DecodeError::UnknownContent("a membership with an unknown layout"),
        })
    }

    /// Writes the sum of a membership, or zeros if there is none.
    pub(crate) fn put(sum: Option<MembershipSum>, to: &mut impl BufMut) {
        to.put_u32_le(sum.map_or(0, |sum| sum.size_bytes));
        to.put_u32_le(sum.map_or(0, |sum| sum.checksum));
    }

    /// Reads what [`put`](MembershipSum::put) has written. The error is a length that no membership has.
    pub(crate) fn take(from: &mut impl Buf) -> Result<Option<MembershipSum>, ()> {
        let sum = MembershipSum { size_bytes: from.get_u32_le(), checksum: from.get_u32_le() };
        match sum.size_bytes() {
            0 => Ok(None),
            size_bytes if size_bytes <= MAX_MEMBERSHIP_BYTES => Ok(Some(sum)),
            _ => Err(()),
        }
    }
}

/// The membership with the longest encoding.
#[cfg(test)]
pub(crate) fn longest_membership() -> Membership {
    use paxos_core::{Ballot, Change, Member, NodeId};
    let node = |number: usize| NodeId(u64::try_from(number).expect("a small number") + 1);
    let member = |number| Member::voter(node(number), format!("{number:0>MAX_ADDRESS_BYTES$}"));
    let members = Membership::of((0..MAX_MEMBERS).map(member).collect()).expect("they fit");
    let finalize = Change::Finalize { level: FormatLevel::NEWEST };
    let members = members.changed(&finalize, Ballot::ZERO).expect("the level is known");
    let mut encoded = members.encode().to_vec();
    encoded.truncate(encoded.len() - 4);
    encoded.put_u32_le(u32::try_from(MAX_REMOVED).expect("a small number"));
    (MAX_MEMBERS..MAX_MEMBERS + MAX_REMOVED).for_each(|number| encoded.put_u64_le(node(number).0));
    Membership::decode(&encoded).expect("as many may be removed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_membership_is_as_long_as_the_bound() {
        let encoded = longest_membership().encode();
        assert_eq!(encoded.len(), MAX_MEMBERSHIP_BYTES);
        assert_eq!(MembershipSum::of(&encoded).decode(&encoded), Some(longest_membership()));
    }

    #[test]
    fn a_membership_that_is_cut_short_or_altered_is_refused() {
        let mut encoded = longest_membership().encode().to_vec();
        let sum = MembershipSum::of(&encoded);
        assert_eq!(sum.decode(&encoded[1..]), None);
        encoded[30] ^= 1;
        assert_eq!(sum.decode(&encoded), None);
    }
}
