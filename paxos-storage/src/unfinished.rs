//! The bookkeeping of unfinished snapshots, which every backend needs.

use std::collections::BTreeMap;

use paxos_core::{Slot, SnapshotMeta};

use crate::Error;
#[cfg(doc)]
use crate::{ErrorKind, Storage};

/// How many snapshots may be unfinished at once. Beyond that, the one of the lowest slot is given up. A node
/// writes two at most: its own and one that a peer sends.
pub const MAX_UNFINISHED_SNAPSHOTS: usize = 4;

/// The snapshots that are being written: a backend's part of [`Storage::write_snapshot`] and
/// [`Storage::finish_snapshot`] is to store the bytes.
///
/// It checks that pieces come in order, and that a snapshot has the size and checksum that it should have;
/// snapshots of several slots may be under way. `P` is where the backend puts the bytes of one: a file, a
/// buffer, or `()` if the slot tells.
///
/// ```
/// use paxos_core::{Membership, NodeId, Slot, SnapshotMeta};
/// use paxos_storage::{ErrorKind, UnfinishedSnapshots};
///
/// let mut unfinished = UnfinishedSnapshots::default();
/// let slot = Slot(7);
/// assert!(unfinished.begin(slot, Vec::new()).is_none(), "nothing had to be given up");
/// for (offset, piece) in [(0, b"some "), (5, b"bytes")] {
///     unfinished.write(slot, offset, piece, |bytes| Ok(bytes.extend_from_slice(piece)))?;
/// }
/// let refused = unfinished.write(slot, 4, b"again", |_| Ok(())).expect_err("it is out of order");
/// assert_eq!(refused.kind(), ErrorKind::SnapshotMismatch);
///
/// let membership = Membership::new(&[NodeId(1)]).expect("one member fits");
/// let checksum = crc32c::crc32c(b"some bytes");
/// let meta = SnapshotMeta { slot, size_bytes: 10, checksum, membership };
/// assert_eq!(unfinished.finish(&meta)?.as_deref(), Some(&b"some bytes"[..]));
/// # Ok::<(), paxos_storage::Error>(())
/// ```
#[derive(Debug)]
pub struct UnfinishedSnapshots<P> {
    unfinished: BTreeMap<Slot, Unfinished<P>>,
}

#[derive(Debug)]
struct Unfinished<P> {
    place: P,
    size_bytes: u64,
    checksum: u32,
}

impl<P> Default for UnfinishedSnapshots<P> {
    fn default() -> UnfinishedSnapshots<P> {
        UnfinishedSnapshots { unfinished: BTreeMap::new() }
    }
}

impl<P> UnfinishedSnapshots<P> {
    /// Begins the snapshot of `slot`, whose bytes go to `place`, and forgets an unfinished one of the same
    /// slot. To be called for a piece at offset 0.
    ///
    /// Returns the slot and the place of a snapshot that is given up for it: see
    /// [`MAX_UNFINISHED_SNAPSHOTS`].
    #[must_use = "the bytes of the snapshot that is given up are to be removed"]
    pub fn begin(&mut self, slot: Slot, place: P) -> Option<(Slot, P)> {
        self.unfinished.remove(&slot);
        let is_full = self.unfinished.len() >= MAX_UNFINISHED_SNAPSHOTS;
        let given_up = if is_full { self.unfinished.pop_first() } else { None };
        self.unfinished.insert(slot, Unfinished { place, size_bytes: 0, checksum: 0 });
        given_up.map(|(slot, given_up)| (slot, given_up.place))
    }

    /// Lets `store` put a piece in its place if it continues the snapshot. If `store` fails, the snapshot is
    /// forgotten.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::SnapshotMismatch`] for a piece that does not begin where the one before has ended; the
    /// snapshot can still be continued there. The error of `store`.
    pub fn write(
        &mut self,
        slot: Slot,
        offset: u64,
        piece: &[u8],
        store: impl FnOnce(&mut P) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let begun = self.unfinished.get_mut(&slot).filter(|unfinished| unfinished.size_bytes == offset);
        let begun = begun.ok_or(Error::SnapshotMismatch { slot, problem: "a piece came out of order" })?;
        if let Err(error) = store(&mut begun.place) {
            self.unfinished.remove(&slot);
            return Err(error);
        }
        begun.size_bytes += piece.len() as u64;
        begun.checksum = crc32c::crc32c_append(begun.checksum, piece);
        Ok(())
    }

    /// Ends the snapshot of `meta`, and returns where its bytes are; `None` if it has no bytes, and none were
    /// written. Whatever this returns, the snapshot is not unfinished any more.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::SnapshotMismatch`] if the bytes are not those that `meta` describes.
    pub fn finish(&mut self, meta: &SnapshotMeta) -> Result<Option<P>, Error> {
        let mismatch = |problem| Err(Error::SnapshotMismatch { slot: meta.slot, problem });
        match self.unfinished.remove(&meta.slot) {
            None if meta.size_bytes == 0 && meta.checksum == 0 => Ok(None),
            None => mismatch("no piece of it was written"),
            Some(whole) if whole.size_bytes != meta.size_bytes => mismatch("its size differs"),
            Some(whole) if whole.checksum != meta.checksum => mismatch("its checksum differs"),
            Some(whole) => Ok(Some(whole.place)),
        }
    }

    /// Forgets the snapshot of `slot`, and returns where its bytes are, if it is unfinished.
    pub fn remove(&mut self, slot: Slot) -> Option<P> {
        self.unfinished.remove(&slot).map(|unfinished| unfinished.place)
    }

    /// The slots and places of all unfinished snapshots, in ascending order of slots.
    pub fn places_mut(&mut self) -> impl Iterator<Item = (Slot, &mut P)> {
        self.unfinished.iter_mut().map(|(slot, unfinished)| (*slot, &mut unfinished.place))
    }
}

#[cfg(test)]
mod tests {
    use paxos_core::{Membership, NodeId};

    use super::*;
    use crate::ErrorKind;

    fn meta(slot: u64, bytes: &[u8]) -> SnapshotMeta {
        let membership = Membership::new(&[NodeId(1)]).expect("one member fits");
        let (size_bytes, checksum) = (bytes.len() as u64, crc32c::crc32c(bytes));
        SnapshotMeta { slot: Slot(slot), size_bytes, checksum, membership }
    }

    fn problem<T: std::fmt::Debug>(result: Result<T, Error>) -> &'static str {
        match result.expect_err("it does not match") {
            Error::SnapshotMismatch { problem, .. } => problem,
            other => panic!("a mismatch was to be told: {other}"),
        }
    }

    #[test]
    fn each_mismatch_is_told_and_ends_the_snapshot() {
        let mut unfinished = UnfinishedSnapshots::default();
        for (bytes, told) in
            [(&b"shorter"[..], "its size differs"), (b"equally long", "its checksum differs")]
        {
            assert!(unfinished.begin(Slot(1), ()).is_none());
            unfinished.write(Slot(1), 0, bytes, |()| Ok(())).expect("it is in order");
            assert_eq!(problem(unfinished.finish(&meta(1, b"whatever! ok"))), told);
            assert_eq!(problem(unfinished.finish(&meta(1, b"whatever! ok"))), "no piece of it was written");
        }
        assert!(matches!(unfinished.finish(&meta(1, b"")), Ok(None)), "there is nothing to write");
    }

    #[test]
    fn a_piece_out_of_order_is_not_stored_and_the_right_one_still_is() {
        let mut unfinished = UnfinishedSnapshots::default();
        let mut write = |offset, piece: &[u8]| {
            unfinished.write(Slot(1), offset, piece, |bytes: &mut Vec<u8>| {
                bytes.extend_from_slice(piece);
                Ok(())
            })
        };
        assert_eq!(problem(write(0, b"ab")), "a piece came out of order", "it was not begun");
        assert!(unfinished.begin(Slot(1), Vec::new()).is_none());
        let mut write = |offset, piece: &[u8]| {
            unfinished.write(Slot(1), offset, piece, |bytes: &mut Vec<u8>| {
                bytes.extend_from_slice(piece);
                Ok(())
            })
        };
        write(0, b"ab").expect("it is in order");
        for offset in [0, 1, 3] {
            assert_eq!(problem(write(offset, b"??")), "a piece came out of order", "at {offset}");
        }
        write(2, b"cd").expect("it is in order");
        assert_eq!(unfinished.finish(&meta(1, b"abcd")).expect("it is whole").as_deref(), Some(&b"abcd"[..]));
    }

    #[test]
    fn what_can_not_be_stored_is_forgotten() {
        let mut unfinished = UnfinishedSnapshots::default();
        assert!(unfinished.begin(Slot(1), ()).is_none());
        let full = unfinished.write(Slot(1), 0, b"a", |()| Err(Error::foreign(ErrorKind::Full, "no space")));
        assert_eq!(full.expect_err("there is no space").kind(), ErrorKind::Full);
        assert_eq!(unfinished.remove(Slot(1)), None);
    }

    #[test]
    fn beyond_the_bound_the_snapshot_of_the_lowest_slot_is_given_up() {
        let mut unfinished = UnfinishedSnapshots::default();
        let bound = u64::try_from(MAX_UNFINISHED_SNAPSHOTS).expect("a small number");
        for slot in 1..=bound {
            assert_eq!(unfinished.begin(Slot(slot), slot), None);
        }
        assert_eq!(unfinished.begin(Slot(2), 22), None, "it takes the place of the one before");
        assert_eq!(unfinished.begin(Slot(99), 99), Some((Slot(1), 1)));
        assert_eq!(unfinished.places_mut().map(|(_, place)| *place).next(), Some(22));
    }
}
