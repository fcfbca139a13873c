//! Snapshots, and how they let a storage forget entries.

use paxos_core::{Slot, SnapshotMeta};

use super::Backend;
use super::checked::{Checked, accepted, bytes, meta};

pub(super) fn snapshots_come_back_and_two_are_kept(backend: &mut dyn Backend) {
    let mut checked = Checked::new(backend, "snapshots come back and two are kept");
    let bytes = bytes(5000);
    checked.persist((1..=9).map(|slot| accepted(slot, 1, 10)).collect());
    for slot in [3, 5, 7] {
        checked.save_snapshot(slot, &bytes[usize::try_from(slot).unwrap_or(0)..]);
    }
    checked.crash_and_compare();
    assert_eq!(checked.read_snapshot(7, 999).as_deref(), Some(&bytes[7..]), "the newest snapshot comes back");
    assert_eq!(checked.read_snapshot(5, 1 << 20).as_deref(), Some(&bytes[5..]), "so does the one before");
    assert_eq!(checked.read_snapshot(3, 1000), None, "an older one is gone");
    checked.save_snapshot(6, b"older than the newest");
    checked.crash_and_compare();
    for (offset, max_bytes) in [(4993, 10), (5000, 10), (1 << 40, 10), (u64::MAX, usize::MAX)] {
        let read = checked.storage().read_snapshot(Slot(7), offset, max_bytes);
        let read = read.unwrap_or_else(|error| panic!("{}: read_snapshot: {error}", checked.promise));
        assert_eq!(read.as_deref(), Some(&[][..]), "{}: read from {offset} on", checked.promise);
    }
}

pub(super) fn a_finished_snapshot_stays_as_it_is(backend: &mut dyn Backend) {
    let mut checked = Checked::new(backend, "a finished snapshot stays as it is");
    checked.persist((1..=9).map(|slot| accepted(slot, 1, 10)).collect());
    let bytes = bytes(3000);
    checked.save_snapshot(7, &bytes);
    // A peer begins to send the same one, and never ends, or ends with something else.
    checked.piece(7, 0, b"unfinished");
    assert_eq!(
        checked.read_snapshot(7, 999).as_ref(),
        Some(&bytes),
        "{}: beside a new beginning",
        checked.promise
    );
    checked.crash_and_compare();
    assert_eq!(checked.read_snapshot(7, 999).as_ref(), Some(&bytes), "{}: after a crash", checked.promise);
    checked.piece(7, 0, b"another");
    let refused = checked.storage().finish_snapshot(meta(7, b"announced"));
    checked.expect_mismatch(refused, "other bytes than announced");
    checked.save_snapshot(7, b"another state");
    checked.snapshot = Some(meta(7, &bytes));
    checked.crash_and_compare();
    assert_eq!(checked.read_snapshot(7, 999).as_ref(), Some(&bytes), "{}: at the end", checked.promise);
}

pub(super) fn a_snapshot_may_have_no_bytes(backend: &mut dyn Backend) {
    let mut checked = Checked::new(backend, "a snapshot may have no bytes");
    checked.persist((1..=9).map(|slot| accepted(slot, 1, 10)).collect());
    checked.finish(meta(3, b""));
    checked.crash_and_compare();
    assert_eq!(checked.read_snapshot(3, 10).as_deref(), Some(&[][..]), "{}", checked.promise);
    checked.piece(5, 0, b"");
    checked.finish(meta(5, b""));
    checked.crash_and_compare();
    assert_eq!(checked.read_snapshot(5, 10).as_deref(), Some(&[][..]), "{}", checked.promise);
}

pub(super) fn a_snapshot_that_does_not_match_is_refused(backend: &mut dyn Backend) {
    let mut checked = Checked::new(backend, "a snapshot that does not match is refused");
    checked.persist(vec![accepted(1, 1, 10), accepted(2, 1, 10)]);
    let right = meta(2, b"right");
    for (bytes, offset) in [(&b"wrong"[..], 0), (b"righ", 0), (b"rightly", 0)] {
        checked.piece(2, offset, bytes);
        let refused = checked.storage().finish_snapshot(right.clone());
        checked.expect_mismatch(refused, "other bytes than announced");
        let refused = checked.storage().finish_snapshot(right.clone());
        checked.expect_mismatch(refused, "it was dropped");
    }
    checked.piece(2, 0, b"right");
    let refused =
        checked.storage().finish_snapshot(SnapshotMeta { checksum: !right.checksum, ..right.clone() });
    checked.expect_mismatch(refused, "another checksum than announced");
    checked.crash_and_compare();
    checked.save_snapshot(2, b"right");
    checked.crash_and_compare();
    assert_eq!(checked.read_snapshot(2, 2).as_deref(), Some(&b"right"[..]));
}

pub(super) fn pieces_out_of_order_are_refused(backend: &mut dyn Backend) {
    let mut checked = Checked::new(backend, "pieces of a snapshot out of order are refused");
    checked.persist((1..=50).map(|slot| accepted(slot, 1, 10)).collect());
    let bytes = bytes(3000);
    let wrong = [
        (1000, 1500, "a piece that was written already"),
        (1500, 2000, "the last piece a second time"),
        (1999, 2500, "a piece that overlaps with the end"),
        (500, 2500, "a piece that overlaps with all before and goes beyond"),
        (2001, 3000, "a piece that leaves a gap of one byte"),
        (2900, 3000, "a piece far beyond the end"),
    ];
    let refused = checked.try_piece(1, 1, &bytes[1..]);
    checked.expect_mismatch(refused, "a piece before the first one");
    for (slot, (from, to, what)) in (2..).zip(wrong) {
        for (from, to) in [(0, 1000), (1000, 1500), (1500, 2000)] {
            checked.piece(slot, from, &bytes[from..to]);
        }
        let refused = checked.try_piece(slot, from, &bytes[from..to]);
        checked.expect_mismatch(refused, what);
        // Begun anew, it is whole all the same.
        checked.piece(slot, 0, &bytes[..700]);
        checked.piece(slot, 700, &bytes[700..]);
        checked.finish(meta(slot, &bytes));
        assert_eq!(checked.read_snapshot(slot, 999).as_ref(), Some(&bytes), "{}: {what}", checked.promise);
    }
    checked.crash_and_compare();
    assert_eq!(checked.read_snapshot(7, 1 << 20), Some(bytes), "{}", checked.promise);
}

pub(super) fn two_snapshots_may_be_unfinished_at_once(backend: &mut dyn Backend) {
    let mut checked = Checked::new(backend, "two snapshots may be unfinished at once");
    checked.persist((1..=50).map(|slot| accepted(slot, 1, 10)).collect());
    let (low, high) = (bytes(2500), bytes(4000).split_off(1));
    let both = |checked: &mut Checked<'_>, slot: u64| {
        for offset in (0..4000).step_by(500) {
            for (slot, bytes) in [(slot, &low), (slot + 1, &high)] {
                if let Some(piece) = bytes.get(offset..).filter(|rest| !rest.is_empty()) {
                    checked.piece(slot, offset, &piece[..piece.len().min(500)]);
                }
            }
        }
    };
    both(&mut checked, 10);
    checked.finish(meta(10, &low));
    assert_eq!(checked.read_snapshot(10, 999).as_ref(), Some(&low), "{}", checked.promise);
    checked.finish(meta(11, &high));
    checked.crash_and_compare();
    assert_eq!(checked.read_snapshot(10, 999).as_ref(), Some(&low), "{}", checked.promise);
    assert_eq!(checked.read_snapshot(11, 999).as_ref(), Some(&high), "{}", checked.promise);
    // The lower one comes too late, and is dropped.
    both(&mut checked, 20);
    checked.finish(meta(21, &high));
    checked.finish(meta(20, &low));
    checked.crash_and_compare();
    assert_eq!(checked.read_snapshot(21, 999).as_ref(), Some(&high), "{}", checked.promise);
    // A mismatch or a new beginning of one does not touch the other.
    both(&mut checked, 30);
    let refused = checked.storage().finish_snapshot(meta(30, b"another"));
    checked.expect_mismatch(refused, "other bytes than announced");
    checked.piece(30, 0, &low);
    checked.finish(meta(31, &high));
    assert_eq!(checked.read_snapshot(31, 999).as_ref(), Some(&high), "{}", checked.promise);
    checked.crash_and_compare();
}

pub(super) fn compaction_keeps_what_is_beyond(backend: &mut dyn Backend) {
    let mut checked = Checked::new(backend, "compaction keeps what is beyond");
    for slot in 1..=200 {
        checked.hard_state.chosen = Slot(slot - 1);
        checked.persist(vec![accepted(slot, 1, 12_000)]);
        if slot % 50 == 0 {
            checked.save_snapshot(slot - 10, b"state");
            checked.compact(slot - 10);
        }
    }
    checked.crash_and_compare();
    checked.compact(1000);
    checked.persist(vec![accepted(201, 1, 10)]);
    checked.crash_and_compare();
}

pub(super) fn compaction_ends_at_the_newest_snapshot(backend: &mut dyn Backend) {
    let mut checked = Checked::new(backend, "compaction ends at the newest snapshot");
    checked.persist((1..=60).map(|slot| accepted(slot, 1, 5000)).collect());
    for through in [0, 1, 30, 1000, u64::MAX] {
        checked.compact(through);
        checked.crash_and_compare();
    }
    checked.save_snapshot(20, b"state");
    for through in [10, 5, 20, 21, 40, 20, u64::MAX] {
        checked.compact(through);
        checked.crash_and_compare();
    }
    // What was forgotten may be written again, and goes on from there.
    checked.persist((15..=25).map(|slot| accepted(slot, 2, 100)).collect());
    checked.crash_and_compare();
    checked.save_snapshot(60, b"state of all");
    checked.compact(60);
    checked.crash_and_compare();
}

pub(super) fn a_snapshot_from_a_peer_may_leave_a_gap(backend: &mut dyn Backend) {
    let mut checked = Checked::new(backend, "a snapshot from a peer may leave a gap");
    checked.persist((1..=5).map(|slot| accepted(slot, 1, 10)).collect());
    checked.save_snapshot(1000, b"far ahead");
    checked.compact(1000);
    checked.crash_and_compare();
    checked.hard_state.chosen = Slot(1000);
    checked.persist(vec![accepted(1001, 2, 10)]);
    checked.crash_and_compare();
}
