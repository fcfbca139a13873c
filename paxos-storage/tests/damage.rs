//! Damage to the write-ahead log: torn tails are cut; other damage is reported, or recovery fails.
#![cfg(feature = "file")]

mod support;

use std::fs;
use std::path::Path;

use paxos_core::{Entry, HardState, Slot, Write, WriteNumber};
use paxos_storage::{DamageCause, Storage};
use support::{
    BLOCK, Files, Outcome, damage, log_of, long_log, overwrite, put, repairable, slots, snapshot, value,
};

type Tear = fn(&Path, usize);

#[test]
fn a_torn_last_frame_is_cut_and_the_log_goes_on() -> Outcome {
    let frame_at = 3 * BLOCK; // The third frame, behind the segment's header and two others.
    let tear: [(&str, Tear); 4] = [
        ("truncated", |path, at| {
            let content = fs::read(path).expect("the file is readable");
            fs::write(path, &content[..at + 200]).expect("the file is writable");
        }),
        ("zeroed", |path, at| overwrite(path, at, &[0; BLOCK])),
        ("garbled", |path, at| overwrite(path, at, &[0xa5; BLOCK])),
        ("header alone", |path, at| overwrite(path, at + 128, &[0; BLOCK - 128])),
    ];
    for (name, tear) in tear {
        let files = log_of(3);
        tear(&files.segments()[0], frame_at);
        let (mut storage, recovered) = files.recover()?;
        assert_eq!((slots(&recovered), recovered.hard_state.promised.round), (vec![1, 2], 2), "{name}");
        let _ = put(&mut storage, 9, 10)?;
        drop(storage);
        assert_eq!(slots(&files.recover()?.1), [1, 2, 9], "{name}");
    }
    Ok(())
}

#[test]
fn damage_before_the_last_frame_costs_its_slots_and_nothing_else() {
    for garbage in [[0; 128].as_slice(), &[0xff; 4], &[0xa5; BLOCK]] {
        let files = log_of(4);
        overwrite(&files.segments()[0], 2 * BLOCK, garbage);
        let (_, recovered) = files.recover().expect("the promise is intact");
        assert_eq!(slots(&recovered), [1, 3, 4]);
        let hard_state = recovered.hard_state;
        assert_eq!(
            (hard_state.promised.round, hard_state.chosen, recovered.incomplete_through),
            (4, Slot(1), Slot(2))
        );
        assert!(matches!(recovered.entries[1].1, Entry::Chosen { .. }), "the watermark said so of slot 3");
        assert!(matches!(recovered.entries[2].1, Entry::Accepted { .. }), "nobody has said so of slot 4");
        assert_eq!(repairable(&files), (vec![1, 3, 4], 1, 2), "the next start finds the same");
    }
}

#[test]
fn what_was_lost_is_no_longer_missed_once_it_is_written_again() -> Outcome {
    let files = log_of(4);
    overwrite(&files.segments()[0], 2 * BLOCK, &[0xa5; 100]);
    let (mut storage, recovered) = files.recover()?;
    let learned = vec![(Slot(2), Entry::Chosen { value: value(2, 100) })];
    let hard_state = HardState { chosen: Slot(3), ..recovered.hard_state };
    let _ = storage.persist(Write::new(WriteNumber(1), hard_state, learned))?;
    drop(storage);
    assert_eq!(repairable(&files), (vec![1, 2, 3, 4], 3, 0));
    Ok(())
}

#[test]
fn several_lost_frames_may_have_held_any_slot_that_was_not_chosen_before() {
    let files = log_of(7);
    overwrite(&files.segments()[0], 3 * BLOCK, &[0xa5; 3 * BLOCK]);
    assert_eq!(
        repairable(&files),
        (vec![1, 6, 7], 1, 5),
        "slot 2 may have been accepted anew in a lost frame"
    );
}

#[test]
fn damage_with_nothing_whole_behind_it_is_refused_with_place_and_slots() {
    // The header of the last frame proves the one before. Its own payload is torn, so the newest promise may
    // be lost.
    let files = log_of(3);
    overwrite(&files.segments()[0], 2 * BLOCK + 128, &[0xa5; 8]);
    overwrite(&files.segments()[0], 3 * BLOCK + 128, &[0xa5; 8]);
    let damage = damage(&files);
    assert_eq!((damage.cause, damage.offset), (DamageCause::Frame, 2 * BLOCK as u64));
    assert_eq!((damage.slots, damage.is_promise_intact), (Some((Slot(2), Slot(2))), false));
    assert_eq!(damage.file, files.segments()[0]);
}

#[test]
fn a_mark_proves_the_last_frame() -> Outcome {
    let files = log_of(2);
    let (mut storage, _) = files.recover()?;
    storage.prove_last_write()?;
    storage.prove_last_write()?;
    drop(storage);
    overwrite(&files.segments()[0], 4 * BLOCK, &[1]);
    assert_eq!(
        slots(&files.recover()?.1),
        [1, 2],
        "only one mark was written, and nothing behind it is missed"
    );
    overwrite(&files.segments()[0], 2 * BLOCK, &[1]);
    assert_eq!(repairable(&files), (vec![1], 1, 2));
    Ok(())
}

#[test]
fn a_missing_or_foreign_last_segment_is_refused() -> Outcome {
    let (files, other) = (Files::new(256 << 10), Files::new(256 << 10));
    drop(long_log(&files)?);
    drop(long_log(&other)?);
    let with_frames = files.segments_with_frames();
    let (last, segment) = (with_frames.len() - 1, &with_frames[with_frames.len() - 1]);
    fs::copy(&other.segments()[last], segment).expect("a segment can be replaced");
    assert_eq!(damage(&files).cause, DamageCause::ForeignSegment);
    fs::remove_file(segment).expect("a segment can be removed");
    let damage = damage(&files);
    assert_eq!((damage.cause, &damage.file), (DamageCause::MissingSegment, segment));
    assert!(!damage.is_promise_intact, "the newest promise was in it");
    Ok(())
}

#[test]
fn a_missing_foreign_or_headless_segment_in_the_middle_costs_its_slots() -> Outcome {
    let other = Files::new(256 << 10);
    drop(long_log(&other)?);
    for lost in [0, 1, 7] {
        let files = Files::new(256 << 10);
        drop(long_log(&files)?);
        let segment = files.segments()[lost].clone();
        overwrite(&segment, 0, &[1; 100]);
        assert_eq!(
            repairable(&files),
            ((1..=200).collect(), 199, 0),
            "the frames tell all that the header did"
        );
        fs::copy(&other.segments()[lost], &segment).expect("a segment can be replaced");
        let (there, chosen, through) = repairable(&files);
        assert!(
            there.len() < 200 && there.contains(&200),
            "the log goes on behind segment {lost}: {there:?}"
        );
        let first_missing = (1..=200).find(|slot| !there.contains(slot)).unwrap_or_default();
        let last_missing = (1..=200).rev().find(|slot| !there.contains(slot));
        assert_eq!((chosen, Some(through)), (first_missing - 1, last_missing), "segment {lost}");
        fs::remove_file(&segment).expect("a segment can be removed");
        assert_eq!(repairable(&files), (there, chosen, through), "segment {lost}");
    }
    Ok(())
}

#[test]
fn a_segment_with_lost_slots_is_freed_only_when_a_snapshot_covers_them() -> Outcome {
    let files = Files::new(256 << 10);
    drop(long_log(&files)?);
    let segments = files.segments();
    fs::remove_file(&segments[3]).expect("a segment can be removed");
    let before = repairable(&files);
    let (mut storage, _) = files.recover()?;
    let covered = Slot(before.2 - 1);
    storage.finish_snapshot(snapshot(covered, b""))?;
    storage.compact(covered)?;
    drop(storage);
    assert_eq!(repairable(&files).2, before.2, "the last lost slot is not in the snapshot");
    let (mut storage, _) = files.recover()?;
    let covered = Slot(before.2);
    storage.finish_snapshot(snapshot(covered, b""))?;
    storage.compact(covered)?;
    drop(storage);
    let (there, chosen, through) = repairable(&files);
    assert_eq!((there, chosen, through), ((before.2 + 1..=200).collect(), 199, 0));
    assert!(!segments[2].exists() && !segments[3].exists(), "what the snapshot covers is freed");
    Ok(())
}

#[test]
fn a_log_that_is_all_another_nodes_is_refused() {
    let (files, other) = (log_of(3), log_of(3));
    fs::copy(&other.segments()[0], &files.segments()[0]).expect("a segment can be replaced");
    assert_eq!(damage(&files).cause, DamageCause::ForeignSegment);
}

#[test]
fn a_bad_newest_snapshot_is_replaced_by_a_later_one_and_missed_until_then() -> Outcome {
    let files = log_of(6);
    let (mut storage, _) = files.recover()?;
    for (slot, state) in [(2, b"older"), (4, b"newer")] {
        let meta = snapshot(Slot(slot), state);
        storage.write_snapshot(meta.slot, 0, state)?;
        storage.finish_snapshot(meta)?;
    }
    storage.write_snapshot(Slot(5), 0, b"unfinished")?;
    drop(storage);
    drop(files.recover()?);
    let names = files.snapshots();
    assert_eq!(names.len(), 2, "what was not finished is gone: {names:?}");
    overwrite(&files.path(&names[1]), 0, b"N");
    let (mut storage, recovered) = files.recover()?;
    assert_eq!(recovered.snapshot.as_ref().map(|meta| meta.slot), Some(Slot(2)), "the one before is taken");
    assert_eq!((slots(&recovered), recovered.hard_state.chosen), (vec![3, 4, 5, 6], Slot(2)));
    assert_eq!(recovered.incomplete_through, Slot(0), "the log holds all that was accepted since");
    assert_eq!(storage.read_snapshot(Slot(4), 0, 10)?, None, "nobody is given what is bad");
    let entry = |index: usize| &recovered.entries[index].1;
    assert!(matches!(entry(1), Entry::Accepted { .. }), "the snapshot may have passed over slot 4");
    assert!(matches!(entry(2), Entry::Chosen { .. }), "the watermark said so of slot 5");
    let later = snapshot(Slot(4), b"newer");
    storage.write_snapshot(later.slot, 0, b"newer")?;
    storage.finish_snapshot(later)?;
    assert_eq!(storage.read_snapshot(Slot(4), 0, 10)?.as_deref(), Some(&b"newer"[..]));
    drop(storage);
    assert_eq!(repairable(&files), (vec![5, 6], 5, 0));
    Ok(())
}

#[test]
fn below_a_lost_snapshot_everything_that_the_log_has_not_is_missed() -> Outcome {
    let files = Files::new(256 << 10);
    let mut storage = long_log(&files)?;
    storage.finish_snapshot(snapshot(Slot(150), b""))?;
    storage.compact(Slot(150))?;
    drop(storage);
    fs::remove_file(files.path(&files.snapshots()[0])).expect("a snapshot can be removed");
    let (there, chosen, through) = repairable(&files);
    assert_eq!((chosen, through), (0, there[0] - 1), "the log begins at slot {}", there[0]);
    assert_eq!(repairable(&files).2, through, "the next start finds the same");
    let (mut storage, _) = files.recover()?;
    storage.finish_snapshot(snapshot(Slot(20), b""))?;
    drop(storage);
    assert_eq!(repairable(&files).1, 20, "an earlier snapshot is a beginning");
    assert_eq!(repairable(&files).2, through, "but what lies above it is still missing");
    let (mut storage, _) = files.recover()?;
    storage.finish_snapshot(snapshot(Slot(150), b""))?;
    drop(storage);
    assert_eq!(repairable(&files), ((151..=200).collect(), 199, 0));
    Ok(())
}
