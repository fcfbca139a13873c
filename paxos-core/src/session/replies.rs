//! The replies of one session that its client may still ask for.
//!
//! Commands of a session are chosen nearly always in the order in which they are numbered, and forgotten in
//! that order. So the replies are a queue: one more goes to its end, those that are forgotten go from its
//! front, and only a command that was sent again takes a search.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::id::Slot;

/// Where a command was applied, and the reply it got.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Kept {
    pub(super) slot: Slot,
    /// `None` for one that was too long to be kept.
    pub(super) reply: Option<Bytes>,
}

impl Kept {
    pub(super) fn size_bytes(&self) -> usize {
        self.reply.as_ref().map_or(0, Bytes::len)
    }
}

/// Replies, ascending by the sequences of their commands.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Replies(VecDeque<(u64, Kept)>);

impl Replies {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(u64, Kept)> {
        self.0.iter()
    }

    pub(super) fn size_bytes(&self) -> usize {
        self.0.iter().map(|(_, kept)| kept.size_bytes()).sum()
    }

    pub(super) fn find(&self, sequence: u64) -> Option<&Kept> {
        self.position(sequence).ok().map(|position| &self.0[position].1)
    }

    /// Keeps the reply to the command of this number; returns what was kept for it before.
    pub(super) fn insert(&mut self, sequence: u64, kept: Kept) -> Option<Kept> {
        match self.position(sequence) {
            Ok(position) => Some(std::mem::replace(&mut self.0[position].1, kept)),
            Err(position) => {
                self.0.insert(position, (sequence, kept));
                None
            }
        }
    }

    /// Forgets what lies below `sequence`; returns how many bytes that frees.
    pub(super) fn forget_below(&mut self, sequence: u64) -> usize {
        let count = self.position(sequence).unwrap_or_else(|position| position);
        self.0.drain(..count).map(|(_, kept)| kept.size_bytes()).sum()
    }

    /// Where the reply of this number is, or else would be.
    fn position(&self, sequence: u64) -> Result<usize, usize> {
        match self.0.back() {
            Some((last, _)) if *last >= sequence => {
                self.0.binary_search_by_key(&sequence, |(sequence, _)| *sequence)
            }
            _ => Err(self.0.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn kept(slot: u8) -> Kept {
        let reply = (!slot.is_multiple_of(3)).then(|| Bytes::from(vec![b'x'; usize::from(slot)]));
        Kept { slot: Slot(slot.into()), reply }
    }

    proptest! {
        #[test]
        fn replies_come_and_go_as_in_an_ordered_map(changes: Vec<(bool, u8)>) {
            let (mut replies, mut model) = (Replies::default(), BTreeMap::new());
            for (slot, (is_forgetting, sequence)) in (1..).zip(changes) {
                let sequence = u64::from(sequence);
                if is_forgetting {
                    let left = model.split_off(&sequence);
                    let freed: usize = std::mem::replace(&mut model, left).values().map(Kept::size_bytes).sum();
                    prop_assert_eq!(replies.forget_below(sequence), freed);
                } else {
                    prop_assert_eq!(replies.insert(sequence, kept(slot)), model.insert(sequence, kept(slot)));
                }
                prop_assert_eq!(replies.len(), model.len());
                prop_assert_eq!(replies.size_bytes(), model.values().map(Kept::size_bytes).sum::<usize>());
                prop_assert!(replies.iter().map(|(sequence, kept)| (sequence, kept)).eq(&model));
                for sequence in 0..=u64::from(u8::MAX) {
                    prop_assert_eq!(replies.find(sequence), model.get(&sequence));
                }
            }
        }
    }
}
