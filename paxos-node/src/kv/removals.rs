//! When keys were removed, as far as the watch of a missing key has to know it.
//!
//! A key that is there tells by its revision whether it has changed. One that is missing tells nothing: it
//! may have been created and removed again. So the store remembers the last removal of a key, for groups of
//! keys that share a place in a table. A watch of a missing key that meets the removal of another one of its
//! group takes it for a change; it never misses one.
//!
//! The table is part of the replicated state and of snapshots: all nodes decide alike. It is left out of the
//! digest, which nodes without it compare, too.

use std::io::{self, Read, Write};

use xxhash_rust::xxh3::xxh3_64;

/// How many groups there are: with a hundred removals while a key is watched, every fortieth watch fails
/// though nothing has changed.
const GROUPS: usize = 1 << 12;
/// How many bytes a group takes in a snapshot: its number, and a revision.
const GROUP_BYTES: usize = 2 + 8;

/// The last removals.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Removals {
    /// Nothing is known of removals up to this revision: any key may have been removed until then.
    unknown_through: u64,
    /// The revision of the last removal of a key of each group; empty as long as there was none.
    last: Vec<u64>,
}

impl Removals {
    /// Of a state whose removals up to this revision are not known.
    pub(super) fn unknown_through(revision: u64) -> Removals {
        Removals { unknown_through: revision, last: Vec::new() }
    }

    /// Remembers that a key that was there at this revision, or until then, is there no more.
    pub(super) fn note(&mut self, key: &[u8], revision: u64) {
        if self.last.is_empty() {
            self.last = vec![0; GROUPS];
        }
        let last = &mut self.last[group(key)];
        *last = revision.max(*last);
    }

    /// Whether a key that was missing at a revision, and is so now, may have been there between.
    pub(super) fn may_have_been_there(&self, key: &[u8], since: u64) -> bool {
        self.unknown_through > since || self.last.get(group(key)).is_some_and(|last| *last > since)
    }

    /// Writes what [`read`](Removals::read) reads: the revision up to which nothing is known, how many groups
    /// follow, and their numbers and revisions.
    pub(super) fn write(&self, target: &mut dyn Write) -> io::Result<()> {
        let known: Vec<_> = (0_u16..).zip(&self.last).filter(|(_, last)| **last > 0).collect();
        let mut bytes = Vec::with_capacity(16 + known.len() * GROUP_BYTES);
        bytes.extend(self.unknown_through.to_le_bytes());
        bytes.extend((known.len() as u64).to_le_bytes());
        for (group, last) in known {
            bytes.extend(group.to_le_bytes());
            bytes.extend(last.to_le_bytes());
        }
        target.write_all(&bytes)?;
        target.write_all(&xxh3_64(&bytes).to_le_bytes())
    }

    /// Reads what [`write`](Removals::write) has written; `None` if it is malformed.
    pub(super) fn read(source: &mut dyn Read) -> io::Result<Option<Removals>> {
        let mut bytes = vec![0; 16];
        source.read_exact(&mut bytes)?;
        let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("they are 8 bytes"));
        let (unknown_through, count) = (number(&bytes[..8]), number(&bytes[8..]));
        let Some(count) = usize::try_from(count).ok().filter(|count| *count <= GROUPS) else {
            return Ok(None);
        };
        bytes.resize(16 + count * GROUP_BYTES, 0);
        source.read_exact(&mut bytes[16..])?;
        let mut sum = [0; 8];
        source.read_exact(&mut sum)?;
        if u64::from_le_bytes(sum) != xxh3_64(&bytes) {
            return Ok(None);
        }
        let mut removals = Removals::unknown_through(unknown_through);
        for entry in bytes[16..].chunks_exact(GROUP_BYTES) {
            let group = usize::from(u16::from_le_bytes([entry[0], entry[1]]));
            if removals.last.is_empty() {
                removals.last = vec![0; GROUPS];
            }
            let Some(last) = removals.last.get_mut(group) else { return Ok(None) };
            *last = number(&entry[2..]);
        }
        Ok(Some(removals))
    }
}

/// The group of a key, the same on all nodes.
fn group(key: &[u8]) -> usize {
    usize::try_from(xxh3_64(key) % GROUPS as u64).expect("there are few groups")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removal_is_seen_by_who_watched_before_it_and_by_nobody_later() {
        let mut removals = Removals::default();
        removals.note(b"k", 7);
        assert!(removals.may_have_been_there(b"k", 6));
        assert!(!removals.may_have_been_there(b"k", 7));
        assert!(!removals.may_have_been_there(b"another", 0));
        let removals = Removals::unknown_through(7);
        assert!(removals.may_have_been_there(b"another", 6));
        assert!(!removals.may_have_been_there(b"another", 7));
    }

    #[test]
    fn removals_come_back_from_a_snapshot_and_damaged_ones_do_not() {
        let mut removals = Removals::unknown_through(3);
        for keys in [0, 1, 5_000_u64] {
            for key in 0..keys {
                removals.note(&key.to_le_bytes(), 10 + key);
            }
            let mut image = Vec::new();
            removals.write(&mut image).expect("memory takes everything");
            assert_eq!(Removals::read(&mut &image[..]).expect("it is whole"), Some(removals.clone()));
            for place in [0, 8, 17, image.len() - 1] {
                let mut damaged = image.clone();
                damaged[place] ^= 0x20;
                assert!(!matches!(Removals::read(&mut &damaged[..]), Ok(Some(_))), "byte {place}");
            }
        }
    }
}
