//! A disk that gets full, and has room again.

use super::Backend;
use super::checked::{Checked, accepted, bytes, meta};
use crate::{Error, ErrorKind};

/// How much is tried to be written to a full disk, in pieces.
const PIECES: u64 = 256;
const PIECE_BYTES: usize = 256 << 10;

/// Returns whether it could be tried.
pub(super) fn a_full_disk_is_no_failure(backend: &mut dyn Backend) -> bool {
    let mut checked = Checked::new(backend, "a full disk is no failure");
    checked.persist((1..=9).map(|slot| accepted(slot, 1, 1000)).collect());
    checked.save_snapshot(3, b"a state");
    if !checked.backend.set_full(true) {
        return false;
    }
    let write =
        |checked: &mut Checked<'_>, piece| checked.try_persist(vec![accepted(10 + piece, 1, PIECE_BYTES)]);
    fill(&mut checked, "persist", write);
    // A write of several entries is refused as a whole.
    let long = |checked: &mut Checked<'_>, round: u64| {
        checked.try_persist((10..20).map(|slot| accepted(slot, 2 + round, PIECE_BYTES)).collect())
    };
    fill(&mut checked, "persist", long);
    let piece = bytes(1 << 18);
    fill(&mut checked, "write_snapshot", |checked, number| {
        let offset = usize::try_from(number).unwrap_or(0) * piece.len();
        checked.try_piece(5, offset, &piece)
    });
    let refused = checked.storage().finish_snapshot(meta(5, &piece));
    checked.expect_mismatch(refused, "an unfinished snapshot for which there was no space was dropped");
    assert_eq!(checked.read_snapshot(3, 100).as_deref(), Some(&b"a state"[..]), "{}", checked.promise);
    let (promise, newest) = (checked.promise, checked.snapshot.clone());
    assert_eq!(checked.storage().newest_snapshot(), newest, "{promise}: newest snapshot");

    assert!(checked.backend.set_full(false), "{promise}: a backend that fills a disk also frees it");
    // Nothing that was refused is there, and the storage takes everything again without being reopened.
    checked.persist(vec![accepted(500, 9, 1000)]);
    checked.save_snapshot(5, &piece);
    checked.crash_and_compare();
    assert!(checked.read_snapshot(5, 1 << 20) == Some(piece), "{promise}: the state comes back");
    true
}

/// Writes until there is no space.
fn fill(
    checked: &mut Checked<'_>,
    call: &str,
    mut write: impl FnMut(&mut Checked<'_>, u64) -> Result<(), Error>,
) {
    let refused = (0..PIECES).find_map(|piece| write(checked, piece).err());
    let promise = checked.promise;
    let refused = refused.unwrap_or_else(|| panic!("{promise}: {call} went on without space"));
    assert_eq!(refused.kind(), ErrorKind::Full, "{promise}: {call}: {refused}");
}
